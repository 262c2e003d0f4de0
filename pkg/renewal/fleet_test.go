package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// slowCA takes a second for each order. It remembers which were placed when, and how many were in flight at most.
type slowCA struct {
	fakeCA
	refuses string // the certificate that is never issued

	count         sync.Mutex
	inFlight, top int
	placed        []order
}

type order struct {
	name string
	at   time.Time
}

func (ca *slowCA) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	ca.count.Lock()
	ca.inFlight++
	ca.top = max(ca.top, ca.inFlight)
	ca.placed = append(ca.placed, order{req.Spec.Name, time.Now()})
	ca.count.Unlock()
	defer func() {
		ca.count.Lock()
		defer ca.count.Unlock()
		ca.inFlight--
	}()
	time.Sleep(time.Second)
	if req.Spec.Name == ca.refuses {
		return nil, &certs.PermanentError{Err: errors.New("the name is forbidden")}
	}
	return ca.fakeCA.Obtain(ctx, req)
}

// orders takes out what was placed since the last call.
func (ca *slowCA) orders() []order {
	ca.count.Lock()
	defer ca.count.Unlock()
	placed := ca.placed
	ca.placed = nil
	return placed
}

func (ca *slowCA) most() int {
	ca.count.Lock()
	defer ca.count.Unlock()
	return ca.top
}

// fleetOf are certificates without targets.
func fleetOf(t testing.TB, ca *slowCA, concurrency int, names ...string) *Set {
	t.Helper()
	set := &Set{Certificates: map[string]Certificate{}, Issuers: map[string]Issuer{"ca": ca}, Concurrency: concurrency, Keep: 2}
	for _, name := range names {
		set.Certificates[name] = Certificate{Spec: certs.Spec{
			Name: name, Identifiers: identifiers(t, name+".example.com"), KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"ca"},
		}}
	}
	return set
}

func numbered(n int) []string {
	var names []string
	for i := range n {
		names = append(names, fmt.Sprintf("c%d", i))
	}
	return names
}

// fleetBench has a valid certificate for each name. They expire in another order than that of their names.
func fleetBench(t *testing.T, set func(*slowCA) *Set) (*bench, *slowCA, []string) {
	t.Helper()
	b, ca := newBench(t, 90*day), &slowCA{}
	ca.t = t
	b.engine.Swap(set(ca))
	byExpiry := []string{"c3", "c0", "c4", "c1", "c2"}
	for i, name := range byExpiry {
		ca.life = time.Duration(100+10*i) * day
		if r := b.engine.Run(t.Context(), name, Options{}, nil); !r.Obtained {
			t.Fatal(name, r.Err)
		}
	}
	ca.life = 365 * day
	ca.orders()
	time.Sleep(2 * day)
	return b, ca, byExpiry
}

// TestSpread: renewals that an operator asked for come spread over the time given, those that expire first come first,
// and a restart goes on with the rest.
func TestSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca, byExpiry := fleetBench(t, func(ca *slowCA) *Set { return fleetOf(t, ca, 3, numbered(5)...) })
		begun := time.Now()
		times, err := b.engine.Spread(t.Context(), numbered(5), 10*time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		renewed := func(want ...string) {
			t.Helper()
			placed := ca.orders()
			if len(placed) != len(want) {
				t.Fatalf("orders %v, want %v", placed, want)
			}
			for i, o := range placed {
				// A sweep just before its time may put it off by the least distance between two runs.
				if late := o.at.Sub(times[o.name]); o.name != want[i] || late < 0 || late > soonest {
					t.Errorf("order %d is for %s at %s, want %s at %s", i, o.name, o.at, want[i], times[want[i]])
				}
			}
		}
		for i, name := range byExpiry {
			if at := begun.Add(time.Duration(i) * 2 * time.Hour); !times[name].Equal(at) {
				t.Errorf("%s comes at %s, want %s", name, times[name], at)
			}
		}
		sleepBy(t, b, 3*time.Hour)
		renewed(byExpiry[:2]...)
		b.engine.Close(t.Context())
		b.engine = NewEngine(Config{Store: b.store, Log: b.engine.log})
		b.engine.Swap(fleetOf(t, ca, 3, numbered(5)...))
		sleepBy(t, b, 9*time.Hour)
		renewed(byExpiry[2:]...)
		sleepBy(t, b, 10*day)
		renewed()
	})
}

