package plan

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// bundleOf makes a self-signed bundle with the given validity.
func bundleOf(t testing.TB, from time.Time, life time.Duration, names ...string) *certs.Bundle {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, DNSNames: names,
		NotBefore: from, NotAfter: from.Add(life - time.Second), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pem, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := certs.NewBundle(certs.EncodeCert(leaf), pem)
	if err != nil {
		t.Fatal(err)
	}
	b.Issuer = "ca"
	return b
}

func identifiers(t testing.TB, names ...string) []certs.Identifier {
	t.Helper()
	var ids []certs.Identifier
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}
