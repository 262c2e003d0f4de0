package renewal

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// outages are the times at which a CA is away in ten years: three hours now and then, some days, and once so long that
// even an early renewal cannot save the certificate.
type outages []struct{ from, to time.Time }

func newOutages(r *rand.Rand, start time.Time) outages {
	var list outages
	add := func(from time.Time, d time.Duration) {
		list = append(list, struct{ from, to time.Time }{from, from.Add(d)})
	}
	for week := range 10 * 52 {
		add(start.Add(time.Duration(week)*7*day+time.Duration(r.Float64()*float64(6*day))), 3*time.Hour)
	}
	for year := range 10 {
		add(start.Add(time.Duration(year)*365*day+time.Duration(r.Float64()*float64(300*day))), time.Duration(1+r.IntN(20))*day)
	}
	add(start.Add(5*365*day), 100*day)
	return list
}

func (o outages) down(at time.Time) bool {
	for _, x := range o {
		if !at.Before(x.from) && at.Before(x.to) {
			return true
		}
	}
	return false
}

// upSince is since when the CA has been up without a break.
func (o outages) upSince(at time.Time) (since time.Time) {
	for _, x := range o {
		if !x.from.After(at) && x.to.After(since) {
			since = x.to
		}
	}
	return since
}

// TestTenYears lives through ten years with certificates of several lifetimes, a CA that is away at times, ARI windows
// that move renewals forward, summer time, leap days, a machine that sleeps for days, and starts with a wrong clock. A
// certificate may only end when the CA was never up for a day in the renewal time while the machine was awake and knew what
// time it was, and the CA never hears more of us than the schedule says.
func TestTenYears(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	local := time.Local
	time.Local = berlin
	t.Cleanup(func() { time.Local = local })
	seed := uint64(1)
	if text := os.Getenv("ACMED_SEED"); text != "" { // another life
		if seed, err = strconv.ParseUint(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	// The shorter its life, the sooner a certificate has seen everything.
	for life, years := range map[time.Duration]time.Duration{90 * day: 10, 45 * day: 6, 6 * day: 2} {
		t.Run(life.String(), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				tenYears(t, life, min(years*365*day, tenYearsLast), rand.New(rand.NewPCG(seed, uint64(life))))
			})
		})
	}
}

// history is a machine with its CA, a true time that goes on while the machine sleeps, and a clock that may be wrong.
type history struct {
	*bench
	away     outages
	asleep   atomic.Int64  // how long the machine slept in all
	wrong    atomic.Int64  // by how much its clock is ahead
	ready    time.Time     // since when it is awake and its clock is right
	astray   outages       // when its clock was wrong
	windows  int           // how often the CA wanted every certificate replaced
	flagged  time.Duration // for how long it did
	stop     func()
	schedule string
}

func (h *history) truth() time.Time { return time.Now().Add(time.Duration(h.asleep.Load())) }
func (h *history) clock() time.Time { return h.truth().Add(time.Duration(h.wrong.Load())) }

// offset is what the CA says of the machine's clock.
func (h *history) offset(context.Context) map[string]time.Duration {
	if h.away.down(h.truth()) {
		return nil
	}
	return map[string]time.Duration{"ca": time.Duration(h.wrong.Load())}
}

// boot starts acmed with what is on disk.
func (h *history) boot(t *testing.T) {
	h.engine.Close(t.Context())
	h.engine = NewEngine(Config{Store: h.store, Log: zap.NewNop(), Clock: h.clock})
	set := h.set()
	set.ClockOffsets = h.offset
	h.engine.Swap(set)
	_, h.stop = runScheduler(t, SchedulerConfig{Engine: h.engine, Schedule: h.schedule, Splay: 30 * time.Minute, Clock: h.clock})
}

// happen is what comes in six hours of the machine's life.
func (h *history) happen(t *testing.T, r *rand.Rand) {
	switch {
	case h.wrong.Load() != 0: // somebody sets the clock
		h.wrong.Store(0)
		h.ready = h.truth()
		h.astray[len(h.astray)-1].to = h.ready
	case r.IntN(200) == 0: // a lid is closed
		h.asleep.Add(int64(time.Duration(r.Float64() * float64(4*day))))
		h.ready = h.truth()
	case r.IntN(200) == 0: // a start with an empty battery
		h.stop()
		h.wrong.Store(int64(time.Duration(r.IntN(400)+1) * day * time.Duration(2*r.IntN(2)-1)))
		h.astray = append(h.astray, struct{ from, to time.Time }{h.truth(), h.truth().Add(day)})
		h.boot(t)
	}
	time.Sleep(6 * time.Hour)
	synctest.Wait()
}

