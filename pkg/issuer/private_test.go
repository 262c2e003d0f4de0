package issuer_test

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

// TestPrivateNames: a private CA certifies names that no public one does; for a public one they are refused before it hears
// of them, with what to do.
func TestPrivateNames(t *testing.T) {
	w := newWorld(t)
	names := []string{"intranet", strings.Repeat("x.", 12) + "example.internal"}
	w.mustObtain(w.request(names...))
	names = append(names, "db_1.example.internal") // this CA is one that does not want underscores, and is asked nevertheless
	if _, err := w.obtain(names...); err == nil || !strings.Contains(err.Error(), "illegal character: '_'") {
		t.Errorf("an underscore: %v", err)
	}
	w.remake(func(c *issuer.Config) { c.Private = false })
	before := w.ca.Requests(acmetest.NewOrder)
	for _, name := range names {
		_, err := w.obtain(name)
		var permanent *certs.PermanentError
		if !errors.As(err, &permanent) || !strings.Contains(err.Error(), "private: true") {
			t.Errorf("%s at a public CA: %v", name, err)
		}
	}
	if n := w.ca.Requests(acmetest.NewOrder); n != before {
		t.Errorf("the public CA got %d orders", n-before)
	}
}

// TestAccountRefused: a CA that refuses the account is told from one that refuses an order.
func TestAccountRefused(t *testing.T) {
	w := newWorld(t, acmetest.WithEAB(map[string]string{"kid-1": base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef"))}))
	for name, eab := range map[string]*issuer.EAB{"no binding": nil, "another key": {KeyID: "kid-1", HMAC: certs.Secret(base64.RawURLEncoding.EncodeToString([]byte("another0another0another0another0")))}} {
		w.remake(func(c *issuer.Config) { c.EAB = eab })
		var refused *certs.AccountError
		if _, err := w.obtain("example.com"); !errors.As(err, &refused) {
			t.Errorf("%s: %T %v", name, err, err)
		}
	}
	w.remake(func(c *issuer.Config) {
		c.EAB = &issuer.EAB{KeyID: "kid-1", HMAC: certs.Secret(base64.RawURLEncoding.EncodeToString([]byte("0123456789abcdef0123456789abcdef")))}
	})
	w.mustObtain(w.request("example.com"))
	req := w.request("example.com")
	req.Spec.Profile = "no-such-profile"
	var refused *certs.AccountError
	if _, err := w.Obtain(t.Context(), req); err == nil || errors.As(err, &refused) {
		t.Errorf("an order: %T %v", err, err)
	}
}
