package renewal

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// swapAsked is a reload with what an operator changed: what an order depends on, or the settings of the target.
func (b *bench) swapAsked(order, target string) {
	set := b.set()
	c := set.Certificates["www"]
	c.Asked, c.AskedOf = order, map[string]string{"web": target}
	set.Certificates["www"] = c
	b.engine.Swap(set)
}

// TestMendedOrder: after a failure that only an operator can mend, what was mended is tried at once: by the next sweep
// after a reload or a restart, and when a person asks. What was not mended waits, and so does what the CA paused.
func TestMendedOrder(t *testing.T) {
	permanent := &certs.PermanentError{Err: errors.New("unknown profile")}
	for _, c := range []struct {
		name   string
		err    func() error
		mend   func(*bench)
		opts   Options
		orders int
	}{
		{"not mended", func() error { return permanent }, func(*bench) {}, Options{Retry: true}, 1},
		{"reloaded without a change", func() error { return permanent }, func(b *bench) { b.swapAsked("1", "") }, Options{}, 1},
		{"mended", func() error { return permanent }, func(b *bench) { b.swapAsked("2", "") }, Options{}, 2},
		{"a person asks", func() error { return permanent }, func(*bench) {}, Options{Again: true, Retry: true}, 2},
		{"other failure, mended", func() error { return errors.New("no route") }, func(b *bench) { b.swapAsked("2", "") }, Options{}, 2},
		{"paused by the CA, mended", func() error { return limit() }, func(b *bench) { b.swapAsked("2", "") }, Options{Again: true}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 90*day)
				b.swapAsked("1", "")
				b.ca.fail(c.err())
				b.engine.Run(t.Context(), "www", Options{}, nil)
				c.mend(b)
				b.engine.Run(t.Context(), "www", c.opts, nil)
				if n := b.ca.count(); n != c.orders {
					t.Errorf("%d orders, want %d", n, c.orders)
				}
				if asked := c.opts.Again && c.orders == 2; b.ca.persons > 0 != asked {
					t.Errorf("%d orders said that a person asked", b.ca.persons)
				}
				before := b.ca.count()
				b.engine.Run(t.Context(), "www", Options{}, nil)
				if n := b.ca.count(); n != before {
					t.Errorf("tried %d times more without a change", n-before)
				}
				if st := b.load(t).State; st.Failures > c.orders || c.orders == 2 && st.Failures != 2 {
					t.Errorf("%d failures counted of %d", st.Failures, c.orders)
				}
			})
		})
	}
}

func limit() error {
	return &certs.RateLimitError{At: time.Now().Add(12 * time.Hour), Err: errors.New("too many certificates")}
}

// TestPermanentOnce: a permanent failure skips the quick tries, and counts as what it is.
func TestPermanentOnce(t *testing.T) {
	b := newBench(t, 90*day)
	b.ca.fail(&certs.PermanentError{Err: errors.New("unknown profile")})
	b.engine.Run(t.Context(), "www", Options{}, nil)
	st := b.load(t).State
	if wait := time.Until(st.RetryAt); st.Failures != 1 || wait < 20*time.Hour {
		t.Errorf("failure %d, tried again in %s", st.Failures, wait)
	}
}

// TestRefusedEdit: an edit that the server itself refused is tried again once a day, at once when the target's settings
// changed, and when an operator asks.
func TestRefusedEdit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.swapAsked("", "1")
		b.server.set(&installers.RefusedEditError{Err: errors.New("unknown directive")}, "")
		_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly"})
		defer stop()
		installs := func(after time.Duration) int {
			time.Sleep(after)
			synctest.Wait()
			b.server.mu.Lock()
			defer b.server.mu.Unlock()
			return b.server.installs
		}
		if n := installs(20 * time.Hour); n != 1 {
			t.Errorf("%d installs in 20 hours", n)
		}
		b.swapAsked("", "1")
		if n := installs(90 * time.Minute); n != 1 { // a day less a tenth has not passed
			t.Errorf("%d installs after a reload without a change", n)
		}
		b.swapAsked("", "2")
		if n := installs(70 * time.Minute); n != 2 {
			t.Errorf("%d installs after the settings changed", n)
		}
		b.engine.Run(t.Context(), "www", Options{Retry: true}, nil)
		if n := installs(0); n != 3 {
			t.Errorf("%d installs after an operator asked", n)
		}
		if n := installs(3 * day); n < 5 || n > 7 {
			t.Errorf("%d installs after three days more", n)
		}
	})
}

// TestProgressAfterRun: a listener whose Run has returned is not called again, and one that panics ends no job.
func TestProgressAfterRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.ca.hold = make(chan struct{})
		done := make(chan Result)
		go func() { done <- b.engine.Run(t.Context(), "www", Options{}, nil) }()
		synctest.Wait()
		returned := false
		gone, leave := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			b.engine.Run(gone, "www", Options{}, func(certs.Step) {
				if returned {
					panic("told after Run returned")
				}
			})
			returned = true
		}()
		go func() {
			done <- b.engine.Run(t.Context(), "www", Options{}, func(certs.Step) { panic("a client that is gone") })
		}()
		synctest.Wait()
		leave()
		<-left
		close(b.ca.hold)
		for range 2 {
			if r := <-done; r.Err != nil || !r.Obtained {
				t.Errorf("%+v", r)
			}
		}
	})
}

// TestQueueBlocksNobody: while a hundred certificates wait behind a job that hangs, one that becomes urgent is the next,
// and the loop goes round.
func TestQueueBlocksNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.run(t, Options{})
		set := b.set()
		set.Concurrency = 1
		for i := range 100 {
			c := set.Certificates["www"]
			c.Spec.Name = "site" + string(rune('a'+i/26)) + string(rune('a'+i%26))
			set.Certificates[c.Spec.Name] = c
		}
		b.engine.Swap(set)
		b.ca.hold = make(chan struct{})
		s, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly"})
		synctest.Wait()
		s.mu.Lock()
		queued, round := len(s.queue), s.round
		s.mu.Unlock()
		time.Sleep(61 * time.Minute)
		synctest.Wait()
		s.mu.Lock()
		if queued != 100 || len(s.queue) != 100 || !s.round.After(round) {
			t.Errorf("%d queued, then %d, the last round at %s and %s", queued, len(s.queue), round, s.round)
		}
		s.mu.Unlock()
		close(b.ca.hold)
		stop()
		if p := plan.Decide(time.Now(), &b.spec, b.load(t), plan.Options{}); p.Obtain {
			t.Errorf("%+v", p)
		}
	})
}
