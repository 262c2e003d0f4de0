package fleet_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

// part is one process on a store in memory.
type part struct {
	*fleet.Ledger
	fault   *fleettest.Faulty
	leases  []int64
	changes atomic.Int64
	stop    func()
}

func testSealer(t *testing.T) *fleet.Sealer {
	t.Helper()
	key, err := fleet.ParseSealKey([]byte("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=\n"))
	if err != nil {
		t.Fatal(err)
	}
	s, err := fleet.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs a process until the test or its stop ends it.
func start(t *testing.T, m *fleettest.Memory, id string, names ...string) *part {
	t.Helper()
	p := &part{fault: &fleettest.Faulty{Engine: m.Client()}}
	p.Ledger = fleet.New(fleet.Config{
		Fleet: "f", Engine: p.fault, Sealer: testSealer(t), Node: fleet.Node{ID: id},
		Names: func() []string { return names }, Changed: func(string) { p.changes.Add(1) },
	})
	var exists *fleet.ExistsError
	if err := p.Init(t.Context(), false); err != nil && !errors.As(err, &exists) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	p.stop = func() { cancel(); <-done }
	go func() {
		defer close(done)
		p.Run(ctx, 0, func(lease int64) { p.leases = append(p.leases, lease) })
	}()
	synctest.Wait()
	return p
}

func head(n int64) certs.Head { return certs.Head{N: n, NotAfter: time.Now().Add(24 * time.Hour)} }

func TestClaimEndsBeforeItsLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		p := start(t, m, "a", "www")
		defer p.stop()
		c, err := p.Claim(t.Context(), "www", certs.Head{}, head(0), "test")
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if err := c.Context().Err(); err != nil {
			t.Fatalf("a claim whose node is well: %v", context.Cause(c.Context()))
		}
		p.fault.Cut.Store(true)
		cut := time.Now()
		<-c.Context().Done()
		if after := time.Since(cut); after < 15*time.Second || after > 25*time.Second {
			t.Errorf("it ended %s after the store was gone, the lease does after 20 to 30 s", after)
		}
		if p.Health().Up {
			t.Error("the store counts as up")
		}
		if _, err := p.Claim(t.Context(), "other", certs.Head{}, head(0), "test"); err == nil {
			t.Error("a claim without a lease")
		}
		other := start(t, m, "b", "www")
		defer other.stop()
		if _, claimed := other.Claimed("www"); !claimed {
			t.Error("the claim is gone before its lease: another node works at the same time")
		}
		time.Sleep(time.Minute)
		if _, claimed := other.Claimed("www"); claimed {
			t.Error("the claim outlives its lease")
		}
	})
}

func TestReturnsAfterTheStoreWasAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		p := start(t, m, "a", "www")
		defer p.stop()
		m.Down(true)
		time.Sleep(time.Hour)
		if h := p.Health(); h.Up || time.Since(h.Contact) < 59*time.Minute {
			t.Fatalf("%+v", h)
		}
		m.Down(false)
		m.Put("/acmed/f/v1/head/"+shardOf("www")+"/www", []byte(`{"n":7}`))
		time.Sleep(2 * time.Minute)
		if h, _ := p.Head("www"); h.N != 7 || !p.Health().Up {
			t.Fatalf("%+v, %+v", h, p.Health())
		}
		if nodes := p.Nodes(); len(nodes) != 1 {
			t.Fatalf("%+v", nodes)
		}
	})
}

// shardOf is the first byte of the SHA-256 of the name: another release must find the same keys.
func shardOf(name string) string { return map[string]string{"www": "7c", "api": "6b"}[name] }

func TestStoreGoesBack(t *testing.T) {
	for name, compact := range map[string]bool{"history kept": false, "compacted": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := fleettest.NewMemory()
				p, other := start(t, m, "a", "www"), start(t, m, "b", "www")
				defer p.stop()
				defer other.stop()
				backup := m.Backup()
				before, _ := p.Head("www")
				c, err := p.Claim(t.Context(), "www", before, head(0), "test")
				if err != nil {
					t.Fatal(err)
				}
				for range 20 {
					if err := c.Update(t.Context(), head(9), false); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(time.Second)
				if h, _ := other.Head("www"); h.N != 9 {
					t.Fatalf("%+v", h)
				}
				m.Restore(backup)
				if compact {
					m.Compact()
				}
				time.Sleep(time.Minute)
				for _, l := range []*part{p, other} {
					if h, ok := l.Head("www"); ok {
						t.Errorf("a head that the store does not have any more: %+v", h)
					}
				}
				m.Put("/acmed/f/v1/head/"+shardOf("www")+"/www", []byte(`{"n":3}`))
				time.Sleep(time.Second)
				for _, l := range []*part{p, other} {
					if h, _ := l.Head("www"); h.N != 3 {
						t.Errorf("the watch after the restore: %+v", h)
					}
				}
			})
		})
	}
}

