package certs

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/internal/text"
)

// Bundle is one issued certificate with everything a server needs to serve it. It is always a matching pair: [NewBundle]
// refuses a key that does not belong to the leaf. A Bundle is never changed after it was made.
type Bundle struct {
	Leaf        *x509.Certificate
	CertPEM     []byte       // the leaf alone
	ChainPEM    []byte       // the issuers, leaf first issuer first; may be empty for a private CA
	KeyPEM      Secret       // PKCS#8; empty when the operator supplied the CSR and keeps the key
	Alternates  [][]byte     // further chains that the CA offers for the same leaf, each without the leaf
	Missing     *Missing     // further chains that were not available; nil: none is known
	Issuer      string       // configured name of the issuer
	Directory   string       // URL of the ACME directory
	Profile     string       // profile that was asked for
	Validations []Validation // how each identifier was proved
	RSA         *Bundle      // the RSA twin of a dual unit, nil otherwise
}

// The bounds on what a CA may send as one chain.
const (
	MaxChain      = 10      // certificates, the leaf included
	maxChainBytes = 256_000 // PEM text
)

// NewBundle parses a PEM chain (leaf first) and a PEM private key (PKCS#8, PKCS#1 or SEC1) and checks that they belong
// together. An empty key is allowed for certificates from an operator's own CSR.
func NewBundle(fullChainPEM, keyPEM []byte) (*Bundle, error) {
	chain, err := ParseChain(fullChainPEM)
	if err != nil {
		return nil, err
	}
	b := &Bundle{Leaf: chain[0], CertPEM: EncodeCert(chain[0]), KeyPEM: keyPEM}
	for _, c := range chain[1:] {
		b.ChainPEM = append(b.ChainPEM, EncodeCert(c)...)
	}
	if len(keyPEM) == 0 {
		return b, nil
	}
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, err
	}
	if !SameKey(key.Public(), b.Leaf.PublicKey) {
		return nil, errors.New("the private key does not belong to the certificate")
	}
	return b, nil
}

// FullChainPEM returns the leaf followed by its issuers.
func (b *Bundle) FullChainPEM() []byte {
	return append(bytes.Clone(b.CertPEM), b.ChainPEM...)
}

// Fingerprint is the SHA-256 of the leaf's DER form in lower-case hexadecimal. The twin of a dual unit is part of it,
// so that a change of either is a change.
func (b *Bundle) Fingerprint() string {
	f := Fingerprint(b.Leaf)
	if b.RSA != nil {
		f += "+" + Fingerprint(b.RSA.Leaf)
	}
	return f
}

// Serial is the leaf's serial number in lower-case hexadecimal.
func (b *Bundle) Serial() string { return b.Leaf.SerialNumber.Text(16) }

// Leaves lists the leaf and, for a dual unit, its twin.
func (b *Bundle) Leaves() []*x509.Certificate {
	if b.RSA == nil {
		return []*x509.Certificate{b.Leaf}
	}
	return []*x509.Certificate{b.Leaf, b.RSA.Leaf}
}

// SharesKey reports whether a leaf of this bundle and one of the other have the same key. One is enough: whoever knows the
// RSA key of a dual unit can be its server.
func (b *Bundle) SharesKey(other *Bundle) bool {
	return slices.ContainsFunc(b.Leaves(), func(one *x509.Certificate) bool {
		return slices.ContainsFunc(other.Leaves(), func(two *x509.Certificate) bool { return SameKey(one.PublicKey, two.PublicKey) })
	})
}

// WithChain returns a copy that presents another of the offered chains: 0 is the present one, 1 the first alternate.
// The chain it replaces takes the alternate's place, so nothing is lost.
func (b *Bundle) WithChain(i int) *Bundle {
	if i <= 0 || i > len(b.Alternates) {
		return b
	}
	c := *b
	c.Alternates = append([][]byte(nil), b.Alternates...)
	c.ChainPEM, c.Alternates[i-1] = b.Alternates[i-1], b.ChainPEM
	return &c
}

// Missing says which alternate chains of a certificate the CA offered and did not deliver.
type Missing struct {
	Address string   `json:"address"` // where the CA has the certificate, with links to all its chains
	Chains  []string `json:"chains"`  // for each that is missing its address, and why
}

