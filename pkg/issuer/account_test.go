package issuer_test

import (
	"crypto"
	"encoding/base64"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

func (w *world) account() *store.Account {
	w.t.Helper()
	a, err := w.store.Account(w.ca.Directory, w.config.Contact)
	if err != nil || a == nil {
		w.t.Fatalf("stored account: %v, %v", a, err)
	}
	return a
}

func TestFirstOrdersShareOneAccount(t *testing.T) {
	w := newWorld(t)
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			name := string(rune('a' + n))
			if _, err := w.Obtain(t.Context(), w.named(name, name+".example.com")); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations", n)
	}
	if n := w.ca.Requests(acmetest.Directory); n != 1 {
		t.Errorf("the directory was fetched %d times", n)
	}
}

func TestAccountIsStoredBeforeTheFirstOrder(t *testing.T) {
	w := newWorld(t)
	w.ca.Use(func(e acmetest.Endpoint, next http.Handler) http.Handler {
		if e == acmetest.NewOrder && w.account().URI == "" {
			t.Error("an order came before the account was stored")
		}
		if e == acmetest.NewAccount && w.account().Key == nil {
			t.Error("a registration came before its key was stored")
		}
		return next
	})
	w.mustObtain(w.request("example.com"))
	if diff := cmp.Diff([]string{"mailto:ops@example.com"}, w.account().Contacts); diff != "" {
		t.Error(diff)
	}
	w.remake(nil)
	w.mustObtain(w.named("second", "second.example.com"))
	if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations after a restart", n)
	}
}

func TestRegistrationWithALostAnswer(t *testing.T) {
	w := newWorld(t)
	w.ca.Use(acmetest.At(acmetest.ResetAfter(), acmetest.NewAccount))
	if _, err := w.obtain("example.com"); !isUnavailable(err) {
		t.Fatalf("%v, want an UnavailableError", err)
	}
	before := w.account().Key
	w.ca.Use()
	w.remake(nil)
	w.mustObtain(w.request("example.com"))
	if !certs.SameKey(before.Public(), w.account().Key.Public()) {
		t.Error("a second key was registered")
	}
}

func TestCAForgotTheAccount(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.request("example.com"))
	before := w.account()
	if err := w.ca.Forget(); err != nil {
		t.Fatal(err)
	}
	w.ca.ResetRequests()
	w.mustObtain(w.request("example.com"))
	if after := w.account(); after.URI == before.URI || !certs.SameKey(after.Key.Public(), before.Key.Public()) {
		t.Errorf("registered as %s with another key or not anew", after.URI)
	}
	if n := w.ca.Requests(acmetest.NewAccount); n > 2 { // one look-up, one registration
		t.Errorf("%d requests for accounts", n)
	}
}

func TestCAClosedTheAccount(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.request("example.com"))
	before := w.account()
	if err := w.Deactivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := w.store.SaveAccount(w.ca.Directory, w.config.Contact, before); err != nil { // as if another client had done it
		t.Fatal(err)
	}
	w.remake(nil)
	w.mustObtain(w.request("example.com"))
	if after := w.account(); certs.SameKey(after.Key.Public(), before.Key.Public()) || after.URI == before.URI {
		t.Error("the closed account is still in use")
	}
	if !w.retired(before.Key) {
		t.Error("the key of the closed account is gone")
	}
}

// retired reports whether a key lies beside the account that took the place of its own.
func (w *world) retired(key crypto.Signer) bool {
	w.t.Helper()
	found, err := filepath.Glob(filepath.Join(w.store.Dir(), "accounts", "*", "*", "retired-*.pem"))
	if err != nil {
		w.t.Fatal(err)
	}
	return slices.ContainsFunc(found, func(name string) bool {
		text, err := os.ReadFile(name)
		if err != nil {
			w.t.Fatal(err)
		}
		kept, err := certs.ParseKey(text)
		return err == nil && certs.SameKey(kept.Public(), key.Public())
	})
}

func TestUnauthorizedOrderDoesNotReplaceAGoodAccount(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.request("example.com"))
	before := w.account()
	w.ca.Use(acmetest.At(acmetest.Problem(http.StatusForbidden, "unauthorized", "not you", ""), acmetest.NewOrder))
	if _, err := w.obtain("example.com"); err == nil || !strings.Contains(err.Error(), "not you") {
		t.Errorf("got %v", err)
	}
	if after := w.account(); after.URI != before.URI || !certs.SameKey(after.Key.Public(), before.Key.Public()) {
		t.Error("the account was replaced")
	}
	if n := w.ca.Requests(acmetest.NewOrder); n != 2 {
		t.Errorf("%d orders", n)
	}
}

