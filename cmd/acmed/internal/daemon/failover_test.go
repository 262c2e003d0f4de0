package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/renewal"
)

// TestFailover with two real CAs: the backup serves when the first one has been unavailable for long enough, restarts in
// between included, never because of a name's own fault, and only until the first one is back.
func TestFailover(t *testing.T) {
	first := acmetest.Start(t)
	backup := acmetest.Start(t, acmetest.WithPorts(first.HTTPPort, 0), acmetest.WithProfile("default", 180*day)) // by the true time
	h := newHarness(t, first, backup)
	for _, step := range []struct {
		what    string
		change  func()
		issuer  string
		orders  int // at the backup, in all
		obtains bool
	}{
		{"all is well", func() {}, "first", 0, true},
		{"the name's own fault", func() { h.spec.Solvers = []string{"nowhere"} }, "first", 0, false},
		{"just down", func() { h.spec.Solvers = []string{"http"}; _ = first.Stop() }, "first", 0, false},
		{"down for an hour", func() { h.ahead = time.Hour }, "first", 0, false},
		{"down for a day", func() { h.ahead = 25 * time.Hour }, "backup", 1, true},
		{"down again and again", func() { h.ahead = 50 * time.Hour }, "backup", 2, true},
		{"back", func() { _ = first.Resume() }, "first", 2, true},
		{"maintenance", func() { first.Use(acmetest.At(acmetest.Unavailable("3600"))) }, "first", 2, false},
		{"maintenance for an hour", func() { h.ahead += 2 * time.Hour }, "first", 2, false},
		{"maintenance for a day", func() { h.ahead += day }, "backup", 3, true},
		{"maintenance is over", func() { first.Use(); h.ahead += 2 * time.Hour }, "first", 3, true},
		{"limited", func() { first.Use(acmetest.At(acmetest.RateLimited("3600"), acmetest.NewOrder)) }, "first", 3, false},
		{"limited for a day", func() { h.ahead += 25 * time.Hour }, "first", 3, false},
		{"maintenance, expiry near", func() { first.Use(acmetest.At(acmetest.Unavailable("3600"))); h.ahead += 80 * day }, "backup", 4, true},
	} {
		step.change()
		got := h.run(renewal.Options{Force: true})
		is := fmt.Sprintf("obtained %t from %s, %d orders at the backup", got.Obtained, got.have.Current.Issuer, backup.Requests(acmetest.NewOrder))
		if want := fmt.Sprintf("obtained %t from %s, %d orders at the backup", step.obtains, step.issuer, step.orders); is != want {
			t.Errorf("%s: %s, want %s (%v)", step.what, is, want, got.Err)
		}
	}
}

// TestBudgetIsNoOutage: new certificates beyond the account's own budget wait for it, and do not go to the backup.
func TestBudgetIsNoOutage(t *testing.T) {
	first := acmetest.Start(t)
	backup := acmetest.Start(t, acmetest.WithPorts(first.HTTPPort, 0))
	h := newHarness(t, first, backup)
	h.budget = 2
	for n, want := range []int{1, 2, 2, 2} {
		h.spec.Name = fmt.Sprintf("www%d", n)
		got := h.run(renewal.Options{})
		if got.Obtained != (n < h.budget) || first.Requests(acmetest.NewOrder) != want || backup.Requests(acmetest.NewOrder) != 0 {
			t.Errorf("certificate %d: %+v, %d orders, %d at the backup", n, got.Result, first.Requests(acmetest.NewOrder), backup.Requests(acmetest.NewOrder))
		}
	}
	at := h.run(renewal.Options{}).have.State.RetryAt
	if wait := at.Sub(h.clock()); wait < 3*time.Hour-time.Minute || wait > 3*time.Hour+time.Minute {
		t.Errorf("the next try is in %s", wait)
	}
	h.goTo(at)
	if got := h.run(renewal.Options{}); !got.Obtained || got.have.Current.Issuer != "first" {
		t.Errorf("after the wait: %+v", got.Result)
	}
}