// SameChain reports whether two bundles lead to their leaves through the same certificates.
func (b *Bundle) SameChain(other *Bundle) bool {
	if (b.RSA == nil) != (other.RSA == nil) {
		return false
	}
	return bytes.Equal(b.ChainPEM, other.ChainPEM) && bytes.Equal(b.Leaf.RawIssuer, other.Leaf.RawIssuer) &&
		bytes.Equal(b.Leaf.AuthorityKeyId, other.Leaf.AuthorityKeyId) && (b.RSA == nil || b.RSA.SameChain(other.RSA))
}

// Presents reports whether two bundles present the same certificates.
func (b *Bundle) Presents(other *Bundle) bool {
	return b.Fingerprint() == other.Fingerprint() && b.SameChain(other)
}

// Fingerprint is the SHA-256 of a certificate's DER form in lower-case hexadecimal.
func Fingerprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return hex.EncodeToString(sum[:])
}

// EncodeCert returns the certificate as one PEM block.
func EncodeCert(c *x509.Certificate) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})
}

// ParseChain reads 1 to [MaxChain] CERTIFICATE blocks. Text around them is passed over, as CAs and OpenSSL write it there; a
// block of another kind, above all a key, is an error.
func ParseChain(pemText []byte) ([]*x509.Certificate, error) {
	if len(pemText) > maxChainBytes {
		return nil, fmt.Errorf("the certificate chain has %d bytes, at most %d are allowed", len(pemText), maxChainBytes)
	}
	begin := []byte("-----BEGIN ")
	var chain []*x509.Certificate
	for rest := pemText; ; {
		at := bytes.Index(rest, begin)
		if at < 0 {
			break
		}
		if len(chain) == MaxChain {
			return nil, fmt.Errorf("the certificate chain has more than %d certificates", MaxChain)
		}
		block, after := pem.Decode(rest[at:])
		if block == nil || bytes.Count(rest[at:len(rest)-len(after)], begin) != 1 {
			return nil, errors.New("the certificate chain has a damaged PEM block")
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("the certificate chain has a %q block where a CERTIFICATE was expected", text.Cut(block.Type, text.Value))
		}
		c, err := ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d of the chain: %w", len(chain)+1, err)
		}
		chain, rest = append(chain, c), after
	}
	if len(chain) == 0 {
		return nil, errors.New("the certificate chain is empty")
	}
	return chain, nil
}

// SortChain brings certificates that a CA sent in an odd order into that of TLS: the one with this key first, each followed by
// the one that signed it, none twice. What has no place in that chain comes last, for [Vet] to refuse.
func SortChain(list []*x509.Certificate, key crypto.PublicKey) []*x509.Certificate {
	rest := slices.Clone(list)
	at := max(slices.IndexFunc(rest, func(c *x509.Certificate) bool { return SameKey(c.PublicKey, key) && !c.IsCA }), 0)
	var chain []*x509.Certificate
	for at >= 0 {
		last := rest[at]
		chain = append(chain, last)
		rest = slices.DeleteFunc(rest, last.Equal)
		at = slices.IndexFunc(rest, func(c *x509.Certificate) bool {
			return bytes.Equal(last.RawIssuer, c.RawSubject) && last.CheckSignatureFrom(c) == nil
		})
	}
	return append(chain, rest...)
}

// ParseKey reads the first private key in PKCS#8, PKCS#1 or SEC1 PEM form. What other tools write around it is passed over:
// curve parameters, certificates, text. The error never contains any part of the input.
func ParseKey(text []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("the private key is not PEM")
	}
	for !strings.HasSuffix(block.Type, "PRIVATE KEY") {
		if block, rest = pem.Decode(rest); block == nil {
			return nil, errors.New("the PEM text has no private key")
		}
	}
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the private key is protected by a passphrase; store it without one")
	}
	key, err := parseKeyDER(block.Bytes)
	if err != nil {
		return nil, errors.New("the private key cannot be read (want PKCS#8, PKCS#1 or SEC1)")
	}
	signer, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("a private key of type %T cannot sign", key)
	}
	return signer, nil
}

func parseKeyDER(der []byte) (any, error) {
	if len(der) > maxKeyDER {
		return nil, errors.New("too long")
	}
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return key, nil
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return x509.ParsePKCS1PrivateKey(der)
}

// EncodeKey returns the key as PKCS#8 PEM.
func EncodeKey(key crypto.Signer) (Secret, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("encode the private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// SameKey reports whether two public keys are equal.
func SameKey(a, b crypto.PublicKey) bool {
	eq, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && eq.Equal(b)
}
