package imports

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-jose/go-jose/v4"
	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
)

func encode(t *testing.T, key any) []byte {
	t.Helper()
	text, err := json.Marshal(jose.JSONWebKey{Key: key})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestParseJWK(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	keys := []crypto.Signer{rsaKey}
	for _, curve := range []elliptic.Curve{elliptic.P256(), elliptic.P384()} {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, key)
	}
	for _, key := range keys {
		text := encode(t, key)
		got, err := parseJWK(text)
		if err != nil {
			t.Errorf("%T: %v", key, err)
			continue
		}
		if !certs.SameKey(got.Public(), key.Public()) {
			t.Errorf("%T: another key", key)
		}
		// Every part of the key is needed, and belongs to the others.
		var parts map[string]string
		if err := json.Unmarshal(text, &parts); err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{"d", "n", "x", "y", "p", "kty"} {
			was, ok := parts[part]
			if !ok {
				continue
			}
			for _, bad := range []string{"", "AQAB", "!", strings.Repeat("_", 600)} {
				parts[part] = bad
				broken, err := json.Marshal(parts)
				if err != nil {
					t.Fatal(err)
				}
				_, err = parseJWK(broken)
				if err == nil {
					t.Errorf("%T with %s = %.10q was taken", key, part, bad)
				} else if strings.Contains(err.Error(), parts["d"][:min(8, len(parts["d"]))]) && part != "d" {
					t.Errorf("%v has the key in it", err)
				}
			}
			parts[part] = was
		}
	}
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseJWK(encode(t, ed)); err == nil {
		t.Error("an Ed25519 key was taken")
	}
}

func TestReadConf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.conf")
	text := "# renew_before_expiry = 30 days\nrenew_before_expiry = 20 days\nversion = 2.1.0\n[renewalparams]\nauthenticator = webroot\n" +
		"webroot_path = /var/www/html,\npreferred_chain = \"ISRG Root X1\"\n[[webroot_map]]\nexample.com = /srv/a=b\n"
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	got, err := readConf(path)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]map[string]string{
		"":              {"renew_before_expiry": "20 days", "version": "2.1.0"},
		"renewalparams": {"authenticator": "webroot", "webroot_path": "/var/www/html,", "preferred_chain": "ISRG Root X1"},
		"webroot_map":   {"example.com": "/srv/a=b"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if err := os.WriteFile(path, []byte("[renewalparams]\nno setting\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := readConf(path); err == nil || !strings.Contains(err.Error(), path+":2") {
		t.Errorf("got %v", err)
	}
}

// TestReadDamaged: what is broken is named, and the rest is read.
func TestReadDamaged(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read("certbot", Source{Dir: dir}); err == nil {
		t.Error("an empty directory is certbot's")
	}
	for path, text := range map[string]string{
		"renewal/nothing.conf":                         "[renewalparams]\n",
		"renewal/broken.conf":                          "x\n",
		"renewal/nothing.conf.bak":                     "x\n",
		"accounts/ca.example/dir/abc/private_key.json": `{"kty":"RSA"}`,
		"renewal-hooks/deploy/reload":                  "#!/bin/sh\n",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, path)), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, path), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tree, err := Read("certbot", Source{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if len(tree.Problems) != 3 || len(tree.Lineages) != 0 || len(tree.Notes) != 1 {
		t.Errorf("got %+v", tree)
	}
}

func FuzzParseJWK(f *testing.F) {
	f.Add([]byte(`{"kty":"EC","crv":"P-256","x":"AQ","y":"AQ","d":"AQ"}`))
	f.Add([]byte(`{"kty":"RSA","n":"AQ","e":"AQAB","d":"AQ","p":"AQ","q":"AQ"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if key, err := parseJWK(text); (key == nil) != (err != nil) {
			t.Errorf("key %v, error %v", key, err)
		}
	})
}

func TestRenewBefore(t *testing.T) {
	for text, want := range map[string]string{"": "", "20 days": "20d", "1 week": "7d", "36 hours": "36h", "x days": "", "-3 days": "", "3 fortnights": ""} {
		if got := renewBefore(text); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
}
