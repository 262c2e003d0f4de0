package issuer_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// another makes a second issuer beside the one of the world, as a second entry of the configuration or a reload.
func (w *world) another(change func(*issuer.Config)) *issuer.Issuer {
	w.t.Helper()
	c := w.config
	if change != nil {
		change(&c)
	}
	i, err := issuer.New(c)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = i.Close() })
	return i
}

func TestTwoIssuersOneAccount(t *testing.T) {
	w := newWorld(t)
	w.remake(func(c *issuer.Config) { c.OrderBudget = 2 })
	second := w.another(func(c *issuer.Config) { c.Name = "second" })
	w.mustObtain(w.named("a", "a.example.com"))
	if _, err := second.Obtain(t.Context(), w.named("b", "b.example.com")); err != nil {
		t.Fatal(err)
	}
	if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations", n)
	}
	for _, i := range []*issuer.Issuer{w.Issuer, second} {
		var limit *certs.RateLimitError
		if _, err := i.Obtain(t.Context(), w.named("c", "c.example.com")); !errors.As(err, &limit) {
			t.Errorf("%s: %v, want the budget of both", i.Name(), err)
		}
	}
	if err := second.Rollover(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Account(t.Context()); err != nil {
		t.Errorf("after a rollover through the other issuer: %v", err)
	}
}

// TestRolloverDuringAnOrder: the key is replaced while an order waits for its solver, by the issuer of a reload, at a CA of
// which a part knows the new key late. The order ends well, and the new key is the one on disk.
func TestRolloverDuringAnOrder(t *testing.T) {
	for _, stale := range []int{0, 4} {
		w := newWorld(t)
		w.mustObtain(w.named("first", "first.example.com"))
		before := w.account()
		w.ca.Use(acmetest.StaleAccounts(stale))
		rolled := false
		w.solver.onPresent = func(ctx context.Context, _ challenges.Challenge) error {
			if rolled {
				return nil
			}
			rolled = true
			reloaded := w.another(nil)
			return reloaded.Rollover(ctx)
		}
		w.mustObtain(w.request("example.com"))
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if after := w.account(); certs.SameKey(after.Key.Public(), before.Key.Public()) || after.URI != before.URI {
			t.Error("the old key is back on disk, or the account is another one")
		}
		w.remake(nil)
		w.mustObtain(w.named("last", "last.example.com"))
		if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
			t.Errorf("%d registrations and look-ups", n)
		}
	}
}

// TestNewKeyIsKnownLate: every operation waits until the CA knows the new key, also after a restart.
func TestNewKeyIsKnownLate(t *testing.T) {
	for name, do := range map[string]func(w *world) error{
		"order":   func(w *world) error { _, err := w.obtain("example.com"); return err },
		"account": func(w *world) error { _, err := w.Account(w.t.Context()); return err },
		"contact": func(w *world) error { return w.UpdateContacts(w.t.Context(), "a@example.com") },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			if _, err := w.Account(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.ca.Use(acmetest.StaleAccounts(6))
			if err := w.Rollover(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.remake(nil)
			if err := do(w); err != nil {
				t.Error(err)
			}
			if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
				t.Errorf("%d requests for accounts", n)
			}
		})
	}
}

// TestNewKeyIsKnownMuchLater: what outlasts the wait is no permanent failure, and no reason for another account.
func TestNewKeyIsKnownMuchLater(t *testing.T) {
	w := newWorld(t)
	ahead := time.Duration(0)
	w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return time.Now().Add(ahead) } })
	w.mustObtain(w.named("first", "first.example.com"))
	w.ca.Use(acmetest.StaleAccounts(1000))
	if err := w.Rollover(t.Context()); err != nil {
		t.Fatal(err)
	}
	before := w.account()
	ahead = time.Minute
	_, err := w.obtain("example.com")
	var permanent *certs.PermanentError
	if err == nil || errors.As(err, &permanent) {
		t.Errorf("got %v", err)
	}
	w.ca.Use()
	w.mustObtain(w.request("example.com"))
	if w.account().URI != before.URI {
		t.Error("another account was registered")
	}
}

// TestRolloverGivenUpTooSoon: the answer to a rollover was lost, and the CA did not know the new key when it was asked. It
// is found again instead of registering another account.
func TestRolloverGivenUpTooSoon(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.named("first", "first.example.com"))
	before := w.account()
	w.ca.Use(acmetest.At(acmetest.ResetAfter(), acmetest.KeyChange))
	if err := w.Rollover(t.Context()); err == nil {
		t.Fatal("no error")
	}
	w.ca.Use(acmetest.At(acmetest.Times(1, acmetest.Problem(http.StatusBadRequest, "accountDoesNotExist", "who", "")), acmetest.NewAccount))
	w.mustObtain(w.request("example.com"))
	if after := w.account(); after.URI != before.URI || certs.SameKey(after.Key.Public(), before.Key.Public()) {
		t.Error("the account is another one, or has its old key")
	}
}

