package renewal

import (
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
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
// that move renewals forward, summer time, and leap days. A certificate may only end while the CA was never up for a day
// in the renewal time, and the CA never hears more of us than the schedule says.
func TestTenYears(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	local := time.Local
	time.Local = berlin
	defer func() { time.Local = local }()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for _, life := range []time.Duration{90 * day, 45 * day, 6 * day} {
		t.Run(life.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { tenYears(t, life, rand.New(rand.NewPCG(seed, uint64(life)))) })
		})
	}
}

func tenYears(t *testing.T, life time.Duration, r *rand.Rand) {
	b := newBench(t, life)
	away := newOutages(r, time.Now())
	b.ca.down = away.down
	expired := 0
	liveBy(t, b, "7 3,15 * * *", time.Duration(years)*365*day, func(now time.Time) {
		l := b.load(t)
		if l.Current == nil {
			t.Fatalf("no certificate at %s", now)
		}
		leaf := l.Current.Leaf
		due := leaf.NotAfter.Add(-RenewBefore(Lifetime(leaf.NotBefore, leaf.NotAfter), 0))
		if now.Before(leaf.NotAfter) {
			if r.IntN(400) == 0 { // the CA wants this one replaced soon
				b.ca.mu.Lock()
				b.ca.window = certs.Window{Start: now, End: now.Add(life / 20), RetryAfter: 6 * time.Hour}
				b.ca.mu.Unlock()
			} else if r.IntN(20) == 0 {
				b.ca.mu.Lock()
				b.ca.window = certs.Window{}
				b.ca.mu.Unlock()
			}
			return
		}
		expired++
		if up := later(due, away.upSince(now)); now.Sub(up) > day+7*time.Hour { // the longest wait, and one look
			t.Fatalf("%s: expired at %s although the CA is up since %s", now, leaf.NotAfter, up)
		}
	})
	b.ca.mu.Lock()
	defer b.ca.mu.Unlock()
	most := 0
	for i, at := range b.ca.orders {
		if i > 0 && at.Sub(b.ca.orders[i-1]) < 50*time.Second {
			t.Fatalf("orders %s and %s", b.ca.orders[i-1], at)
		}
		in := 0
		for _, later := range b.ca.orders[i:] {
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
	t.Logf("%d orders, at most %d within a day, looked at an expired certificate %d times", len(b.ca.orders), most, expired)
}