// sleepBy lets a scheduler work for a while.
func sleepBy(t *testing.T, b *bench, d time.Duration) {
	t.Helper()
	startScheduler(t, b)(d)
}

// startScheduler returns what lets it work for a while and stops it.
func startScheduler(t *testing.T, b *bench) func(time.Duration) {
	t.Helper()
	_, stop := runScheduler(t, SchedulerConfig{Engine: b.engine, Schedule: "@hourly"})
	return func(d time.Duration) {
		time.Sleep(d)
		stop()
	}
}

// TestRisk: when everything is due at once and only one job runs at a time, what expires first comes first.
func TestRisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca, byExpiry := fleetBench(t, func(ca *slowCA) *Set { return fleetOf(t, ca, 1, numbered(5)...) })
		wait := startScheduler(t, b)
		time.Sleep(90 * time.Minute) // it has seen them all
		for _, name := range byExpiry {
			l, err := b.store.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			l.State.Requested = time.Now()
			if err := b.store.SaveState(name, &l.State); err != nil {
				t.Fatal(err)
			}
		}
		wait(time.Hour)
		var got []string
		for _, o := range ca.orders() {
			got = append(got, o.name)
		}
		if !slices.Equal(got, byExpiry) {
			t.Errorf("renewed in the order %v, want %v", got, byExpiry)
		}
	})
}

// TestAtATime: no more orders are in flight than the configuration says, whoever asks, and a new figure counts without a
// restart.
func TestAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca := newBench(t, 90*day), &slowCA{fakeCA: fakeCA{t: t, life: 90 * day}}
		b.engine.Swap(fleetOf(t, ca, 3, numbered(10)...))
		wait := startScheduler(t, b)
		time.Sleep(time.Minute)
		if n, most := len(ca.orders()), ca.most(); n != 10 || most != 3 {
			t.Errorf("the scheduler placed %d orders, %d at a time; want 10, 3 at a time", n, most)
		}
		var wg sync.WaitGroup
		for _, name := range numbered(10) {
			wg.Go(func() { b.engine.Run(t.Context(), name, Options{Force: true}, nil) })
		}
		wg.Wait()
		if n, most := len(ca.orders()), ca.most(); n != 10 || most != 3 {
			t.Errorf("operators placed %d orders, %d at a time; want 10, 3 at a time", n, most)
		}
		more := numbered(20)
		b.engine.Swap(fleetOf(t, ca, 5, more...))
		wait(2 * time.Hour)
		if n, most := len(ca.orders()), ca.most(); n != 10 || most != 5 {
			t.Errorf("after the change: %d orders, %d at a time; want 10, 5 at a time", n, most)
		}
	})
}

// TestOthersGoOn: a name that always fails stops no other, even with one job at a time.
func TestOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, ca := newBench(t, 90*day), &slowCA{fakeCA: fakeCA{t: t, life: 90 * day}, refuses: "c0"}
		b.engine.Swap(fleetOf(t, ca, 1, numbered(3)...))
		sleepBy(t, b, 70*day)
		for i, name := range numbered(3) {
			l, err := b.store.Load(name)
			if err != nil {
				t.Fatal(err)
			}
			if i == 0 {
				if l.Current != nil || l.State.LastError == "" {
					t.Errorf("%s: %+v, want a failure on record", name, l.State)
				}
				continue
			}
			if len(l.Versions) != 2 || l.Current == nil || time.Until(l.Current.Leaf.NotAfter) < 70*day {
				t.Errorf("%s was not obtained and renewed: %d versions", name, len(l.Versions))
			}
		}
	})
}
