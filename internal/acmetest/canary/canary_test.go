package canary

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestFind: what tests named is found, and keys in PEM form are found without being named.
func TestFind(t *testing.T) {
	dir, state := t.TempDir(), t.TempDir()
	t.Setenv(Variable, dir)
	body := strings.Repeat("QUJD", 16)
	key := "-----BEGIN PRIVATE " + "KEY-----\n" + body + "\n-----END PRIVATE " + "KEY-----\n"
	if err := os.WriteFile(filepath.Join(state, "order-ec.json"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Keys(state); err != nil {
		t.Fatal(err)
	}
	if err := Secret("token-0123456789"); err != nil {
		t.Fatal(err)
	}
	if Secret("short") == nil {
		t.Error("a text that is found by chance is no secret")
	}
	secrets, err := Secrets(dir)
	if err != nil || len(secrets) != 2 {
		t.Fatalf("%q, %v", secrets, err)
	}
	for text, want := range map[string]int{"all is well": 0, "a\nx " + body + " y\n": 1, key: 2, "Bearer token-0123456789": 1, "-----BEGIN EC PRIVATE " + "KEY-----\n": 1} {
		hits := Find(text, secrets)
		if len(hits) != want {
			t.Errorf("%q: %q", text, hits)
		}
		if strings.Contains(strings.Join(hits, ""), body) || strings.Contains(strings.Join(hits, ""), "0123456789") {
			t.Errorf("the report tells the secret: %q", hits)
		}
	}
}
