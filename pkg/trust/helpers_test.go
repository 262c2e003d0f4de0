package trust

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

const day = 24 * time.Hour

// epoch is when the certificates of these tests begin.
// Programs without a setting for the time judge them as of now.
var epoch = time.Now().UTC().Truncate(day).Add(-30 * day)

// authority is a name with a key, under which certificates are made.
type authority struct {
	name pkix.Name
	key  *ecdsa.PrivateKey
	id   []byte // subject key identifier; nil leaves it out
}

func newAuthority(t testing.TB, name string) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{name: pkix.Name{CommonName: name}, key: key, id: []byte(name)}
}

// sign makes a certificate for a's name and key, signed by parent. A change may spoil it.
func (a *authority) sign(t testing.TB, parent *authority, life time.Duration, change func(*x509.Certificate)) *x509.Certificate {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: a.name, SubjectKeyId: a.id, NotBefore: epoch, NotAfter: epoch.Add(life),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	if change != nil {
		change(template)
	}
	issuer := &x509.Certificate{Subject: parent.name, SubjectKeyId: parent.id}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer, a.key.Public(), parent.key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// asLeaf makes a server certificate for names.
func asLeaf(names ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		c.IsCA, c.KeyUsage, c.DNSNames = false, x509.KeyUsageDigitalSignature, names
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	}
}

func identifier(t testing.TB, name string) certs.Identifier {
	t.Helper()
	id, _, err := certs.ParseIdentifier(name)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func encode(list ...*x509.Certificate) []byte {
	var text []byte
	for _, c := range list {
		text = append(text, certs.EncodeCert(c)...)
	}
	return text
}
