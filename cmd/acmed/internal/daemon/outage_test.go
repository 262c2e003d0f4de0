package daemon

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// TestOutage with a real CA: while it is away it is asked after 1, 10 and 100 minutes, whatever runs in between, and no
// name is blamed.
func TestOutage(t *testing.T) {
	ca := acmetest.Start(t)
	h := newHarness(t, ca)
	first := h.run(renewal.Options{})
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	h.wantNames("example.com", "www.example.com")
	if err := ca.Stop(); err != nil {
		t.Fatal(err)
	}
	for n, wait := range []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, day} {
		got := h.run(renewal.Options{})
		st := got.have.State
		var down *certs.UnavailableError
		if !errors.As(got.Err, &down) || got.Version != first.Version || st.Failures != n+1 || fmt.Sprint(got.told) != "[failed]" {
			t.Errorf("try %d: %+v, failures %d, told %s", n+1, got.Result, st.Failures, got.told)
		}
		if off := st.RetryAt.Sub(h.clock()) - wait; off.Abs() > wait/10+10*time.Second {
			t.Errorf("try %d: the next is in %s, want about %s", n+1, wait+off, wait)
		}
		if len(st.Invalid) != 0 || len(st.Issued) != 1 {
			t.Errorf("try %d: failed validations %v, issued %v", n+1, st.Invalid, st.Issued)
		}
		if n == 3 {
			break
		}
		h.ahead += wait / 2
		if early := h.run(renewal.Options{}); early.Reason != plan.ReasonBackoff || early.Err != nil || early.have.State.Failures != n+1 {
			t.Errorf("before try %d: %+v", n+2, early.Result)
		}
		h.goTo(st.RetryAt)
	}
	if err := ca.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := h.run(renewal.Options{}); got.Reason != plan.ReasonBackoff {
		t.Errorf("just back: %+v", got.Result)
	}
	h.ahead += day + day/8
	got := h.run(renewal.Options{})
	st := got.have.State
	if got.Err != nil || !got.Obtained || got.Version == first.Version || fmt.Sprint(got.told) != "[recovered]" {
		t.Errorf("back: %+v, told %s", got.Result, got.told)
	}
	if st.LastError != "" || st.Failures != 0 || !st.RetryAt.IsZero() || len(st.Down) != 0 {
		t.Errorf("back: state %+v", st)
	}
}

// TestForgedCertificate: what a CA sends for another key is not stored, is a failure like any other and counts as issued.
func TestForgedCertificate(t *testing.T) {
	forger, err := acmetest.NewForger()
	if err != nil {
		t.Fatal(err)
	}
	ca := acmetest.Start(t)
	h := newHarness(t, ca)
	first := h.run(renewal.Options{})
	if first.Err != nil {
		t.Fatal(first.Err)
	}
	h.wantNames("example.com", "www.example.com")
	ca.Use(acmetest.At(forger.Forge(acmetest.WrongKey), acmetest.Certificate))
	got := h.run(renewal.Options{})
	st := got.have.State
	var refused *certs.VetError
	if !errors.As(got.Err, &refused) || got.Version != first.Version || got.have.Version != first.Version || len(got.have.Versions) != 1 {
		t.Errorf("got %+v with %d versions", got.Result, len(got.have.Versions))
	}
	if st.LastError == "" || len(st.Issued) != 2 || fmt.Sprint(got.told) != "[failed]" {
		t.Errorf("last error %q, issued %v, told %s", st.LastError, st.Issued, got.told)
	}
	if again := h.run(renewal.Options{}); again.Err != nil || again.Obtained || len(again.told) != 0 {
		t.Errorf("a moment later: %+v, told %s", again.Result, again.told)
	}
	orders := ca.Requests(acmetest.NewOrder)
	h.goTo(st.RetryAt)
	if got := h.run(renewal.Options{}); got.Reason != plan.ReasonIssueLimit || ca.Requests(acmetest.NewOrder) != orders {
		t.Errorf("at the next try: %+v", got.Result)
	}
	ca.Use()
	h.ahead += day
	if got := h.run(renewal.Options{}); got.Err != nil || !got.Obtained || fmt.Sprint(got.told) != "[recovered]" {
		t.Errorf("an honest CA: %+v, told %s", got.Result, got.told)
	}
}
