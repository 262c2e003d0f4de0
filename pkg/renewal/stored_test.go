package renewal

import (
	"context"
	"errors"
	"reflect"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// wrongFor runs the scheduler with a clock that is wrong by off for ten minutes, and nobody to ask for the time.
func wrongFor(t *testing.T, off time.Duration, before, during, after func(*bench)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		var offset atomic.Int64
		b := newBenchAt(t, 800*day, func() time.Time { return time.Now().Add(time.Duration(offset.Load())) })
		b.engine.Swap(b.withHooks(Hooks{}))
		before(b)
		offset.Store(int64(off))
		during(b)
		time.Sleep(10 * time.Minute)
		offset.Store(0)
		_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly"})
		defer stop()
		after(b)
	})
}

// TestYearAhead: whatever was stored while the clock was a year ahead, without anybody to say so, is not waited for when
// it is right again.
func TestYearAhead(t *testing.T) {
	const year = 365 * day
	failing := errors.New("nginx is away")
	run := func(b *bench) { b.engine.Run(context.Background(), "www", Options{}, nil) }
	t.Run("target that fails", func(t *testing.T) {
		wrongFor(t, year, func(b *bench) { b.server.set(failing, "") }, run, func(b *bench) {
			b.server.set(nil, "")
			time.Sleep(time.Hour)
			synctest.Wait()
			if b.server.served() != b.load(t).Current.Fingerprint() {
				t.Errorf("not installed: %+v", b.load(t).State.Installed)
			}
		})
	})
	t.Run("target that asks to be called later", func(t *testing.T) {
		wrongFor(t, year, func(b *bench) { b.server.set(&installers.LaterError{Err: failing}, "") }, run, func(b *bench) {
			b.server.set(nil, "")
			time.Sleep(time.Hour)
			synctest.Wait()
			if b.server.served() != b.load(t).Current.Fingerprint() {
				t.Errorf("not installed: %+v", b.load(t).State.Installed)
			}
		})
	})
	t.Run("last look", func(t *testing.T) {
		wrongFor(t, year, func(*bench) {}, run, func(b *bench) {
			time.Sleep(time.Minute)
			b.server.set(nil, "something else")
			time.Sleep(26 * time.Hour)
			synctest.Wait()
			if b.server.served() != b.load(t).Current.Fingerprint() {
				t.Error("the drift was not seen within a day")
			}
		})
	})
	t.Run("hook", func(t *testing.T) {
		var mended atomic.Bool
		var ran atomic.Int32
		wrongFor(t, year, func(b *bench) {
			b.engine.Swap(b.withHooks(Hooks{Post: func(context.Context, *certs.Bundle, bool) error {
				if ran.Add(1); mended.Load() {
					return nil
				}
				return failing
			}}))
		}, run, func(b *bench) {
			mended.Store(true)
			time.Sleep(time.Hour)
			synctest.Wait()
			if b.load(t).State.Hook != nil || ran.Load() < 2 {
				t.Errorf("the hook was not tried again: %+v", b.load(t).State.Hook)
			}
		})
	})
	t.Run("order", func(t *testing.T) {
		wrongFor(t, year, func(b *bench) { b.ca.fail(failing) }, run, func(b *bench) {
			b.ca.fail(nil)
			time.Sleep(time.Hour)
			synctest.Wait()
			if l := b.load(t); l.Current == nil || l.State.Failures != 0 {
				t.Errorf("not obtained, next try %s", l.State.RetryAt)
			}
		})
	})
	t.Run("failed validations", func(t *testing.T) {
		wrongFor(t, year, func(b *bench) { b.ca.fail(failing) }, func(b *bench) {
			l := b.load(t)
			l.State.Invalid = map[string][]time.Time{"example.com": {b.engine.clock(), b.engine.clock(), b.engine.clock()}}
			l.State.Issued = []time.Time{b.engine.clock(), b.engine.clock()}
			l.State.Down = map[string]time.Time{"ca": b.engine.clock()}
			if err := b.store.SaveState("www", &l.State); err != nil {
				t.Error(err)
			}
		}, func(b *bench) {
			time.Sleep(time.Minute)
			synctest.Wait()
			if st := b.load(t).State; len(st.Invalid["example.com"]) != 0 || len(st.Issued) != 0 || st.Down["ca"].After(time.Now()) {
				t.Errorf("invalid %v, issued %v, down %v", st.Invalid, st.Issued, st.Down)
			}
		})
	})
}

// TestLongPause: a pause that is longer than any that is stored is asked about again after two days, and not at once.
func TestLongPause(t *testing.T) {
	for name, err := range map[string]func(time.Time) error{
		"rate limit": func(at time.Time) error { return &certs.RateLimitError{At: at, Err: errors.New("paused")} },
		"budget":     func(at time.Time) error { return &certs.BudgetError{At: at, Failed: 3} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBench(t, 90*day)
				b.ca.fail(err(time.Now().Add(30 * day)))
				live(t, b, 9*day, func(time.Time) {})
				if n := b.ca.count(); n < 4 || n > 6 {
					t.Errorf("%d tries in nine days", n)
				}
			})
		})
	}
}

// TestDoubtedTargets: while the clock is doubted a target that fails leaves no time behind, and is tried with every look
// at the clock; one that takes the certificate leaves the fact alone.
func TestDoubtedTargets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*day)
		b.server.set(errors.New("nginx is away"), "")
		b.engine.Run(t.Context(), "www", Options{}, nil)
		l := b.load(t)
		l.State.Installed = map[string]store.Installed{}
		if err := b.store.SaveState("www", &l.State); err != nil {
			t.Fatal(err)
		}
		b.engine.setClocks(t.Context(), clocks{jump: plan.Suspicion{Reason: "the clock jumped", Ahead: 2 * time.Hour}})
		before := b.server.installs
		r := b.engine.Run(t.Context(), "www", Options{}, nil)
		if got := b.load(t).State.Installed["web"]; !reflect.DeepEqual(got, store.Installed{}) || b.server.installs != before+1 || time.Until(r.Next) > clock.Slack {
			t.Errorf("%d installs, recorded %+v, next %s", b.server.installs-before, got, r.Next)
		}
		b.server.set(nil, "")
		b.engine.Run(t.Context(), "www", Options{}, nil)
		got := b.load(t).State.Installed["web"]
		if !reflect.DeepEqual(got, store.Installed{Fingerprint: b.load(t).Current.Fingerprint()}) || b.count(notify.InstallFailed) != 2 {
			t.Errorf("recorded %+v", got)
		}
	})
}
