package acmetest

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net/http"
	"slices"
	"time"
)

// Forger signs certificates in place of the honest CA: what a client downloads has been changed. Its chain is
// complete (one root, one intermediate), so that nothing but the wanted fault is wrong.
type Forger struct {
	root, intermediate *authority
}

// NewForger makes the keys of a forger.
func NewForger() (*Forger, error) {
	root, err := newAuthority("Forged root")
	if err != nil {
		return nil, err
	}
	intermediate, err := root.intermediate("Forged intermediate")
	if err != nil {
		return nil, err
	}
	return &Forger{root: root, intermediate: intermediate}, nil
}

func (a *authority) intermediate(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := *a.cert
	template.Subject, template.SerialNumber = pkix.Name{CommonName: name}, serial()
	template.SubjectKeyId, template.AuthorityKeyId = nil, nil
	cert, err := sign(&template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

// Roots verifies what the forger signs.
func (f *Forger) Roots() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(f.root.cert)
	return pool
}

// Forgery is a certificate about to be signed by a Forger.
type Forgery struct {
	// Leaf starts as a copy of the genuine certificate: same names, key usage and validity.
	Leaf *x509.Certificate
	// PublicKey starts as the genuine one.
	PublicKey any
	// Chain is what follows the leaf; it starts as the intermediate alone.
	Chain []*x509.Certificate
	// Root is the root of the forger.
	Root *x509.Certificate
}

// Forge lets the CA issue and gives the client a certificate changed by these; without any it is sound. Use it at
// Certificate.
func (f *Forger) Forge(changes ...func(*Forgery)) Fault {
	return Change(func(r *Response) {
		block, _ := pem.Decode(r.Body)
		if r.Status != http.StatusOK || block == nil {
			return
		}
		genuine, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return
		}
		forgery := &Forgery{
			PublicKey: genuine.PublicKey, Chain: []*x509.Certificate{f.intermediate.cert}, Root: f.root.cert,
			Leaf: &x509.Certificate{
				Subject: genuine.Subject, SerialNumber: serial(), DNSNames: genuine.DNSNames, IPAddresses: genuine.IPAddresses,
				NotBefore: genuine.NotBefore, NotAfter: genuine.NotAfter, KeyUsage: genuine.KeyUsage,
				ExtKeyUsage: genuine.ExtKeyUsage, BasicConstraintsValid: true,
			},
		}
		for _, change := range changes {
			change(forgery)
		}
		leaf, err := sign(forgery.Leaf, f.intermediate.cert, forgery.PublicKey, f.intermediate.key)
		if err != nil {
			*r = Response{Status: http.StatusInternalServerError, Header: http.Header{}, Body: []byte(err.Error())}
			return
		}
		r.Body = encode(append([]*x509.Certificate{leaf}, forgery.Chain...)...)
	})
}

// WrongKey certifies a key that nobody asked for.
func WrongKey(f *Forgery) {
	if key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err == nil {
		f.PublicKey = key.Public()
	}
}

// WeakKey certifies an RSA key of 1024 bits.
func WeakKey(f *Forgery) {
	if key, err := rsa.GenerateKey(rand.Reader, 1024); err == nil {
		f.PublicKey = key.Public()
	}
}

// Names replaces the DNS names and removes the addresses.
func Names(names ...string) func(*Forgery) {
	return func(f *Forgery) { f.Leaf.DNSNames, f.Leaf.IPAddresses = names, nil }
}

// OnlyCommonName moves the first name from the alternative names to the subject.
func OnlyCommonName(f *Forgery) {
	f.Leaf.Subject.CommonName = f.Leaf.DNSNames[0]
	f.Leaf.DNSNames, f.Leaf.IPAddresses = nil, nil
}

// Validity sets the lifetime, relative to now.
func Validity(from, until time.Duration) func(*Forgery) {
	return func(f *Forgery) {
		now := time.Now()
		f.Leaf.NotBefore, f.Leaf.NotAfter = now.Add(from), now.Add(until)
	}
}

// Authority makes the leaf a CA certificate.
func Authority(f *Forgery) {
	f.Leaf.IsCA = true
	f.Leaf.KeyUsage |= x509.KeyUsageCertSign
}

// SHA1 signs the leaf with ECDSA and SHA-1.
func SHA1(f *Forgery) { f.Leaf.SignatureAlgorithm = x509.ECDSAWithSHA1 }

// ClientOnly is a leaf that no server may use.
func ClientOnly(f *Forgery) { f.Leaf.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }

// CriticalExtension adds a critical extension that nobody knows.
func CriticalExtension(f *Forgery) {
	f.Leaf.ExtraExtensions = append(f.Leaf.ExtraExtensions, pkix.Extension{
		Id: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 55555, 1}, Critical: true, Value: []byte{5, 0},
	})
}

// LeafOnly sends no intermediate.
func LeafOnly(f *Forgery) { f.Chain = nil }

// WithRoot sends the root too.
func WithRoot(f *Forgery) { f.Chain = append(f.Chain, f.Root) }

// RootFirst sends the chain in the wrong order, root before intermediate.
func RootFirst(f *Forgery) { f.Chain = slices.Insert(f.Chain, 0, f.Root) }

// LongChain repeats the intermediate until the chain has n certificates after the leaf.
func LongChain(n int) func(*Forgery) {
	return func(f *Forgery) { f.Chain = slices.Repeat(f.Chain[:1], n) }
}

// ForeignIntermediate sends an intermediate that has nothing to do with the leaf.
func ForeignIntermediate(f *Forgery) {
	if stranger, err := newAuthority("Somebody else"); err == nil {
		f.Chain = []*x509.Certificate{stranger.cert}
	}
}

// AppendBody adds text after the genuine answer, such as garbage or PrivateKeyBlock.
func AppendBody(text string) Fault {
	return Change(func(r *Response) { r.Body = append(bytes.Clone(r.Body), text...) })
}

// PrivateKeyBlock is a PEM block that has no place in a chain. It holds no key.
func PrivateKeyBlock() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: []byte("not a key")}))
}

// HugeKey is a certificate with an RSA key of so many bits, as PEM.
func HugeKey(bits int) []byte {
	parent, err := newAuthority("Huge")
	if err != nil {
		return nil
	}
	n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
	template := &x509.Certificate{
		SerialNumber: serial(), Subject: pkix.Name{CommonName: "Huge"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent.cert, &rsa.PublicKey{N: n, E: 65537}, parent.key)
	if err != nil {
		return nil
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}
