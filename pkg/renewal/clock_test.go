package renewal

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// TestClockJump: a clock that is suddenly a year ahead renews nothing while a CA says otherwise, and everything goes on
// when it is set back. A machine that was suspended catches up at once, because the CA agrees.
func TestClockJump(t *testing.T) {
	for _, c := range []struct {
		name    string
		jump    time.Duration
		ca      func(now time.Time) (time.Time, error) // what the CA says, given the true time
		renewed bool                                   // within three hours of the jump
	}{
		{"a year ahead, the CA disagrees", 365 * day, func(now time.Time) (time.Time, error) { return now, nil }, false},
		{"suspended for 70 days", 70 * day, func(now time.Time) (time.Time, error) { return now.Add(70 * day), nil }, true},
		{"ahead, no CA to ask, steady since", 70 * day, func(time.Time) (time.Time, error) { return time.Time{}, errors.New("down") }, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var offset atomic.Int64
				clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				b := newBenchAt(t, 90*day, clock)
				set := b.set()
				set.ClockOffsets = func(context.Context) map[string]time.Duration {
					ca, err := c.ca(time.Now())
					if err != nil {
						return nil
					}
					return map[string]time.Duration{"ca": clock().Sub(ca)}
				}
				b.engine.Swap(set)
				_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly", Clock: clock})
				defer stop()
				time.Sleep(2*time.Hour + 30*time.Minute) // between two sweeps
				offset.Store(int64(c.jump))
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if renewed := b.ca.count() > 1; renewed != c.renewed {
					t.Errorf("renewed: %v, want %v", renewed, c.renewed)
				}
				offset.Store(0)
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if s, err := b.engine.Status("www"); err != nil || !c.renewed && s.Health != HealthOK {
					t.Errorf("after the clock was set back: %+v, %v", s, err)
				}
			})
		})
	}
}

// TestClockAtStart: a machine that starts with a wrong clock renews nothing that is there until the clock is right, one
// whose clock is right renews what is due, and nobody is asked for the time while there is nothing to do.
func TestClockAtStart(t *testing.T) {
	const years = 365 * day
	for _, c := range []struct {
		name    string
		age     time.Duration // of the certificate when the machine starts
		off     time.Duration // of the clock then
		silent  bool          // no CA tells the time
		doubted bool
		orders  int // three hours after the start, the first one included
		asked   bool
	}{
		{"right, nothing due", time.Hour, 0, false, false, 1, false},
		{"right, due", 61 * day, 0, false, false, 2, true},
		{"a year ahead", time.Hour, years, false, true, 1, true},
		{"a year ahead, no CA to ask", time.Hour, years, true, false, 6, true}, // all that is issued has ended: further and further apart
		{"a year behind", time.Hour, -years, false, true, 1, true},
		{"behind by less than the certificate's age", 40 * day, -20 * day, false, true, 1, true},
		{"behind, in the last tenth", 85 * day, -10 * day, false, true, 2, true},
		{"none yet, a year ahead", 0, years, false, true, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var offset, asked atomic.Int64
				clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load())) }
				b := newBenchAt(t, 90*day, clock)
				if c.age > 0 {
					b.engine.Run(t.Context(), "www", Options{}, nil)
					time.Sleep(c.age)
				}
				offset.Store(int64(c.off))
				set := b.set()
				set.ClockOffsets = func(context.Context) map[string]time.Duration {
					asked.Add(1)
					if c.silent {
						return nil
					}
					return map[string]time.Duration{"ca": time.Duration(offset.Load())}
				}
				b.engine.Swap(set)
				_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly", Clock: clock})
				defer stop()
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if got := b.engine.ClockProblem() != ""; got != c.doubted || (asked.Load() > 0) != c.asked {
					t.Errorf("doubted %v, want %v; asked %d times", got, c.doubted, asked.Load())
				}
				if b.ca.count() != c.orders {
					t.Errorf("%d orders, want %d", b.ca.count(), c.orders)
				}
				offset.Store(0)
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				if b.engine.ClockProblem() != "" {
					t.Error("a clock that is right is not believed")
				}
				if due := c.age > 60*day; due && b.ca.count() != 2 {
					t.Errorf("%d orders after the clock was set", b.ca.count())
				}
			})
		})
	}
}

// TestClockAskedOnce: however many certificates are due at the start, a CA is asked for the time once.
func TestClockAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		var asked atomic.Int64
		set := b.set()
		set.ClockOffsets = func(context.Context) map[string]time.Duration {
			asked.Add(1)
			time.Sleep(time.Second)
			return map[string]time.Duration{"ca": 0}
		}
		b.engine.Swap(set)
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { b.engine.confirmClock(t.Context(), []string{"ca"}) })
		}
		wg.Wait()
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
	})
}

