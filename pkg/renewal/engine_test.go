package renewal

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

func TestJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.ca.hold = make(chan struct{})
		results := make(chan Result, 3)
		var steps atomic.Int32
		run := func() {
			results <- b.engine.Run(t.Context(), "www", Options{}, func(certs.Step) { steps.Add(1) })
		}
		go run()
		synctest.Wait()
		go run() // joins in the middle and hears the beginning too
		gone, leave := context.WithCancelCause(t.Context())
		go func() { results <- b.engine.Run(gone, "www", Options{}, nil) }()
		synctest.Wait()
		leave(errors.New("the client went away"))
		if r := <-results; r.Err == nil || r.Err.Error() != "the client went away" {
			t.Errorf("the client that left got %v", r.Err)
		}
		close(b.ca.hold)
		first, second := <-results, <-results
		if first.Err != nil || !first.Obtained || first.Version != second.Version {
			t.Errorf("results differ: %+v and %+v", first, second)
		}
		if b.ca.count() != 1 {
			t.Errorf("%d orders, want one for all", b.ca.count())
		}
		if n := steps.Load(); n%2 != 0 || n < 10 {
			t.Errorf("%d steps told, want the same ones to both", n)
		}
	})
}

// TestForceJoinsIdle: a forced run that met an ordinary job which found nothing to do still renews.
func TestForceJoinsIdle(t *testing.T) {
	b := newBench(t, 90*day)
	if r := b.engine.Run(t.Context(), "www", Options{}, nil); r.Err != nil {
		t.Fatal(r.Err)
	}
	done := make(chan Result, 1)
	go func() { done <- b.engine.Run(t.Context(), "www", Options{}, nil) }()
	r := b.engine.Run(t.Context(), "www", Options{Force: true}, nil)
	<-done
	if !r.Obtained || b.ca.count() != 2 || r.Reason != plan.ReasonForced {
		t.Errorf("%+v after %d orders", r, b.ca.count())
	}
	if b.ca.replace[1] == nil {
		t.Error("a renewal must say which certificate it replaces")
	}
}

// TestForcedTriesTargets: when a target failed a moment ago, an operator's renewal tries it at once with the new version,
// and the scheduler's does not.
func TestForcedTriesTargets(t *testing.T) {
	b := newBench(t, 90*day)
	b.server.set(errors.New("the disk is full"), "")
	if r := b.engine.Run(t.Context(), "www", Options{}, nil); r.Err == nil {
		t.Fatal("the target did not fail")
	}
	b.server.set(nil, "")
	if r := b.engine.Run(t.Context(), "www", Options{}, nil); r.Err != nil || r.Changed {
		t.Errorf("the scheduler did not wait: %+v", r)
	}
	r := b.engine.Run(t.Context(), "www", Options{Force: true, Retry: true}, nil)
	if st := b.load(t).State; r.Err != nil || !r.Obtained || st.Installed["web"].LastError != "" || st.Installed["web"].Fingerprint == "" {
		t.Errorf("%+v, target %+v", r, st.Installed)
	}
}

func TestPanicFailsOneJob(t *testing.T) {
	b := newBench(t, 90*day)
	b.ca.panics = true
	r := b.engine.Run(t.Context(), "www", Options{}, nil)
	if r.Err == nil || !strings.Contains(r.Err.Error(), "a mistake in an issuer") {
		t.Fatalf("got %v", r.Err)
	}
	if st := b.load(t).State; st.Failures != 1 || st.RetryAt.Before(time.Now()) {
		t.Errorf("the panic is not in the schedule: %+v", st)
	}
	b.ca.panics = false
	if r := b.engine.Run(t.Context(), "www", Options{Force: true}, nil); r.Err != nil {
		t.Errorf("the engine did not survive: %v", r.Err)
	}
}

