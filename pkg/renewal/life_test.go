package renewal

import (
	"context"
	"errors"
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
	s, err := NewScheduler(SchedulerConfig{Engine: b.engine, Schedule: schedule, Splay: 30 * time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	defer func() { stop(); <-ended }()
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
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, c.life)
				live(t, b, 365*day, func(now time.Time) {
					l := b.load(t)
					if l.Current == nil || !now.Before(l.Current.Leaf.NotAfter) {
						t.Fatalf("no valid certificate at %s", now)
					}
				})
				if n := b.ca.count(); n < c.orders || n > c.orders+2 {
					t.Errorf("%d orders in a year, want about %d", n, c.orders)
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

// TestARILoop: a CA that always wants a renewal gets two a day, not more.
func TestARILoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		past := time.Now().Add(-day)
		b.ca.window = certs.Window{Start: past, End: past.Add(time.Hour), RetryAfter: time.Minute}
		live(t, b, 10*day, func(time.Time) {})
		if n := b.ca.count(); n > 2*10+2 {
			t.Errorf("%d issuances in ten days", n)
		}
	})
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
		if b.server.serves != b.load(t).Current.Fingerprint() || b.server.installs != 2 {
			t.Errorf("serves %q after %d installs", b.server.serves, b.server.installs)
		}
	})
}
