package renewal

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestBeat: the beat goes on while certificates wait for their turn, ends when no job does for an hour, and comes back
// with the first that does. The summary follows.
func TestBeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBench(t, 90*24*time.Hour)
		set := b.set()
		other := set.Certificates["www"]
		other.Spec.Name = "other"
		set.Certificates["other"] = other
		set.Concurrency = 1
		b.engine.Swap(set)
		b.ca.hold = make(chan struct{})

		var beats atomic.Int32
		s, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly", BeatEvery: time.Minute, Beat: func() { beats.Add(1) }})
		defer stop()

		within := func(d time.Duration) int {
			synctest.Wait()
			before := beats.Load()
			time.Sleep(d)
			synctest.Wait()
			return int(beats.Load() - before)
		}
		if n := within(30 * time.Minute); n < 29 {
			t.Errorf("%d beats in half an hour of waiting", n)
		}
		time.Sleep(31 * time.Minute)
		if n := within(30 * time.Minute); n != 0 {
			t.Errorf("%d beats although nothing moved for an hour", n)
		}
		b.ca.fail(errors.New("no"))
		close(b.ca.hold)
		if n := within(time.Minute); n == 0 {
			t.Error("no beat although the jobs go on")
		}
		if sum := s.Summary(); sum.Certificates != 2 || sum.Attention != 1 || sum.Next.After(time.Now().Add(time.Hour)) {
			t.Errorf("the summary is %+v", sum)
		}
		b.ca.fail(nil)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		if sum := s.Summary(); sum.Attention != 0 {
			t.Errorf("the summary is %+v", sum)
		}
	})
}
