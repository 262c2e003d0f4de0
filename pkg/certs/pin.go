package certs

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
)

const pinPrefix = "sha256/"

// Pin is how clients name a public key that they pin: sha256/ and the base64 form of the SHA-256 of its SubjectPublicKeyInfo
// (as in RFC 7469 section 2.4). It is "" for a key that has no such form.
func Pin(key crypto.PublicKey) string {
	info, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return ""
	}
	return pinOf(info)
}

func pinOf(info []byte) string {
	sum := sha256.Sum256(info)
	return pinPrefix + base64.StdEncoding.EncodeToString(sum[:])
}

// CheckPin refuses what is not in the form of [Pin].
func CheckPin(pin string) error {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(pin, pinPrefix))
	if !strings.HasPrefix(pin, pinPrefix) || err != nil || len(raw) != sha256.Size {
		return fmt.Errorf("%q is no pin; write sha256/ and the base64 form of the SHA-256 of a public key, as acmed chain NAME --pins prints it", text.Cut(pin, text.Value))
	}
	return nil
}

// Pins are the pins of the leaf and of its RSA twin.
func (b *Bundle) Pins() []string {
	var pins []string
	for _, leaf := range b.Leaves() {
		pins = append(pins, pinOf(leaf.RawSubjectPublicKeyInfo))
	}
	return pins
}

// NextKey is a private key that was made ahead of the certificate that will have it, so that clients can learn it.
type NextKey struct {
	Type    KeyType
	KeyPEM  Secret    // PKCS#8
	Pin     string    // of the public key
	Created time.Time // when it was made
}

// PickKey is the key of a type; false when there is none.
func PickKey(keys []NextKey, k KeyType) (NextKey, bool) {
	i := slices.IndexFunc(keys, func(n NextKey) bool { return n.Type == k })
	if i < 0 {
		return NextKey{}, false
	}
	return keys[i], true
}

// TLSA is one TLSA record (RFC 6698) with the SHA-256 of a SubjectPublicKeyInfo: selector 1 and matching type 1.
type TLSA struct {
	Name   string // where it is, with the final dot: _25._tcp.mx.example.com.
	Usage  uint8  // 3: the key of the server (DANE-EE); 2: that of its issuer (DANE-TA)
	Digest string // lower-case hexadecimal
}

// Data is the record as in a zone file, without name and type.
func (r TLSA) Data() string { return fmt.Sprintf("%d 1 1 %s", r.Usage, r.Digest) }

// String is the name and the data.
func (r TLSA) String() string { return r.Name + " " + r.Data() }

// ParseTLSA reads what [TLSA.String] wrote.
func ParseTLSA(s string) (r TLSA, err error) {
	if n, err := fmt.Sscanf(s, "%s %d 1 1 %s", &r.Name, &r.Usage, &r.Digest); err != nil || n != 3 {
		return r, fmt.Errorf("%q is no TLSA record", text.Cut(s, text.Value))
	}
	return r, nil
}

// Digest is the SHA-256 of a certificate's SubjectPublicKeyInfo in hexadecimal.
func Digest(c *x509.Certificate) string {
	sum := sha256.Sum256(c.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(sum[:])
}

// Digest is the SHA-256 of the key's SubjectPublicKeyInfo in hexadecimal.
func (n NextKey) Digest() string {
	raw, _ := base64.StdEncoding.DecodeString(strings.TrimPrefix(n.Pin, pinPrefix)) // made by pinOf
	return hex.EncodeToString(raw)
}
