package renewal

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// fleetNode is a bench in a fleet.
type fleetNode struct {
	*bench
	ledger    *fleet.Ledger
	fault     *fleettest.Faulty
	scheduler atomic.Pointer[Scheduler] // nil: jobs run when the test says so
}

func testKey(t *testing.T) certs.Secret {
	t.Helper()
	key, err := fleet.ParseSealKey([]byte("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// join makes a bench a node of the fleet on m.
func join(t *testing.T, b *bench, m *fleettest.Memory, id string) *fleetNode {
	t.Helper()
	sealer, err := fleet.NewSealer(testKey(t))
	if err != nil {
		t.Fatal(err)
	}
	n := &fleetNode{bench: b, fault: &fleettest.Faulty{Engine: m.Client()}}
	tell := func(do func(*Scheduler)) {
		if s := n.scheduler.Load(); s != nil {
			do(s)
		}
	}
	n.ledger = fleet.New(fleet.Config{
		Fleet: "f", Engine: n.fault, Sealer: sealer, Node: fleet.Node{ID: id}, Names: func() []string { return []string{"www"} },
		Back: func() { tell((*Scheduler).Back) }, Changed: func(name string) { tell(func(s *Scheduler) { s.Poke(name) }) },
	})
	var exists *fleet.ExistsError
	if err := n.ledger.Init(t.Context(), false); err != nil && !errors.As(err, &exists) {
		t.Fatal(err)
	}
	b.engine.Close(t.Context())
	b.engine = NewEngine(Config{Store: b.store, Fleet: n.ledger, Log: zap.NewNop()})
	b.engine.Swap(b.set())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); n.ledger.Run(ctx, 0, func(int64) {}) }()
	t.Cleanup(func() { n.engine.Close(context.Background()); cancel(); <-done })
	synctest.Wait()
	return n
}

func (n *fleetNode) run(t *testing.T, opts Options) Result {
	t.Helper()
	r := n.engine.Run(t.Context(), "www", opts, nil)
	synctest.Wait()
	return r
}

// schedule lets the node's jobs run by themselves.
func (n *fleetNode) schedule(t *testing.T) {
	t.Helper()
	s, err := NewScheduler(SchedulerConfig{Engine: n.engine, Schedule: "@daily"})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	n.scheduler.Store(s)
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
}

func installs(b *bench) int {
	b.server.mu.Lock()
	defer b.server.mu.Unlock()
	return b.server.installs
}

// TestSingleMachineBecomesAFleetAndBack: no order and no installation at what has a certificate.
func TestSingleMachineBecomesAFleetAndBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		single := newBench(t, 90*day)
		if r := single.engine.Run(t.Context(), "www", Options{}, nil); r.Err != nil || !r.Obtained {
			t.Fatalf("%+v", r)
		}
		m := fleettest.NewMemory()
		one := join(t, single, m, "one")
		time.Sleep(time.Minute)
		if r := one.run(t, Options{}); r.Err != nil || r.Reason != plan.ReasonPublish {
			t.Fatalf("%+v", r)
		}
		if h, _ := one.ledger.Head("www"); h.N != 1 || h.Fingerprint != one.load(t).Current.Fingerprint() {
			t.Fatalf("%+v", h)
		}
		two := join(t, newBench(t, 90*day), m, "two")
		var hooked []bool
		two.engine.Swap(two.withHooks(Hooks{Post: func(_ context.Context, _ *certs.Bundle, obtained bool) error {
			hooked = append(hooked, obtained)
			return nil
		}}))
		if r := two.run(t, Options{}); r.Err != nil || r.Obtained || r.Reason != plan.ReasonAdopt {
			t.Fatalf("%+v", r)
		}
		if len(hooked) != 1 || hooked[0] || two.count(notify.Adopted) != 1 || two.count(notify.Obtained) != 0 {
			t.Errorf("hooks %v, events %v", hooked, two.events.kinds())
		}
		if two.server.served() != one.server.served() || two.load(t).State.Fleet.N != 1 {
			t.Fatalf("%+v", two.load(t).State.Fleet)
		}
		for _, n := range []*fleetNode{one, two} {
			n.restart(t) // without a fleet again
			if r := n.engine.Run(t.Context(), "www", Options{}, nil); r.Err != nil || r.Obtained || r.Changed {
				t.Errorf("back on one machine: %+v", r)
			}
		}
		if one.ca.count() != 1 || two.ca.count() != 0 || installs(one.bench) != 1 || installs(two.bench) != 1 {
			t.Fatalf("%d and %d orders, %d and %d installations", one.ca.count(), two.ca.count(), installs(one.bench), installs(two.bench))
		}
	})
}

