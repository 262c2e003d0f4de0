package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
)

// MaxRSA is the longest RSA key in bits that is used for anything. A signature under one of 393,216 bits takes 44 s to check;
// crypto/tls has the same bound.
const MaxRSA = 8192

// maxKeyDER is the longest private key that is read, in bytes: an RSA key of MaxRSA bits needs less than 5,000.
const maxKeyDER = 8 << 10

// CheckKey refuses a public key that costs too much to use: an RSA key of more than [MaxRSA] bits, or an unknown curve.
// Everything that came from elsewhere is read through [ParseCertificate], [ParseRequest] and [Pool], which ask it.
func CheckKey(public crypto.PublicKey) error {
	switch key := public.(type) {
	case *rsa.PublicKey:
		if bits := key.N.BitLen(); bits > MaxRSA {
			return fmt.Errorf("an RSA key of %d bits, more than %d", bits, MaxRSA)
		}
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P224(), elliptic.P256(), elliptic.P384(), elliptic.P521()}, key.Curve) {
			return errors.New("an EC key on an unknown curve")
		}
	}
	return nil
}

// ParseCertificate reads a certificate in DER form whose key can be used at a bounded cost.
func ParseCertificate(der []byte) (*x509.Certificate, error) {
	c, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	if err := CheckKey(c.PublicKey); err != nil {
		return nil, err
	}
	return c, nil
}

// ParseRequest reads a certificate signing request in DER form whose key can be used at a bounded cost. Its signature is
// not checked.
func ParseRequest(der []byte) (*x509.CertificateRequest, error) {
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return nil, err
	}
	if err := CheckKey(csr.PublicKey); err != nil {
		return nil, err
	}
	return csr, nil
}

// Pool makes a pool of the certificates in a PEM text. Other blocks, text between them, and certificates that cannot be read
// are passed over; a text without a certificate is an error, and so is a key that CheckKey refuses.
func Pool(text []byte) (*x509.CertPool, error) {
	pool, found := x509.NewCertPool(), false
	for len(text) > 0 {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			continue
		}
		if err := CheckKey(c.PublicKey); err != nil {
			return nil, fmt.Errorf("the certificate %q has %w", c.Subject, err)
		}
		pool.AddCert(c)
		found = true
	}
	if !found {
		return nil, errors.New("the file has no certificate in PEM form")
	}
	return pool, nil
}

// ParseHMAC reads the key of an external account binding as CAs show it: base64url (RFC 8555 section 7.3.4) or base64, with or
// without padding, quotes and white space around it. The error contains no part of it.
func ParseHMAC(text []byte) (Secret, error) {
	text = bytes.TrimRight(bytes.Trim(bytes.TrimPrefix(text, []byte("\ufeff")), " \t\r\n\"'"), "=")
	for _, encoding := range []*base64.Encoding{base64.RawURLEncoding, base64.RawStdEncoding} {
		key := make([]byte, encoding.DecodedLen(len(text)))
		if n, err := encoding.Decode(key, text); err == nil {
			return key[:n], nil
		}
	}
	return nil, errors.New("the HMAC key is neither base64url nor base64")
}
