package installertest

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Bundle makes a certificate for names, valid for 90 days, from a fresh CA with one intermediate: an ECDSA key, the
// intermediate as its chain. Names may be IP addresses.
func Bundle(t testing.TB, names ...string) *certs.Bundle {
	t.Helper()
	return newAuthority(t).issue(t, certs.EC256, names)
}

// Dual makes a dual unit: an ECDSA certificate with an RSA twin.
func Dual(t testing.TB, names ...string) *certs.Bundle {
	t.Helper()
	ca := newAuthority(t)
	b := ca.issue(t, certs.EC256, names)
	b.RSA = ca.issue(t, certs.RSA2048, names)
	return b
}

// Aged makes a certificate as Bundle does, which was issued some time before and ends as much earlier.
func Aged(t testing.TB, age time.Duration, names ...string) *certs.Bundle {
	t.Helper()
	ca := newAuthority(t)
	ca.age = age
	return ca.issue(t, certs.EC256, names)
}

// SelfSigned makes a certificate that no CA issued.
func SelfSigned(t testing.TB, names ...string) *certs.Bundle {
	t.Helper()
	leaf := template(names[0])
	leaf.IsCA, leaf.KeyUsage, leaf.DNSNames = false, x509.KeyUsageDigitalSignature, names
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	signed := sign(t, leaf, nil, newKey(t, certs.EC256))
	key, err := certs.EncodeKey(signed.key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := certs.NewBundle(certs.EncodeCert(signed.cert), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// authority is an intermediate CA with its key.
type authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	age  time.Duration // of what it issues
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	root := sign(t, template("acmed test root"), nil, newKey(t, certs.EC256))
	return sign(t, template("acmed test intermediate"), root, newKey(t, certs.EC256))
}

func (ca *authority) issue(t testing.TB, k certs.KeyType, names []string) *certs.Bundle {
	t.Helper()
	leaf := template(names[0])
	leaf.NotBefore, leaf.NotAfter = leaf.NotBefore.Add(-ca.age), leaf.NotAfter.Add(-ca.age)
	leaf.IsCA, leaf.KeyUsage = false, x509.KeyUsageDigitalSignature
	leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, name)
		}
	}
	signed := sign(t, leaf, ca, newKey(t, k))
	key, err := certs.EncodeKey(signed.key)
	if err != nil {
		t.Fatal(err)
	}
	b, err := certs.NewBundle(append(certs.EncodeCert(signed.cert), certs.EncodeCert(ca.cert)...), key)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB, k certs.KeyType) crypto.Signer {
	t.Helper()
	key, err := certs.NewKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func template(name string) *x509.Certificate {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		panic(err)
	}
	return &x509.Certificate{
		SerialNumber:          serial.Add(serial, big.NewInt(1)),
		Subject:               pkix.Name{CommonName: name},
		NotBefore:             time.Now().Add(-time.Hour),
		NotAfter:              time.Now().AddDate(0, 0, 90),
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
}

// sign lets parent sign the template; without a parent it signs itself.
func sign(t testing.TB, tmpl *x509.Certificate, parent *authority, key crypto.Signer) *authority {
	t.Helper()
	if parent == nil {
		parent = &authority{cert: tmpl, key: key}
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent.cert, key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert: cert, key: key}
}