// TestOneNodeInstallsFirst: the others have the version on disk at once, and install it when the first one serves it, or
// keep what they serve when it had to take it back.
func TestOneNodeInstallsFirst(t *testing.T) {
	for name, breaks := range map[string]bool{"it works": false, "it breaks": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := fleettest.NewMemory()
				one, two := join(t, newBench(t, 90*day), m, "one"), join(t, newBench(t, 90*day), m, "two")
				if r := one.run(t, Options{}); r.Err != nil || !r.Obtained {
					t.Fatalf("%+v", r)
				}
				two.run(t, Options{})
				before := two.server.served()
				time.Sleep(48 * time.Hour)
				hold := make(chan struct{})
				one.ca.mu.Lock()
				one.ca.hold = hold
				one.ca.mu.Unlock()
				done := make(chan struct{})
				go func() { defer close(done); one.engine.Run(context.Background(), "www", Options{Force: true}, nil) }()
				synctest.Wait()
				if r := two.run(t, Options{Force: true}); r.Obtained || r.Reason != plan.ReasonElsewhere {
					t.Fatalf("forced while another node is at it: %+v", r)
				}
				if breaks {
					one.server.mu.Lock()
					one.server.only = before
					one.server.mu.Unlock()
				}
				close(hold)
				<-done
				synctest.Wait()
				if r := two.run(t, Options{}); r.Err != nil || two.ca.count() != 0 {
					t.Fatalf("%+v", r)
				}
				have := two.load(t)
				if len(have.Versions) != 2 || have.State.Fleet.N != 2 {
					t.Fatalf("the new version is not on disk: %+v", have.State.Fleet)
				}
				h, _ := two.ledger.Head("www")
				if breaks && (h.Served != "" || !strings.Contains(h.Broken, "node one")) || !breaks && h.Served != "one" {
					t.Fatalf("%+v", h)
				}
				time.Sleep(10 * time.Second) // its turn is within 5 s
				r := two.run(t, Options{})
				if served := two.server.served(); breaks == (served != before) || r.Err != nil {
					t.Fatalf("it serves %s, before %s: %+v", served, before, r)
				}
				time.Sleep(24 * time.Hour)
				r = two.run(t, Options{})
				if served := two.server.served(); breaks && (served != before || r.Reason != plan.ReasonFollow || !strings.Contains(r.Message, "does not start")) || one.server.served() != two.server.served() {
					t.Fatalf("a day later it serves %s, before %s: %+v", served, before, r)
				}
			})
		})
	}
}

func TestCompromisedKeyIsGoneEverywhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		one, two := join(t, newBench(t, 90*day), m, "one"), join(t, newBench(t, 90*day), m, "two")
		one.run(t, Options{})
		two.run(t, Options{})
		old := one.load(t).Current
		time.Sleep(48 * time.Hour)
		if r := one.run(t, Options{Force: true, NewKey: true}); r.Err != nil || !r.Obtained {
			t.Fatalf("%+v", r)
		}
		if r := two.run(t, Options{}); r.Err != nil || two.ca.count() != 0 {
			t.Fatalf("%+v", r)
		}
		time.Sleep(10 * time.Second)
		two.run(t, Options{})
		if two.load(t).Current.SharesKey(old) || two.server.served() == old.Fingerprint() {
			t.Fatal("the other node still serves the old key")
		}
		h, _ := two.ledger.Head("www")
		if !fleet.Condemned(old, h) || h.Void || h.N != 2 {
			t.Fatalf("%+v", h)
		}
		if keys := m.Keys("/acmed/f/v1/data/"); len(keys) != 1 {
			t.Fatalf("stored versions: %q", keys)
		}
	})
}

// TestStoreAwayUntilTheLastTenth: nothing is ordered without the store before the last tenth, then one node after the other,
// and when it is back all have one version.
func TestStoreAwayUntilTheLastTenth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		nodes := []*fleetNode{join(t, newBench(t, 90*day), m, "one"), join(t, newBench(t, 90*day), m, "two"), join(t, newBench(t, 90*day), m, "three")}
		orders := func() (n int) {
			for _, node := range nodes {
				n += node.ca.count()
			}
			return n
		}
		round := func() {
			for _, node := range nodes {
				node.run(t, Options{})
			}
		}
		round()
		time.Sleep(10 * time.Second)
		round()
		if orders() != 1 {
			t.Fatalf("%d orders at first", orders())
		}
		end := nodes[0].load(t).Current.Leaf.NotAfter
		m.Down(true)
		time.Sleep(time.Until(end.Add(-9*day - time.Hour)))
		round()
		if r := nodes[1].run(t, Options{Force: true}); orders() != 1 || r.Reason != plan.ReasonStoreAway {
			t.Fatalf("%d orders before the last tenth, %+v", orders(), r)
		}
		var at []time.Time
		for time.Now().Before(end) {
			before := orders()
			round()
			if orders() > before {
				at = append(at, time.Now())
			}
			if now := orders() - before; now > 1 {
				t.Fatalf("%d orders at once", now)
			}
			time.Sleep(6 * time.Hour)
		}
		if len(at) != 3 || at[1].Sub(at[0]) < 36*time.Hour || at[2].Sub(at[1]) < 36*time.Hour {
			t.Fatalf("orders at %s", at)
		}
		m.Down(false)
		for range 20 {
			time.Sleep(time.Minute)
			round()
		}
		head, _ := nodes[0].ledger.Head("www")
		for _, node := range nodes {
			if node.server.served() != head.Fingerprint || node.load(t).State.Fleet.Unshared != "" {
				t.Errorf("after the return: serves %s, %+v, the head is %+v", node.server.served(), node.load(t).State.Fleet, head)
			}
		}
		if orders() != 4 {
			t.Errorf("%d orders in all", orders())
		}
	})
}

// TestPlantedVersionIsNotTaken: what somebody with access to the store puts there is neither installed nor followed by an
// order, and it is told.
func TestPlantedVersionIsNotTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		one, two := join(t, newBench(t, 90*day), m, "one"), join(t, newBench(t, 90*day), m, "two")
		one.run(t, Options{})
		two.run(t, Options{})
		before := two.server.served()
		keys := m.Keys("/acmed/f/v1/data/")
		time.Sleep(48 * time.Hour)
		one.run(t, Options{Force: true})
		for _, key := range m.Keys("/acmed/f/v1/data/") {
			m.Put(key, m.Get(keys[0])) // the older version in the place of the newer one
		}
		r := two.run(t, Options{})
		var refused *fleet.SealError
		if !errors.As(r.Err, &refused) || two.server.served() != before || two.ca.count() != 0 || two.load(t).State.Fleet.LastError == "" {
			t.Fatalf("serves %s, before %s: %+v", two.server.served(), before, r)
		}
		if r := two.run(t, Options{}); r.Err != nil || two.ca.count() != 0 { // not again at once
			t.Fatalf("%+v", r)
		}
	})
}

