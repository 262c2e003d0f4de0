package certs_test

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"os"

	"github.com/acmed/acmed/pkg/certs"
)

// TestPin: a pin is what OpenSSL makes of the public key.
func TestPin(t *testing.T) {
	for _, kind := range certs.KeyTypes() {
		key, err := certs.NewKey(kind)
		if err != nil {
			t.Fatal(err)
		}
		text, err := certs.EncodeKey(key)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "key.pem")
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command("sh", "-c", `openssl pkey -in "$0" -pubout -outform DER | openssl dgst -sha256 -binary | openssl base64`, file).Output()
		if want := "sha256/" + strings.TrimSpace(string(out)); err != nil || certs.Pin(key.Public()) != want {
			t.Errorf("%s: %s, want %s (%v)", kind, certs.Pin(key.Public()), want, err)
		}
		if err := certs.CheckPin(certs.Pin(key.Public())); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", "sha256/", "sha256/AAAA", "sha1/47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=", "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
		"sha256/47DEQpj8HBSa-_TImW-5JCeuQeRkm5NMpJWZG3hSuFU="} {
		if certs.CheckPin(bad) == nil {
			t.Errorf("%q is taken for a pin", bad)
		}
	}
}

func TestTLSAText(t *testing.T) {
	r := certs.TLSA{Name: "_25._tcp.mx.example.com.", Usage: 2, Digest: strings.Repeat("0f", 32)}
	if got, err := certs.ParseTLSA(r.String()); err != nil || got != r || r.Data() != "2 1 1 "+r.Digest {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := certs.ParseTLSA("_25._tcp.mx.example.com. 2 0 1 00"); err == nil {
		t.Error("another selector is accepted")
	}
}