func TestAccountLife(t *testing.T) {
	w := newWorld(t)
	info, err := w.Account(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if info.Status != "valid" || info.URI != w.account().URI || len(info.Thumbprint) != 43 || len(info.CAAIdentities) != 1 {
		t.Errorf("unexpected account %+v", info)
	}
	if err := w.UpdateContacts(t.Context(), "a@example.com", "b@example.com"); err != nil {
		t.Fatal(err)
	}
	info, err = w.Account(t.Context())
	if diff := cmp.Diff([]string{"mailto:a@example.com", "mailto:b@example.com"}, info.Contacts); diff != "" || err != nil {
		t.Errorf("%v %s", err, diff)
	}
	var permanent *certs.PermanentError
	if err := w.UpdateContacts(t.Context(), "nobody"); !errors.As(err, &permanent) {
		t.Errorf("got %v for a bad address", err)
	}
	closed := w.account()
	if err := w.Deactivate(t.Context()); err != nil {
		t.Fatal(err)
	}
	if w.account().URI != "" || !w.retired(closed.Key) {
		t.Error("the deactivated account is still stored, or its key is gone")
	}
	w.mustObtain(w.request("example.com"))
}

func TestRollover(t *testing.T) {
	for _, tc := range []struct {
		name    string
		fault   acmetest.Fault
		changed bool
		code    advice.Code
	}{
		{"done", nil, true, ""},
		{"answer lost", acmetest.ResetAfter(), true, advice.CAUnreachable},
		{"request lost", acmetest.Reset(), false, advice.CAUnreachable},
		{"refused", acmetest.Problem(http.StatusConflict, "malformed", "no", ""), false, ""},
		{"not found", acmetest.Problem(http.StatusNotFound, "malformed", "no such page", ""), false, advice.NotSupported},
		{"not implemented", acmetest.Problem(http.StatusNotImplemented, "serverInternal", "not yet", ""), false, advice.NotSupported},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			w.mustObtain(w.request("example.com"))
			before := w.account()
			if tc.fault != nil {
				w.ca.Use(acmetest.At(tc.fault, acmetest.KeyChange))
			}
			if err := w.Rollover(t.Context()); (err == nil) != (tc.fault == nil) || advice.Of(err) != tc.code {
				t.Fatalf("got %v, %q", err, advice.Of(err))
			}
			if tc.fault != nil && w.account().NextKey == nil {
				t.Error("the next key was not stored before the request")
			}
			w.ca.Use()
			w.remake(nil)
			w.mustObtain(w.named("second", "second.example.com"))
			after := w.account()
			if after.URI != before.URI || after.NextKey != nil {
				t.Errorf("account %s, was %s, rollover open: %v", after.URI, before.URI, after.NextKey != nil)
			}
			if changed := !certs.SameKey(after.Key.Public(), before.Key.Public()); changed != tc.changed {
				t.Errorf("key changed: %v", changed)
			}
		})
	}
}

func TestRecover(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.request("example.com"))
	old := w.account()
	w.remake(func(c *issuer.Config) { c.Contact = "new@example.com" })
	w.mustObtain(w.named("another", "another.example.com"))
	replaced := w.account()
	if err := w.Recover(t.Context(), old.Key); err != nil {
		t.Fatal(err)
	}
	if w.account().URI != old.URI {
		t.Error("another account was recovered")
	}
	if !w.retired(replaced.Key) || w.retired(old.Key) {
		t.Error("the key of the replaced account was not kept, or the one in use was retired")
	}
	w.mustObtain(w.request("example.com"))
	stranger, err := certs.NewKey(certs.EC384)
	if err != nil {
		t.Fatal(err)
	}
	var permanent *certs.PermanentError
	if err := w.Recover(t.Context(), stranger); !errors.As(err, &permanent) {
		t.Errorf("got %v for a key the CA does not know", err)
	}
	if w.account().URI != old.URI {
		t.Error("a failed recovery changed the account")
	}
}

