package etcdtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

func TestSuite(t *testing.T) {
	c := newCluster(t, 3, nil)
	raw, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints()})
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	fleettest.Run(t, func(t *testing.T) fleettest.Store {
		empty(t, c.client(t))
		return fleettest.Store{
			Client: func() fleet.Engine { return c.client(t) },
			Compact: func(t *testing.T, upTo int64) {
				if _, err := raw.Compact(t.Context(), upTo, clientv3.WithCompactPhysical()); err != nil {
					t.Fatal(err)
				}
			},
		}
	})
}

func sealer(t testing.TB) *fleet.Sealer {
	t.Helper()
	key, err := fleet.ParseSealKey([]byte("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="))
	if err != nil {
		t.Fatal(err)
	}
	s, err := fleet.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// node runs one process of a fleet until the test ends.
func node(t testing.TB, c *cluster, id string) (*fleet.Ledger, *etcd.Engine) {
	t.Helper()
	e := c.client(t)
	return runNode(t, e, id), e
}

func runNode(t testing.TB, e *etcd.Engine, id string) *fleet.Ledger {
	t.Helper()
	l := fleet.New(fleet.Config{Fleet: "f", Engine: e, Sealer: sealer(t), Node: fleet.Node{ID: id}, Names: func() []string { return []string{"www"} }})
	var exists *fleet.ExistsError
	if err := l.Init(t.Context(), false); err != nil && !errors.As(err, &exists) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { l.Run(ctx, 0, func(int64) {}) })
	t.Cleanup(func() { cancel(); done.Wait() })
	eventually(t, func() bool { return l.Loaded() && l.Health().Up })
	return l
}

func bundle(t *testing.T) *certs.Bundle {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	return fleettest.Bundle(t, now.Add(-time.Hour), now.Add(time.Hour), "www.example.com")
}

// claim claims until it succeeds.
func claim(t testing.TB, l *fleet.Ledger, name string) *fleet.Claim {
	t.Helper()
	var c *fleet.Claim
	eventually(t, func() bool {
		seen, _ := l.Head(name)
		next := seen.Clone()
		next.Attempts++
		var err error
		c, err = l.Claim(t.Context(), name, seen, next, "test")
		return err == nil
	})
	return c
}

// TestLeaderKilled: claims and commits of three nodes while the leader is killed and comes back. No version is lost or
// given twice.
func TestLeaderKilled(t *testing.T) {
	c := newCluster(t, 3, nil)
	var mu sync.Mutex
	committed := map[string]int{} // nonce and number
	var all sync.WaitGroup
	var stop atomic.Bool
	var last *fleet.Ledger
	for i := range 3 {
		l, _ := node(t, c, fmt.Sprint("n", i))
		last = l
		all.Go(func() {
			for !stop.Load() {
				seen, _ := l.Head("www")
				next := seen.Clone()
				got, err := l.Claim(t.Context(), "www", seen, next, "test")
				if err != nil {
					time.Sleep(10 * time.Millisecond)
					continue
				}
				b := bundle(t)
				h := got.Head()
				h.SetVersion(h.N+1, b, "spec")
				if err := got.Commit(t.Context(), b, h); err == nil {
					mu.Lock()
					committed[fmt.Sprint(h.N)]++
					mu.Unlock()
				}
			}
		})
	}
	count := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(committed)
	}
	for range 2 {
		before := count()
		eventually(t, func() bool { return count() > before+10 })
		eventually(t, func() bool { return c.leader() >= 0 })
		killed := c.leader()
		c.stop(killed)
		before = count()
		eventually(t, func() bool { return count() > before+10 })
		c.start(t, killed)
	}
	stop.Store(true)
	all.Wait()
	for n, times := range committed {
		if times != 1 {
			t.Errorf("version %s was committed %d times", n, times)
		}
	}
	eventually(t, func() bool {
		h, _ := last.Head("www")
		_, err := last.Fetch(t.Context(), "www", h)
		return err == nil && h.N >= int64(len(committed))
	})
}

func TestNoQuorum(t *testing.T) {
	c := newCluster(t, 3, nil)
	l, e := node(t, c, "a")
	claim(t, l, "www")
	c.stop(0)
	c.stop(1)
	var failed *certs.LedgerError
	eventually(t, func() bool {
		_, err := e.Read(t.Context(), fleet.Range{From: "/x"})
		return errors.As(err, &failed)
	})
	seen, _ := l.Head("api")
	_, err := l.Claim(t.Context(), "api", seen, certs.Head{Attempts: 1}, "test")
	if !errors.As(err, &failed) || failed.Code != advice.StoreNoQuorum && failed.Code != advice.StoreUnreachable || !strings.Contains(err.Error(), "etcd") {
		t.Fatalf("without a quorum: %v", err)
	}
	if l.Health().Up {
		t.Error("the store counts as up")
	}
	c.start(t, 0)
	c.start(t, 1)
	eventually(t, func() bool { return l.Health().Up })
	claim(t, l, "api")
}

func TestNoSpace(t *testing.T) {
	c := newCluster(t, 1, func(config *embed.Config) { config.QuotaBackendBytes = 1 << 20 })
	e := c.client(t)
	var failed *certs.LedgerError
	for i := range 100 {
		_, err := e.Commit(t.Context(), fleet.Txn{Then: []fleet.Op{{Key: fmt.Sprint("/fill/", i), Value: make([]byte, 100_000)}}})
		if errors.As(err, &failed) {
			break
		}
	}
	if failed == nil || failed.Code != advice.StoreFull || failed.Unknown {
		t.Fatalf("a full store: %+v", failed)
	}
	if got, err := e.Read(t.Context(), fleet.Range{From: "/fill/0"}); err != nil || len(got.KVs) != 1 {
		t.Fatalf("a full store does not answer reads: %v", err)
	}
}

func TestMembers(t *testing.T) {
	c := newCluster(t, 3, nil)
	e := c.client(t)
	leaders := 0
	for _, m := range e.Members(t.Context()) {
		if m.Err != nil || m.Version == "" || m.Bytes == 0 {
			t.Errorf("%+v", m)
		}
		if m.Leader {
			leaders++
		}
	}
	if leaders != 1 {
		t.Errorf("%d leaders", leaders)
	}
	c.stop(2)
	if m := e.Members(t.Context())[2]; m.Err == nil {
		t.Errorf("a member that is down: %+v", m)
	}
}