// TestRestoredUnseen: the store went back and forth again before anybody asked it, so that no revision is smaller; the
// daily load finds it.
func TestRestoredUnseen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		p := start(t, m, "a", "www")
		defer p.stop()
		backup := m.Backup()
		key := "/acmed/f/v1/head/" + shardOf("www") + "/www"
		for range 3 {
			m.Put(key, []byte(`{"n":9}`))
		}
		synctest.Wait()
		m.Restore(backup)
		for range 10 {
			m.Put("/elsewhere", []byte("x"))
		}
		time.Sleep(25 * time.Hour)
		if h, ok := p.Head("www"); ok {
			t.Fatalf("%+v", h)
		}
	})
}

func TestManyHeads(t *testing.T) {
	m := fleettest.NewMemory()
	const most = 50_050
	for i := range most {
		m.Put(fmt.Sprintf("/acmed/f/v1/head/%02x/n%d", i%256, i), []byte(`{"n":1}`))
	}
	l := fleet.New(fleet.Config{Fleet: "f", Engine: m.Client(), Has: func(name string) bool { return name != "n7" }})
	if _, err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range most {
		if _, ok := l.Head(fmt.Sprintf("n%d", i)); ok != (i != 7) {
			t.Fatalf("n%d: %v", i, ok)
		}
	}
}

func TestRestartRevokesItsLease(t *testing.T) {
	m := fleettest.NewMemory()
	begin := func(old int64) (*fleet.Ledger, int64) {
		l := fleet.New(fleet.Config{Fleet: "f", Engine: m.Client(), Sealer: testSealer(t), Node: fleet.Node{ID: "a"}})
		var exists *fleet.ExistsError
		if err := l.Init(t.Context(), false); err != nil && !errors.As(err, &exists) {
			t.Fatal(err)
		}
		lease, err := l.Join(t.Context(), old)
		if err == nil {
			_, err = l.Load(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		return l, lease
	}
	killed, lease := begin(0)
	if _, err := killed.Claim(t.Context(), "www", certs.Head{}, head(0), "test"); err != nil {
		t.Fatal(err)
	}
	next, _ := begin(lease)
	seen, _ := next.Head("www")
	if _, err := next.Claim(t.Context(), "www", seen, seen, "test"); err != nil {
		t.Fatalf("the claim of the process before: %v", err)
	}
}

func TestMalformedHeadIsReportedAndReplaced(t *testing.T) {
	m := fleettest.NewMemory()
	m.Put("/acmed/f/v1/head/"+shardOf("www")+"/www", []byte("{"))
	l := fleet.New(fleet.Config{Fleet: "f", Engine: m.Client(), Sealer: testSealer(t), Node: fleet.Node{ID: "a"}})
	if err := l.Init(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Join(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	seen, ok := l.Head("www")
	if !ok || seen.N != 0 || l.Problems()["www"] == "" {
		t.Fatalf("%+v, %v, %q", seen, ok, l.Problems())
	}
	if _, err := l.Claim(t.Context(), "www", seen, certs.Head{Attempts: 1}, "test"); err != nil {
		t.Fatal(err)
	}
	if len(l.Problems()) != 0 {
		t.Fatalf("%q", l.Problems())
	}
}

func TestNoFleet(t *testing.T) {
	l := fleet.New(fleet.Config{Fleet: "f", Engine: fleettest.NewMemory().Client(), Sealer: testSealer(t)})
	var none *fleet.NoFleetError
	if _, err := l.Join(t.Context(), 0); !errors.As(err, &none) {
		t.Fatal(err)
	}
}

// TestOldestRelease: a node of a release that may not order takes what others obtain, and has no turn.
func TestOldestRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := fleettest.NewMemory()
		of := func(id, release string) *fleet.Ledger {
			l := fleet.New(fleet.Config{Fleet: "f", Engine: m.Client(), Sealer: testSealer(t), Node: fleet.Node{ID: id, Release: release}, Names: func() []string { return []string{"www"} }})
			var exists *fleet.ExistsError
			if err := l.Init(t.Context(), false); err != nil && !errors.As(err, &exists) {
				t.Fatal(err)
			}
			go l.Run(t.Context(), 0, func(int64) {})
			synctest.Wait()
			return l
		}
		nodes := []*fleet.Ledger{of("a", "v1.9.3"), of("b", "1.10.0-4-gabcdef"), of("c", "devel")}
		for oldest, want := range map[string][]bool{"1.10.0": {true, false, false}, "2.0.0": {true, true, false}, "": {false, false, false}} {
			if err := nodes[0].SetMin(t.Context(), oldest); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			for i, l := range nodes {
				if l.Installs() != want[i] {
					t.Errorf("oldest %q: node %d only takes: %v", oldest, i, l.Installs())
				}
			}
			if _, n := nodes[2].Rank("www"); n != 3-count(want) {
				t.Errorf("oldest %q: %d nodes have a turn", oldest, n)
			}
		}
		if err := nodes[0].SetMin(t.Context(), "newest"); err == nil {
			t.Error("a release without a number was taken")
		}
	})
}

func count(list []bool) (n int) {
	for _, is := range list {
		if is {
			n++
		}
	}
	return n
}
