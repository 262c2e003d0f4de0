package renewal

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestClockWithAWrongCA: the clock of the machine is wrong in the usual ways while the clock of one CA is two hours off,
// that of the certificate or an unrelated one. Nothing is renewed too early, and everything that is due is renewed once the
// clock is right.
func TestClockWithAWrongCA(t *testing.T) {
	for _, c := range []struct {
		name string
		age  time.Duration // of the certificate when it happens
		off  time.Duration // of the clock, for three hours
		jump time.Duration // that is true: the machine was suspended
		boot bool          // the clock is wrong from the start
		due  bool          // after the end
	}{
		{name: "a year ahead, then right", age: 10 * day, off: 365 * day},
		{name: "ten years behind at boot", age: 10 * day, off: -3652 * day, boot: true},
		{name: "ten years behind at boot, due", age: 62 * day, off: -3652 * day, boot: true, due: true},
		{name: "suspended for five days", age: 10 * day, jump: 5 * day},
		{name: "suspended until it is due", age: 58 * day, jump: 5 * day, due: true},
		{name: "an hour of summer time", age: 10 * day, off: time.Hour},
	} {
		for wrong, others := range map[string]string{"its own": "le", "an unrelated": "ca"} {
			t.Run(c.name+", "+wrong+" CA is two hours off", func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var offset, slept atomic.Int64 // slept: what passed while the machine slept, which no timer of it counted
					clock := func() time.Time { return time.Now().Add(time.Duration(offset.Load() + slept.Load())) }
					b := newBenchAt(t, 90*day, clock)
					b.engine.Run(t.Context(), "www", Options{}, nil)
					time.Sleep(c.age)
					set := b.set()
					set.ClockOffsets = func(context.Context) map[string]time.Duration {
						right := time.Duration(offset.Load())
						off := map[string]time.Duration{"ca": right, "le": right, "zero": right}
						if others == "le" {
							off["ca"] += 2 * time.Hour
						} else {
							off["le"] += 2 * time.Hour
						}
						return off
					}
					b.engine.Swap(set)
					if c.boot {
						offset.Store(int64(c.off))
					}
					_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "0 */6 * * *", Clock: clock})
					defer stop()
					time.Sleep(30 * time.Minute)
					offset.Store(int64(c.off))
					slept.Store(int64(c.jump))
					time.Sleep(3 * time.Hour)
					synctest.Wait()
					if n := b.ca.count(); !c.due && n != 1 || c.boot && n != 1 {
						t.Errorf("%d orders while the clock is wrong", n)
					}
					offset.Store(0)
					wait := 2 * day
					if c.due {
						wait = 30 * day // into the last tenth, in which no doubt about the clock counts
					}
					time.Sleep(wait)
					synctest.Wait()
					s := b.status(t)
					if n := b.ca.count(); c.due && n != 2 || !c.due && n != 1 || !s.NotAfter.After(clock()) {
						t.Errorf("%d orders, status %+v", n, s)
					}
				})
			})
		}
	}
}