// TestAlerts: people are told at 14, 7, 3 and 1 days, once each, and not at all while things go well.
func TestAlerts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		live(t, b, 2*day, func(time.Time) {})
		b.ca.fail(&certs.PermanentError{Err: errors.New("the name is forbidden")})
		live(t, b, 92*day, func(time.Time) {})
		n := 0
		for _, kind := range b.events.kinds() {
			if kind == notify.Expiring {
				n++
			}
		}
		if n != len(plan.AlertDays()) {
			t.Errorf("%d alerts, want %d", n, len(plan.AlertDays()))
		}
	})
	for _, c := range []struct {
		left, before time.Duration
		told, days   int
		due          bool
	}{
		{15 * day, 30 * day, 0, 0, false}, {14 * day, 30 * day, 0, 14, true}, {13 * day, 30 * day, 14, 14, false},
		{6 * day, 30 * day, 14, 7, true}, {time.Hour, 30 * day, 0, 1, true}, {time.Hour, 30 * day, 1, 1, false},
		{-day, 30 * day, 3, 1, true}, {2 * day, 3 * day, 0, 0, false}, {day, 3 * day, 0, 1, true},
	} {
		now := time.Now()
		if days, due := plan.AlertDue(now, now.Add(c.left), c.before, c.told); days != c.days || due != c.due {
			t.Errorf("plan.AlertDue(%s left, told %d) = %d, %v", c.left, c.told, days, due)
		}
	}
}

// TestWindow: an ordinary renewal waits for the maintenance window, and no longer than half of the renewal time.
func TestWindow(t *testing.T) {
	for _, c := range []struct {
		name     string
		schedule string
		want     func(time.Time) bool
	}{
		{"nightly", "0 2 * * *", func(at time.Time) bool { return at.Hour() >= 2 && at.Hour() < 4 }},
		{"once a year", "0 0 1 7 *", func(at time.Time) bool { return true }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 90*day)
				b.spec.Window = &certs.Maintenance{Schedule: c.schedule, Length: 2 * time.Hour}
				b.engine.Swap(b.set())
				live(t, b, 80*day, func(time.Time) {})
				if len(b.ca.orders) != 2 {
					t.Fatalf("%d orders", len(b.ca.orders))
				}
				at := b.ca.orders[1]
				left := b.ca.orders[0].Add(90 * day).Sub(at)
				if !c.want(at) || left < 14*day || left > 30*day {
					t.Errorf("renewed at %s with %s left", at, left)
				}
			})
		})
	}
	if err := plan.CheckWindow(certs.Maintenance{Schedule: "0 2 * * *", Length: time.Minute}); err == nil {
		t.Error("a window of a minute is accepted")
	}
}

// TestOneWrongCA: a CA whose own clock is wrong is doubted for its own certificates alone, and not in their last tenth.
func TestOneWrongCA(t *testing.T) {
	hours := func(h int) time.Duration { return time.Duration(h) * time.Hour }
	for _, c := range []struct {
		name    string
		issuers []string
		offsets map[string]time.Duration
		doubted bool
	}{
		{"an unrelated lab CA", []string{"le"}, map[string]time.Duration{"a-lab": hours(2), "le": 0}, false},
		{"its own CA", []string{"a-lab"}, map[string]time.Duration{"a-lab": hours(2), "le": 0}, true},
		{"its own CA, behind", []string{"a-lab"}, map[string]time.Duration{"a-lab": hours(-2), "le": 0, "zero": 0}, true},
		{"its own agrees, all others do not", []string{"le"}, map[string]time.Duration{"x": hours(2), "y": hours(2), "le": 0}, false},
		{"its own is silent, one of two disagrees", []string{"le"}, map[string]time.Duration{"a-lab": hours(2), "zero": 0}, false},
		{"its own is silent, most disagree", []string{"le"}, map[string]time.Duration{"a-lab": hours(2), "x": hours(3), "zero": 0}, true},
		{"one of its two", []string{"a-lab", "le"}, map[string]time.Duration{"a-lab": hours(2), "le": 0}, false},
		{"nobody answers", []string{"le"}, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for left, late := range map[time.Duration]bool{20 * day: false, 5 * day: true} {
				synctest.Test(t, func(t *testing.T) {
					b := newBench(t, 90*day)
					set := b.set()
					cert := set.Certificates["www"]
					cert.Spec.Issuers = c.issuers
					set.Certificates["www"] = cert
					set.Issuers = map[string]Issuer{}
					for _, name := range c.issuers {
						set.Issuers[name] = &namedCA{b.ca, name}
					}
					set.ClockOffsets = func(context.Context) map[string]time.Duration { return c.offsets }
					b.engine.Swap(set)
					b.run(t, Options{})
					time.Sleep(90*day - left)
					b.run(t, Options{})
					if renewed := b.ca.count() == 2; renewed != (!c.doubted || late) {
						t.Errorf("%s left: renewed %v", left, renewed)
					}
					if s := b.status(t); c.doubted && !late && (s.Reason != plan.ReasonClock || b.count(notify.ClockDoubted) != 1 || b.engine.ClockProblem() == "") {
						t.Errorf("%s left: %s, told %d times, %q", left, s.Reason, b.count(notify.ClockDoubted), b.engine.ClockProblem())
					}
				})
			}
		})
	}
}