func TestExternalAccountBinding(t *testing.T) {
	hmac := []byte("0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	right := base64.RawURLEncoding.EncodeToString(hmac)
	wrong := base64.RawURLEncoding.EncodeToString(append([]byte("x"), hmac[1:]...))
	for _, tc := range []struct {
		name string
		eab  *issuer.EAB
		ok   bool
	}{
		{"default", &issuer.EAB{KeyID: "kid-1", HMAC: certs.Secret(right)}, true},
		{"padded", &issuer.EAB{KeyID: "kid-1", HMAC: certs.Secret(base64.URLEncoding.EncodeToString(hmac)), Algorithm: "HS256"}, true},
		{"384", &issuer.EAB{KeyID: "kid-1", HMAC: certs.Secret(right), Algorithm: "HS384"}, true},
		{"512", &issuer.EAB{KeyID: "kid-1", HMAC: certs.Secret(right), Algorithm: "HS512"}, true},
		{"wrong key", &issuer.EAB{KeyID: "kid-1", HMAC: certs.Secret(wrong)}, false},
		{"wrong id", &issuer.EAB{KeyID: "kid-2", HMAC: certs.Secret(right)}, false},
		{"missing", nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t, acmetest.WithEAB(map[string]string{"kid-1": right}))
			w.remake(func(c *issuer.Config) { c.EAB = tc.eab })
			_, err := w.obtain("example.com")
			var permanent *certs.PermanentError
			if tc.ok && err != nil || !tc.ok && !errors.As(err, &permanent) {
				t.Fatalf("got %v", err)
			}
			if err != nil && (strings.Contains(err.Error(), wrong) || strings.Contains(err.Error(), right)) {
				t.Error("the HMAC key is in the error")
			}
			if n := w.ca.Requests(acmetest.NewAccount); n > 1 {
				t.Errorf("%d registrations", n)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	w := newWorld(t)
	for name, change := range map[string]func(*issuer.Config){
		"plain http":   func(c *issuer.Config) { c.Directory = "http://ca.example.com/dir" },
		"password":     func(c *issuer.Config) { c.Directory = "https://a:hunter2@ca.example.com/dir" },
		"no url":       func(c *issuer.Config) { c.Directory = "\x7f" },
		"no store":     func(c *issuer.Config) { c.Store = nil },
		"contact":      func(c *issuer.Config) { c.Contact = "ops" },
		"two contacts": func(c *issuer.Config) { c.Contact = "a@example.com,b@example.com" },
		"eab without id": func(c *issuer.Config) {
			c.EAB = &issuer.EAB{HMAC: certs.Secret("aHVudGVyMmh1bnRlcjJodW50ZXIyaHVudGVyMg")}
		},
		"eab empty": func(c *issuer.Config) { c.EAB = &issuer.EAB{KeyID: "k"} },
		"eab short": func(c *issuer.Config) { c.EAB = &issuer.EAB{KeyID: "k", HMAC: certs.Secret("hunter2")} },
		"eab not base64url": func(c *issuer.Config) {
			c.EAB = &issuer.EAB{KeyID: "k", HMAC: certs.Secret("hunter2/hunter2+hunter2 hunter2")}
		},
		"eab algorithm": func(c *issuer.Config) {
			c.EAB = &issuer.EAB{KeyID: "k", HMAC: certs.Secret(strings.Repeat("a", 44)), Algorithm: "none"}
		},
	} {
		config := w.config
		change(&config)
		if _, err := issuer.New(config); err == nil {
			t.Errorf("%s was accepted", name)
		} else if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: the error repeats a secret: %v", name, err)
		}
	}
	if n := len(w.ca.AllRequests()); n != 0 {
		t.Errorf("New made requests to %d endpoints", n)
	}
}

func TestTermsOfService(t *testing.T) {
	w := newWorld(t)
	w.remake(func(c *issuer.Config) { c.AgreeTOS = false })
	var permanent *certs.PermanentError
	if _, err := w.obtain("example.com"); !errors.As(err, &permanent) || !strings.Contains(err.Error(), "agree_tos") {
		t.Errorf("got %v", err)
	}
	if n := w.ca.Requests(acmetest.NewAccount); n != 0 {
		t.Errorf("%d registrations", n)
	}
}

func TestOrderBudget(t *testing.T) {
	w := newWorld(t)
	clock := time.Now()
	w.remake(func(c *issuer.Config) { c.OrderBudget, c.Clock = 2, func() time.Time { return clock } })
	w.mustObtain(w.request("a.example.com"))
	w.mustObtain(w.request("b.example.com"))
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	w.remake(nil) // the count survives a restart
	_, err := w.obtain("c.example.com")
	var limit *certs.RateLimitError
	if !errors.As(err, &limit) || !limit.At.Equal(clock.Add(3*time.Hour)) || limit.Unavailable {
		t.Fatalf("got %v, want a rate limit of 3 hours", err)
	}
	if !strings.Contains(err.Error(), "orders_per_3h") {
		t.Errorf("%q does not name the setting", err)
	}
	if n := w.ca.Requests(acmetest.NewOrder); n != 2 {
		t.Errorf("%d orders", n)
	}
	clock = clock.Add(3 * time.Hour)
	w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return clock } })
	if _, err := w.obtain("c.example.com"); errors.As(err, &limit) {
		t.Errorf("still limited after the window: %v", err)
	}
}

func isUnavailable(err error) bool {
	var e *certs.UnavailableError
	return errors.As(err, &e)
}
