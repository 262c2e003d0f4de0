package certs_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/certs"
)

// made is a key of each family, made once.
func made(t testing.TB) map[certs.KeyType]crypto.Signer {
	t.Helper()
	keys := map[certs.KeyType]crypto.Signer{}
	for _, kind := range []certs.KeyType{certs.EC256, certs.EC384, certs.RSA2048} {
		key, err := certs.NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		keys[kind] = key
	}
	return keys
}

func TestKeyTypes(t *testing.T) {
	for kind, key := range made(t) {
		if got := certs.KeyTypeOf(key.Public()); got != kind {
			t.Errorf("a key of type %s is one of type %q", kind, got)
		}
	}
	p521, err := ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	edwards, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	bits := func(n int) *rsa.PublicKey {
		return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), n-1, 1), E: 65537}
	}
	for want, keys := range map[certs.KeyType][]crypto.PublicKey{
		certs.RSA3072: {bits(3072)}, certs.RSA4096: {bits(4096)}, "": {bits(1024), bits(2049), bits(8192), p521.Public(), edwards, nil, "a text"},
	} {
		for _, key := range keys {
			if got := certs.KeyTypeOf(key); got != want {
				t.Errorf("%T is of type %q, want %q", key, got, want)
			}
		}
	}
	for _, kind := range []certs.KeyType{"", "rsa1024", "EC256", "ed25519"} {
		if _, err := certs.NewKey(kind); err == nil {
			t.Errorf("a key of type %q was made", kind)
		}
	}
}

// TestSameKey: equal keys of one family; what is no key is equal to nothing.
func TestSameKey(t *testing.T) {
	keys := made(t)
	other := made(t)
	for one, a := range keys {
		for two, b := range keys {
			if got := certs.SameKey(a.Public(), b.Public()); got != (one == two) {
				t.Errorf("%s and %s are the same: %v", one, two, got)
			}
		}
		if certs.SameKey(a.Public(), other[one].Public()) || certs.SameKey(a.Public(), nil) || certs.SameKey(nil, a.Public()) || certs.SameKey(nil, nil) {
			t.Errorf("%s is the same as another one, or as none", one)
		}
	}
}

// TestBundleOfKeys: a key in each form in which people have it; what is none, or another one, is refused without a word of it.
func TestBundleOfKeys(t *testing.T) {
	keys := made(t)
	ec, ok := keys[certs.EC256].(*ecdsa.PrivateKey)
	old, ok2 := keys[certs.RSA2048].(*rsa.PrivateKey)
	if !ok || !ok2 {
		t.Fatal("other keys were made")
	}
	block := func(kind string, der []byte, headers ...string) string {
		b := &pem.Block{Type: kind, Bytes: der, Headers: map[string]string{}}
		for _, h := range headers {
			name, value, _ := strings.Cut(h, ": ")
			b.Headers[name] = value
		}
		return string(pem.EncodeToMemory(b))
	}
	must := func(der []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	sec1, pkcs8 := block("EC PRIVATE KEY", must(x509.MarshalECPrivateKey(ec))), block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(ec)))
	parameters := block("EC PARAMETERS", []byte{6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7})
	leaf := signKey(t, nil, ec, ec.Public(), nil)
	rsaLeaf := signKey(t, nil, old, old.Public(), nil)
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for what, c := range map[string]struct {
		leaf link
		key  string
		want string
	}{
		"PKCS#8":                       {leaf, pkcs8, ""},
		"SEC1":                         {leaf, sec1, ""},
		"as openssl ecparam writes it": {leaf, parameters + sec1, ""},
		"after its certificate":        {leaf, string(pemOf(leaf)) + pkcs8, ""},
		"with text before and behind":  {leaf, "Bag Attributes\r\n" + strings.ReplaceAll(pkcs8, "\n", "\r\n") + "end", ""},
		"PKCS#1":                       {rsaLeaf, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(old)), ""},
		"RSA in PKCS#8":                {rsaLeaf, block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(old))), ""},
		"none: the operator keeps it":  {leaf, "", ""},
		"another one":                  {leaf, block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(keys[certs.EC384]))), "does not belong"},
		"one of another family":        {leaf, block("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(old)), "does not belong"},
		"Ed25519":                      {leaf, block("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(edwards))), "does not belong"},
		"a certificate":                {leaf, string(pemOf(leaf)), "no private key"},
		"the parameters alone":         {leaf, parameters, "no private key"},
		"with a passphrase":            {leaf, block("ENCRYPTED PRIVATE KEY", []byte("secret")), "passphrase"},
		"with a passphrase, as of old": {leaf, block("EC PRIVATE KEY", []byte("secret"), "Proc-Type: 4,ENCRYPTED", "DEK-Info: AES-128-CBC,00"), "passphrase"},
		"garbage in PEM":               {leaf, block("PRIVATE KEY", []byte("secret")), "cannot be read"},
		"garbage":                      {leaf, "secret", "not PEM"},
		"only half of it":              {leaf, pkcs8[:len(pkcs8)/2], "not PEM"},
	} {
		b, err := certs.NewBundle(pemOf(c.leaf), []byte(c.key))
		says(t, what, err, c.want)
		if err != nil && (strings.Contains(err.Error(), "secret") || b != nil) {
			t.Errorf("%s: %v tells the key", what, err)
		}
	}
}

// TestBundleIdentity: the fingerprint is about both leaves of a dual unit, and one shared key is enough to know the other.
func TestBundleIdentity(t *testing.T) {
	keys := made(t)
	bundle := func(kind certs.KeyType) *certs.Bundle {
		b, err := certs.NewBundle(pemOf(signKey(t, nil, keys[kind], keys[kind].Public(), nil)), nil)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	one, again, twin := bundle(certs.EC256), bundle(certs.EC256), bundle(certs.RSA2048)
	dual := *one
	dual.RSA = twin
	if one.Fingerprint() == again.Fingerprint() || one.Fingerprint() == dual.Fingerprint() || dual.Fingerprint() != one.Fingerprint()+"+"+twin.Fingerprint() {
		t.Error("fingerprints")
	}
	if !one.SharesKey(again) || one.SharesKey(twin) || !dual.SharesKey(twin) || !twin.SharesKey(&dual) || one.SharesKey(bundle(certs.EC384)) {
		t.Error("shared keys")
	}
	if n := len(dual.Leaves()); n != 2 || len(one.Leaves()) != 1 {
		t.Errorf("%d leaves", n)
	}
}