// TestEmailChanged: another email in the configuration is told to the CA; it makes no other account, whose key for external
// account binding may be used up. A contact that another issuer has is left alone.
func TestEmailChanged(t *testing.T) {
	w := newWorld(t)
	told := func(want string) {
		t.Helper()
		info, err := w.Account(t.Context())
		if err != nil || !slices.Equal(info.Contacts, []string{"mailto:" + want}) {
			t.Errorf("the CA has %q (%v), want %s", info.Contacts, err, want)
		}
	}
	email := func(address string, others ...string) {
		w.remake(func(c *issuer.Config) { c.Contact, c.Contacts = address, append(others, address) })
	}
	email("ops@example.com")
	w.mustObtain(w.request("example.com"))
	first := w.account()
	old := w.Issuer // not closed yet, as after a reload
	for _, address := range []string{"new@example.com", "ops@example.com", "last@example.com"} {
		email(address)
		w.mustObtain(w.named("second", "second.example.com"))
		told(address)
		if now := w.account(); now.URI != first.URI || !certs.SameKey(now.Key.Public(), first.Key.Public()) {
			t.Errorf("%s: the account is %s, was %s", address, now.URI, first.URI)
		}
	}
	if _, err := old.Obtain(t.Context(), w.named("old", "old.example.com")); err != nil {
		t.Errorf("the issuer of before: %v", err)
	}
	told("last@example.com")
	if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations", n)
	}
	email("other@example.com", "last@example.com")
	w.mustObtain(w.named("third", "third.example.com"))
	if w.account().URI == first.URI || w.ca.Requests(acmetest.NewAccount) != 2 {
		t.Error("the account of another issuer was taken")
	}
}

// TestEmailRefused: an address that the CA forbids is a permanent failure; the next one is told at once.
func TestEmailRefused(t *testing.T) {
	w := newWorld(t)
	w.remake(func(c *issuer.Config) { c.Contacts = []string{c.Contact} })
	w.mustObtain(w.request("example.com"))
	w.ca.Use(acmetest.At(acmetest.Problem(http.StatusBadRequest, "invalidContact", "no such domain", ""), acmetest.Account))
	w.remake(func(c *issuer.Config) { c.Contact, c.Contacts = "bad@example.net", []string{"bad@example.net"} })
	var permanent *certs.PermanentError
	if _, err := w.obtain("www.example.com"); !errors.As(err, &permanent) {
		t.Errorf("got %v", err)
	}
	w.ca.Use()
	w.remake(func(c *issuer.Config) { c.Contact, c.Contacts = "good@example.com", []string{"good@example.com"} })
	w.mustObtain(w.request("www.example.com"))
	if n := w.ca.Requests(acmetest.NewAccount); n != 1 {
		t.Errorf("%d registrations", n)
	}
}

// TestPauseOfAWrongClock: a pause that no CA can have asked for, or that was stored in what is now the future, counts no more.
func TestPauseOfAWrongClock(t *testing.T) {
	for name, tc := range map[string]struct {
		retry, saved time.Duration // from now
		limited      bool
	}{
		"honest":        {time.Hour, -time.Minute, true},
		"too long":      {72 * time.Hour, -time.Minute, false},
		"from tomorrow": {20 * time.Hour, 19 * time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.mustObtain(w.named("first", "first.example.com"))
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			dir := w.store.Dir()
			now := time.Now()
			u := store.Usage{RetryAt: now.Add(tc.retry), SavedAt: now.Add(tc.saved)}
			if tc.saved > 0 {
				u.Orders = []time.Time{u.SavedAt}
			}
			if err := errors.Join(w.store.SaveUsage(w.ca.Directory, w.config.Contact, u), w.store.Close()); err != nil {
				t.Fatal(err)
			}
			w.store = openStore(t, dir)
			w.remake(func(c *issuer.Config) { c.Store, c.OrderBudget = w.store, 1 })
			_, err := w.obtain("example.com")
			var limit *certs.RateLimitError
			if errors.As(err, &limit) != tc.limited || err != nil && !tc.limited {
				t.Errorf("got %v", err)
			}
		})
	}
}

// TestMendedAtTheCA: what the directory did not offer is looked up again before it is refused.
func TestMendedAtTheCA(t *testing.T) {
	w := newWorld(t)
	ahead := time.Duration(0)
	w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return time.Now().Add(ahead) } })
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
		meta, _ := doc["meta"].(map[string]any)
		delete(meta, "profiles")
	}), acmetest.Directory))
	var permanent *certs.PermanentError
	for range 3 {
		if _, err := w.obtain("example.com"); !errors.As(err, &permanent) {
			t.Fatalf("got %v", err)
		}
	}
	if n := w.ca.Requests(acmetest.Directory); n != 1 {
		t.Errorf("the directory was fetched %d times", n)
	}
	w.ca.Use()
	ahead = 2 * time.Minute
	w.mustObtain(w.request("example.com"))
}
