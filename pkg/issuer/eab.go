package issuer

import (
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"github.com/go-jose/go-jose/v4"

	"github.com/acmed/acmed/pkg/certs"
)

// EAB binds a new account to an existing one at the CA (RFC 8555 section 7.3.4).
type EAB struct {
	KeyID     string       // as the CA gave it
	HMAC      certs.Secret // base64url, with or without padding, as the CA gave it
	Algorithm string       // HS256, HS384 or HS512; "" is HS256
}

// minHMAC is the shortest HMAC key in bytes that is not obviously cut off.
const minHMAC = 16

func (e *EAB) check() error {
	if e.KeyID == "" {
		return errors.New("external account binding: the key ID is empty")
	}
	if !slices.Contains([]string{"", "HS256", "HS384", "HS512"}, e.Algorithm) {
		return fmt.Errorf("external account binding: algorithm %q is none of HS256, HS384, HS512", e.Algorithm)
	}
	if key, err := e.key(); err != nil || len(key) < minHMAC {
		return fmt.Errorf("external account binding: the HMAC key is not base64url text of at least %d bytes", minHMAC)
	}
	return nil
}

func (e *EAB) key() ([]byte, error) { return certs.ParseHMAC([]byte(e.HMAC)) }

func (e *EAB) sign(newAccount string, public crypto.PublicKey) ([]byte, error) {
	key, err := e.key()
	if err != nil {
		return nil, e.check()
	}
	payload, err := (&jose.JSONWebKey{Key: public}).MarshalJSON()
	if err != nil {
		return nil, fmt.Errorf("external account binding: %w", err)
	}
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.SignatureAlgorithm(orDefault(e.Algorithm, "HS256")), Key: key},
		&jose.SignerOptions{ExtraHeaders: map[jose.HeaderKey]any{"kid": e.KeyID, "url": newAccount}})
	if err != nil {
		return nil, fmt.Errorf("external account binding: %w", err)
	}
	signed, err := signer.Sign(payload)
	if err != nil {
		return nil, fmt.Errorf("external account binding: %w", err)
	}
	return []byte(signed.FullSerialize()), nil
}

// Thumbprint is the RFC 7638 thumbprint of an account key in base64url: the second half of every key authorization.
func Thumbprint(public crypto.PublicKey) (string, error) {
	sum, err := (&jose.JSONWebKey{Key: public}).Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("thumbprint of the account key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}