// TestCrashLoop: tries that never end are taken up once and then follow the schedule, through restarts.
func TestCrashLoop(t *testing.T) {
	b := newBench(t, 90*day)
	for i := range 10 { // each round is a start that was killed within the order
		p := plan.Decide(time.Now(), &b.spec, b.load(t), plan.Options{})
		if want := i < 2; p.Obtain != want {
			t.Fatalf("start %d: obtain %v, want %v (%s)", i, p.Obtain, want, p.Message)
		}
		if p.Obtain {
			r, err := b.engine.open("www")
			if err == nil {
				err = r.beginOrder()
			}
			if err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestStopped: a job that is cancelled by a stop is no failure, and the next start tries at once.
func TestStopped(t *testing.T) {
	b := newBench(t, 90*day)
	b.ca.hold = make(chan struct{})
	done := make(chan Result, 1)
	go func() { done <- b.engine.Run(t.Context(), "www", Options{}, nil) }()
	for b.ca.count() == 0 {
		time.Sleep(time.Millisecond)
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	b.engine.Close(now)
	if r := <-done; r.Err == nil {
		t.Error("a stopped job must not look like success")
	}
	st := b.load(t).State
	if st.Failures != 0 || st.Attempts != 0 || !st.RetryAt.IsZero() {
		t.Errorf("a stop counts as a failure: %+v", st)
	}
	if r := b.engine.Run(t.Context(), "www", Options{}, nil); !errors.Is(r.Err, ErrClosed) {
		t.Errorf("a closed engine took a job: %v", r.Err)
	}
}

func TestRateLimit(t *testing.T) {
	b := newBench(t, 90*day)
	at := time.Now().Add(3 * time.Hour)
	b.ca.fail(&certs.RateLimitError{At: at, Err: errors.New("too many certificates")})
	r := b.engine.Run(t.Context(), "www", Options{}, nil)
	st := b.load(t).State
	if r.Err == nil || st.RetryAt.Before(at) || st.RetryAt.After(at.Add(time.Minute)) || st.Failures != 0 {
		t.Errorf("retry at %s after %d failures, want %s", st.RetryAt, st.Failures, at)
	}
}

func TestFailover(t *testing.T) {
	now := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	down := &certs.UnavailableError{Directory: "https://ca.example", Err: errors.New("503")}
	maintained := &certs.RateLimitError{At: now.Add(time.Hour), Err: errors.New("503"), Unavailable: true}
	limited := &certs.RateLimitError{At: now.Add(time.Hour), Err: errors.New("429")}
	refused := &certs.AccountError{Err: &certs.PermanentError{Err: errors.New("403 unauthorized")}}
	wrong := &certs.ValidationError{Identifier: identifiers(t, "example.com")[0], Solver: "http-01", Err: errors.New("404")}
	spec := &certs.Spec{}
	for _, c := range []struct {
		name  string
		left  time.Duration // 0: no certificate yet
		since time.Duration // the CA is down for this long already
		err   error
		want  bool
		down  bool // afterwards
	}{
		{"first certificate", 0, 0, down, true, true},
		{"just down", 29 * day, 0, down, false, true},
		{"down for an hour", 29 * day, time.Hour, down, false, true},
		{"down for a day", 28 * day, day, down, true, true},
		{"just down, expiry near", 9 * day, 0, down, true, true},
		{"first certificate, maintenance", 0, 0, maintained, true, true},
		{"maintenance", 29 * day, 0, maintained, false, true},
		{"maintenance for a day", 28 * day, day, maintained, true, true},
		{"first certificate, limited", 0, 0, limited, false, false},
		{"first certificate, limited after a day of downtime", 0, day, limited, false, true},
		{"limited", 28 * day, 0, limited, false, false},
		{"limited after a day of downtime", 28 * day, day, limited, false, true},
		{"limited, expiry near", 9 * day, 0, limited, true, false},
		{"first certificate, account refused", 0, 0, refused, true, false},
		{"account refused", 29 * day, 0, refused, false, false},
		{"account refused, expiry near", 9 * day, 0, refused, true, false},
		{"a name's own fault", 2 * day, 5 * day, wrong, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			have := &store.Lineage{}
			if c.left != 0 {
				have.Current = bundleOf(t, now.Add(c.left-90*day), 90*day, "example.com")
			}
			if c.since != 0 {
				have.State.Down = map[string]time.Time{"ca": now.Add(-c.since)}
			}
			r := &record{Lineage: have, now: func() time.Time { return now }}
			if got := r.failover(spec, "ca", c.err); got != c.want {
				t.Errorf("got %v, want %v", got, c.want)
			}
			if _, known := have.State.Down["ca"]; known != c.down {
				t.Errorf("the state says down=%v, want %v", known, c.down)
			}
		})
	}
}
