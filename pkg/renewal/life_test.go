package renewal

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
)

// live runs the scheduler on a bench for a while of fake time, and calls check every six hours.
func live(t *testing.T, b *bench, d time.Duration, check func(time.Time)) {
	t.Helper()
	liveBy(t, b, "@hourly", d, check)
}

func liveBy(t *testing.T, b *bench, schedule string, d time.Duration, check func(time.Time)) {
	t.Helper()
	_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: schedule, Splay: 30 * time.Minute})
	defer stop()
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(6 * time.Hour)
		synctest.Wait()
		check(time.Now())
	}
}

// TestLives lets certificates live for a year: they are never without a valid certificate, and the CA sees no more
// orders than the lifetime calls for.
func TestLives(t *testing.T) {
	for _, c := range []struct {
		life   time.Duration
		orders int // in a year, one more allowed for the ends
	}{
		{90 * day, 6}, {45 * day, 12}, {6 * day, 121}, {398 * day, 1},
	} {
		t.Run(c.life.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, c.life)
				live(t, b, lifeDays*day, func(now time.Time) {
					l := b.load(t)
					if l.Current == nil || !now.Before(l.Current.Leaf.NotAfter) {
						t.Fatalf("no valid certificate at %s", now)
					}
				})
				if n, want := b.ca.count(), c.orders*lifeDays/365; n < want || n > want+2 {
					t.Errorf("%d orders in %d days, want about %d", n, lifeDays, want)
				}
				if n := len(b.load(t).Versions); n > 1+2+1 {
					t.Errorf("%d versions kept", n)
				}
			})
		})
	}
}

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		down := &certs.UnavailableError{Directory: "https://ca.example", Err: errors.New("connection refused")}
		live(t, b, 59*day, func(time.Time) {})
		b.ca.fail(down)
		before := b.ca.count()
		live(t, b, 10*day, func(time.Time) {}) // a second scheduler: as if restarted
		tries := b.ca.count() - before
		if tries < 8 || tries > 14 {
			t.Errorf("%d tries in ten days, want 1, 10, 100 minutes and then daily", tries)
		}
		if kinds := b.events.kinds(); kinds[len(kinds)-1] != notify.Failed {
			t.Errorf("events %v, want the last one to be a failure", kinds)
		}
		b.ca.fail(nil)
		live(t, b, 2*day, func(time.Time) {})
		l := b.load(t)
		if left := time.Until(l.Current.Leaf.NotAfter); left < 85*day {
			t.Errorf("not renewed after the outage, %s left", left)
		}
		if kinds := b.events.kinds(); kinds[len(kinds)-1] != notify.Recovered {
			t.Errorf("events %v, want the last one to tell of the recovery", kinds)
		}
		if l.State.Failures != 0 || l.State.LastError != "" {
			t.Errorf("the failure is still in the state: %+v", l.State)
		}
	})
}

// TestARI: the window is asked for, its time is drawn once, and it is obeyed.
func TestARI(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		live(t, b, day, func(time.Time) {})
		start := time.Now().Add(5 * day)
		b.ca.mu.Lock()
		b.ca.window = certs.Window{Start: start, End: start.Add(2 * day), RetryAfter: 6 * time.Hour}
		b.ca.mu.Unlock()
		var drawn time.Time
		first := b.load(t).Version
		var renewed time.Time
		live(t, b, 9*day, func(now time.Time) {
			l := b.load(t)
			if l.Version != first {
				if renewed.IsZero() {
					renewed = now
					b.ca.mu.Lock()
					b.ca.window = certs.Window{}
					b.ca.mu.Unlock()
				}
				return
			}
			switch {
			case l.State.RenewAt.IsZero():
			case drawn.IsZero():
				drawn = l.State.RenewAt
			case !drawn.Equal(l.State.RenewAt):
				t.Fatalf("the time was drawn again: %s, then %s", drawn, l.State.RenewAt)
			}
		})
		if drawn.Before(start) || drawn.After(start.Add(2*day)) {
			t.Errorf("drawn %s outside of the window from %s", drawn, start)
		}
		if renewed.Before(drawn) || renewed.After(drawn.Add(7*time.Hour)) {
			t.Errorf("renewed %s, drawn was %s", renewed, drawn)
		}
	})
}

