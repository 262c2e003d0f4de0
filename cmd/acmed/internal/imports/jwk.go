package imports

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// jwk is a private key in the form of RFC 7517.
type jwk struct {
	Kty string   `json:"kty"`
	Crv string   `json:"crv"`
	N   number64 `json:"n"`
	E   number64 `json:"e"`
	D   number64 `json:"d"`
	P   number64 `json:"p"`
	Q   number64 `json:"q"`
	X   number64 `json:"x"`
	Y   number64 `json:"y"`
}

// number64 is a number in base64url (RFC 7518 section 2).
type number64 struct{ *big.Int }

// UnmarshalJSON reads a number. Its error has no part of it.
func (n *number64) UnmarshalJSON(text []byte) error {
	var encoded string
	if err := json.Unmarshal(text, &encoded); err != nil {
		return errors.New("a number of the key is not text")
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(encoded, "="))
	if err != nil {
		return errors.New("a number of the key is not base64url")
	}
	n.Int = new(big.Int).SetBytes(raw)
	return nil
}

// parseJWK reads an RSA key, or an EC key on P-256 or P-384, and checks that its parts belong together. No error contains
// any part of the key.
func parseJWK(text []byte) (crypto.Signer, error) {
	var k jwk
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, errors.New("the account key cannot be read")
	}
	switch k.Kty {
	case "RSA":
		return k.rsa()
	case "EC":
		return k.ec()
	}
	return nil, fmt.Errorf("the account key is of type %q, which is not supported", k.Kty)
}

// maxRSA is the longest modulus that is read, in bits.
const maxRSA = 8192

func (k *jwk) rsa() (crypto.Signer, error) {
	for _, n := range []number64{k.N, k.E, k.D, k.P, k.Q} {
		if n.Int == nil {
			return nil, errors.New("the RSA account key is not complete")
		}
	}
	if k.N.BitLen() > maxRSA || !k.E.IsInt64() || k.E.Int64() > 1<<31-1 {
		return nil, errors.New("the RSA account key is too large")
	}
	key := &rsa.PrivateKey{
		PublicKey: rsa.PublicKey{N: k.N.Int, E: int(k.E.Int64())},
		D:         k.D.Int, Primes: []*big.Int{k.P.Int, k.Q.Int},
	}
	if key.Validate() != nil {
		return nil, errors.New("the parts of the RSA account key do not belong together")
	}
	key.Precompute()
	return key, nil
}

func (k *jwk) ec() (crypto.Signer, error) {
	curves := map[string]elliptic.Curve{"P-256": elliptic.P256(), "P-384": elliptic.P384()}
	curve := curves[k.Crv]
	if curve == nil || k.D.Int == nil || k.X.Int == nil || k.Y.Int == nil {
		return nil, fmt.Errorf("the EC account key on curve %q is not complete or not supported", k.Crv)
	}
	size := (curve.Params().BitSize + 7) / 8
	if k.D.BitLen() > 8*size {
		return nil, errors.New("the EC account key is too large")
	}
	key, err := ecdsa.ParseRawPrivateKey(curve, k.D.FillBytes(make([]byte, size)))
	if err != nil {
		return nil, errors.New("the EC account key is not on its curve")
	}
	point, err := key.PublicKey.Bytes()
	if err != nil || k.X.BitLen() > 8*size || k.Y.BitLen() > 8*size ||
		string(point[1:]) != string(k.X.FillBytes(make([]byte, size)))+string(k.Y.FillBytes(make([]byte, size))) {
		return nil, errors.New("the parts of the EC account key do not belong together")
	}
	return key, nil
}
