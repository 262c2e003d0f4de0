package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// hugeRSA is a public key that would take seconds to use.
func hugeRSA(bits int) *rsa.PublicKey {
	return &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), bits-1, 1), E: 65537}
}

func TestHugeKeysAreRefused(t *testing.T) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for bits, ok := range map[int]bool{2048: true, MaxRSA: true, MaxRSA + 1: false, 393_216: false} {
		template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now()}
		der, err := x509.CreateCertificate(rand.Reader, template, template, hugeRSA(bits), signer)
		if err != nil {
			t.Fatal(err)
		}
		block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
		_, one := ParseCertificate(der)
		_, chain := ParseChain(block)
		_, pool := Pool(block)
		for what, err := range map[string]error{"certificate": one, "chain": chain, "pool": pool} {
			if (err == nil) != ok {
				t.Errorf("%s with %d bits: %v", what, bits, err)
			}
		}
	}
	if _, err := ParseKey(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: make([]byte, maxKeyDER+1)})); err == nil {
		t.Error("a huge private key was read")
	}
}

// TestEverythingIsParsedHere: certificates and requests are read through this package alone, so that no key goes unbounded.
func TestEverythingIsParsedHere(t *testing.T) {
	forbidden := regexp.MustCompile(`x509\.Parse(Certificate|PKIX|PKCS1Pub|PKCS8|PKCS1Priv|ECPriv)|AppendCertsFromPEM|PKCS1PublicKey\(`)
	for _, root := range []string{"../../pkg", "../../cmd", "../../internal"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			test := strings.HasSuffix(path, "_test.go") || regexp.MustCompile(`/(acmetest|installertest|fleettest|testdata)/`).MatchString(path)
			if err != nil || test || !strings.HasSuffix(path, ".go") || strings.HasPrefix(path, "../../pkg/certs/") {
				return err
			}
			text, err := os.ReadFile(path)
			if found := forbidden.Find(text); found != nil {
				t.Errorf("%s uses %s; use package certs", path, found)
			}
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestParseChain(t *testing.T) {
	key, err := NewKey(EC256)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now()}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	one := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	for text, want := range map[string]int{
		one: 1, "\ufeff" + one: 1, "subject=x\r\n" + one + "\nissuer=y\n" + one + "end": 2, strings.ReplaceAll(one, "\n", "\r\n"): 1,
		"": 0, "text": 0, one + string(keyPEM): 0, one + "-----BEGIN CERTIFICATE-----\nAAAA": 0,
		"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----\n" + one: 0, strings.Repeat(one, MaxChain+1): 0,
	} {
		got, err := ParseChain([]byte(text))
		if len(got) != want || (err == nil) != (want > 0) {
			t.Errorf("%.60q: %d certificates, %v", text, len(got), err)
		}
	}
}
