package fleettest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Bundle makes a self-signed bundle for the names.
func Bundle(t testing.TB, notBefore, notAfter time.Time, names ...string) *certs.Bundle {
	t.Helper()
	key, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	return BundleWith(t, key, notBefore, notAfter, names...)
}

// BundleWith makes one with this key.
func BundleWith(t testing.TB, key crypto.Signer, notBefore, notAfter time.Time, names ...string) *certs.Bundle {
	t.Helper()
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, DNSNames: names, NotBefore: notBefore, NotAfter: notAfter,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	text, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := certs.NewBundle(certs.EncodeCert(leaf), text)
	if err != nil {
		t.Fatal(err)
	}
	b.Issuer, b.Directory = "test", "https://ca.example/directory"
	return b
}