// TestARILoop: a CA that always wants a renewal gets two a day, not more. People are told once, restarts included, and
// again when it begins anew.
func TestARILoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		time.Sleep(2 * day) // the fake time begins in 2000, and a state with times before that is repaired
		past := time.Now().Add(-day)
		b.ca.setWindow(certs.Window{Start: past, End: past.Add(time.Hour), RetryAfter: time.Minute})
		told := func() int { return count(b.events.kinds(), notify.Limited) }
		live(t, b, 5*day, func(time.Time) {})
		if n := told(); n != 1 {
			t.Errorf("told %d times", n)
		}
		e := b.events.last(notify.Limited)
		if e.Version == "" || e.NotAfter.IsZero() || !strings.Contains(e.Message, "the CA asks for renewal") {
			t.Errorf("told %+v", e)
		}
		if wait := e.RetryAt.Sub(e.Time); wait <= 0 || wait > day {
			t.Errorf("it is to wait for %s", wait)
		}
		b.restart(t)
		live(t, b, 5*day, func(time.Time) {})
		if n := b.ca.count(); n < 2*10-2 || n > 2*10+2 {
			t.Errorf("%d issuances in ten days", n)
		}
		if n := told(); n != 1 {
			t.Errorf("told %d times in ten days", n)
		}
		b.ca.setWindow(certs.Window{})
		live(t, b, 3*day, func(time.Time) {})
		b.ca.setWindow(certs.Window{Start: past, End: past.Add(time.Hour), RetryAfter: time.Minute})
		live(t, b, 3*day, func(time.Time) {})
		if n := told(); n != 2 {
			t.Errorf("told %d times after the second loop began", n)
		}
	})
}

// TestRefusedLoop: what a CA issues and acmed refuses is an issuance too, with a certificate and without.
func TestRefusedLoop(t *testing.T) {
	for _, first := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b := newBench(t, 90*day)
			if !first {
				live(t, b, 59*day, func(time.Time) {})
			}
			before := b.ca.count()
			b.ca.fail(&certs.VetError{Err: errors.New("it is for another key")})
			live(t, b, 10*day, func(time.Time) {})
			orders := b.ca.orders[before:]
			for i := 2; i < len(orders); i++ {
				if orders[i].Sub(orders[i-2]) < day {
					t.Errorf("first %t: three orders within a day: %s", first, orders[i-2:i+1])
				}
			}
			if n := len(orders); n < 8 {
				t.Errorf("first %t: %d orders in ten days", first, n)
			}
			if n := count(b.events.kinds(), notify.Limited); n != 1 {
				t.Errorf("first %t: told %d times of the limit", first, n)
			}
			b.ca.fail(nil)
			live(t, b, 2*day, func(time.Time) {})
			if l := b.load(t); l.Current == nil || time.Until(l.Current.Leaf.NotAfter) < 87*day {
				t.Errorf("first %t: not obtained after the CA was mended", first)
			}
		})
	}
}

func TestTargetFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.server.set(errors.New("reload failed"), "")
		live(t, b, 3*day, func(time.Time) {})
		if n := b.ca.count(); n != 1 {
			t.Errorf("%d orders: a failed installation must not order again", n)
		}
		if n := b.server.installs; n < 5 || n > 8 {
			t.Errorf("%d installs in three days, want 1, 10, 100 minutes and then daily", n)
		}
		b.server.set(nil, "")
		live(t, b, 2*day, func(time.Time) {})
		s, err := b.engine.Status("www")
		if err != nil || s.Health != HealthOK {
			t.Errorf("status %+v, %v, want ok", s, err)
		}
	})
}

// TestDrift: when something else is served, the daily look installs again.
func TestDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		live(t, b, day/2, func(time.Time) {})
		b.server.set(nil, "something else")
		live(t, b, 2*day, func(time.Time) {})
		if b.server.served() != b.load(t).Current.Fingerprint() || b.server.installs != 2 {
			t.Errorf("serves %q after %d installs", b.server.served(), b.server.installs)
		}
	})
}