// TestAdoptsBesideOrders: an order that takes long does not keep a node from what the others obtained, nor from serving it
// within seconds of the first.
func TestAdoptsBesideOrders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		one, two := join(t, newBench(t, 90*day), m, "one"), join(t, newBench(t, 90*day), m, "two")
		one.run(t, Options{})
		two.run(t, Options{})
		set := two.set()
		set.Concurrency = 1
		api := two.spec
		api.Name, api.Identifiers, api.Targets = "api", identifiers(t, "api.example.com"), nil
		set.Certificates["api"] = Certificate{Spec: api}
		two.engine.Swap(set)
		hold := make(chan struct{})
		two.ca.mu.Lock()
		two.ca.hold = hold
		two.ca.mu.Unlock()
		two.schedule(t)
		defer close(hold)
		synctest.Wait() // the only place is taken by the order of api, which comes first
		if r := one.run(t, Options{Force: true}); !r.Obtained {
			t.Fatalf("%+v", r)
		}
		time.Sleep(time.Second)
		if got := two.load(t).State.Fleet.N; got != 2 {
			t.Fatalf("version %d is here", got)
		}
		if have, err := two.store.Load("api"); err != nil || have.Current != nil {
			t.Fatalf("the order is over: %v", err)
		}
		time.Sleep(6 * time.Second) // its turn is within 5 s
		synctest.Wait()
		if two.server.served() != one.server.served() {
			t.Error("it does not serve what the first one does")
		}
	})
}

// TestLeavesItsTurn: a node that cannot answer the CA lets another one order, and the fleet counts no failure.
func TestLeavesItsTurn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		one, two := join(t, newBench(t, 90*day), m, "one"), join(t, newBench(t, 90*day), m, "two")
		one.ca.mu.Lock()
		one.ca.err = &certs.ValidationError{Identifier: one.spec.Identifiers[0], Solver: "standalone", Local: true, Err: errors.New("address already in use")}
		one.ca.mu.Unlock()
		if r := one.run(t, Options{}); r.Err == nil {
			t.Fatalf("%+v", r)
		}
		if h, _ := one.ledger.Head("www"); h.Failures != 0 || h.Attempts != 0 || !h.RetryAt.IsZero() {
			t.Fatalf("%+v", h)
		}
		if r := one.run(t, Options{}); r.Reason != plan.ReasonTurn || !strings.Contains(r.Message, "address already in use") || one.ca.count() != 1 {
			t.Fatalf("%+v", r)
		}
		if r := two.run(t, Options{}); !r.Obtained {
			t.Fatalf("%+v", r)
		}
		if r := one.run(t, Options{}); r.Err != nil || one.server.served() != two.server.served() {
			t.Fatalf("%+v", r)
		}
	})
}

// TestStoreBackUnderAWatch: calls fail for a moment, and the watch goes on, as that of etcd does when it finds another member.
// What it told meanwhile is followed when the store answers again, and not at the next sweep.
func TestStoreBackUnderAWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		one, two := join(t, newBench(t, 90*day), m, "one"), join(t, newBench(t, 90*day), m, "two")
		one.run(t, Options{})
		two.schedule(t)
		time.Sleep(10 * time.Minute)
		two.fault.CutCalls.Store(true)
		time.Sleep(fleet.BeatEvery + time.Second) // the node knows
		if r := one.run(t, Options{Force: true}); !r.Obtained {
			t.Fatalf("%+v", r)
		}
		time.Sleep(2 * time.Second)
		if n := two.load(t).State.Fleet.N; n != 1 {
			t.Fatalf("version %d although the store is away", n)
		}
		two.fault.CutCalls.Store(false)
		time.Sleep(fleet.BeatEvery + 2*time.Second)
		if n := two.load(t).State.Fleet.N; n != 2 {
			t.Fatalf("version %d after the store came back", n)
		}
	})
}