func tenYears(t *testing.T, life, lasts time.Duration, r *rand.Rand) {
	h := &history{bench: newBench(t, life), away: newOutages(r, time.Now()), ready: time.Now(), schedule: "7 3,15 * * *"}
	h.ca.now, h.ca.down = h.truth, h.away.down
	h.boot(t)
	expired := 0
	begin := h.truth()
	for end := begin.Add(lasts); h.truth().Before(end); {
		h.happen(t, r)
		l := h.load(t)
		if l.Current == nil {
			t.Fatalf("no certificate at %s", h.truth())
		}
		now, leaf := h.truth(), l.Current.Leaf
		if now.Before(leaf.NotAfter) {
			h.demand(r, now)
			continue
		}
		expired++
		due := leaf.NotAfter.Add(-plan.RenewBefore(plan.Lifetime(leaf.NotBefore, leaf.NotAfter), 0))
		able := clock.Later(clock.Later(due, h.away.upSince(leaf.NotAfter)), h.ready)
		if leaf.NotAfter.Sub(able) >= day && !h.away.down(leaf.NotAfter) && h.wrong.Load() == 0 {
			t.Fatalf("%s: expired at %s although it could be renewed since %s", now, leaf.NotAfter, able)
		}
	}
	h.stop()
	h.judge(t, h.truth().Sub(begin))
	t.Logf("%d orders, %d questions for a window, looked at an expired certificate %d times", len(h.ca.orders), h.ca.asked, expired)
}

// demand lets the CA want a certificate replaced soon, now and then.
func (h *history) demand(r *rand.Rand, now time.Time) {
	h.ca.mu.Lock()
	defer h.ca.mu.Unlock()
	if !h.ca.window.IsZero() {
		h.flagged += 6 * time.Hour
	}
	if r.IntN(400) == 0 {
		h.windows++
		h.ca.window = certs.Window{Start: now, End: now.Add(h.ca.life / 20), RetryAfter: 6 * time.Hour}
	} else if r.IntN(20) == 0 {
		h.ca.window = certs.Window{}
	}
}

// judge counts what the CA heard.
func (h *history) judge(t *testing.T, lived time.Duration) {
	h.ca.mu.Lock()
	defer h.ca.mu.Unlock()
	most, failed := 0, 0
	for i, at := range h.ca.orders {
		// Where no CA told that the clock is wrong, what it issues seems to be over at once, and is ordered twice.
		if i > 0 && at.Sub(h.ca.orders[i-1]) < 50*time.Second && !h.astray.down(at) {
			t.Fatalf("orders %s and %s", h.ca.orders[i-1], at)
		}
		if h.away.down(at) {
			failed++
		}
		in := 0
		for _, later := range h.ca.orders[i:] {
			if later.Sub(at) < day {
				in++
			}
		}
		most = max(most, in)
	}
	// One try an hour is the floor near expiry; the quick tries at the beginning of an outage come on top.
	if most > 24+4 {
		t.Errorf("%d orders within a day", most)
	}
	// A renewal at a third of the lifetime before the end, or half of a short one; two a day while the CA wants every one
	// replaced, and as many before and after.
	usual := int(lived / (h.ca.life - plan.RenewBefore(h.ca.life, 0)))
	if issued, most := len(h.ca.orders)-failed, usual+usual/4+10+2*int(h.flagged/day)+4*h.windows; issued > most {
		t.Errorf("%d certificates, %d would do; at most %d, as the CA wanted all replaced %d times, for %s", issued, usual, most, h.windows, h.flagged)
	}
	// The quick tries of each short outage; in a long one 24 a day about the end of the certificate, then ever fewer.
	if most := 3*len(h.away) + 120*(int(lived/(365*day))+1); failed > most {
		t.Errorf("%d orders to a CA that was away, at most %d", failed, most)
	}
	if most := 5 * int(lived/day); h.ca.asked > most {
		t.Errorf("%d questions for a window, at most %d", h.ca.asked, most)
	}
}
