package fleettest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/fleet"
)

// Store is one store under test, which is empty at first.
type Store struct {
	Client  func() fleet.Engine            // a new connection, as of another process
	Compact func(t *testing.T, upTo int64) // forgets the history up to a revision
}

// Run runs the suite: first the engine's own contract, then the ledger's on it.
func Run(t *testing.T, open func(t *testing.T) Store) {
	for name, test := range map[string]func(*testing.T, Store){
		"transactions": transactions, "ranges": ranges, "watch": watch, "watch after compaction": watchCompacted, "leases": leases,
		"one claim": oneClaim, "a head that changed": headChanged, "the fence": fence, "a claim without an answer": lostClaim,
		"a commit without an answer": lostCommit, "a failure without an answer": lostFail, "letting go": letGo,
		"versions": versions, "unknown fields": unknownFields, "order continued": orderContinued, "one account": oneAccount,
		"budget under contention": budget, "answers": answers, "attacker": attacker, "notes": notes, "condemned": condemned,
		"forget": forget, "watching others": watching, "seal keys": sealKeys,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

func transactions(t *testing.T, s Store) {
	e, ctx := s.Client(), t.Context()
	commit := func(txn fleet.Txn) fleet.Result {
		t.Helper()
		r, err := e.Commit(ctx, txn)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := commit(fleet.Txn{If: []fleet.Cond{{Key: "/a"}}, Then: []fleet.Op{{Key: "/a", Value: []byte("1")}, {Key: "/b", Value: []byte("1")}}})
	if !first.Done || first.Revision == 0 {
		t.Fatalf("create: %+v", first)
	}
	again := commit(fleet.Txn{If: []fleet.Cond{{Key: "/a"}}, Then: []fleet.Op{{Key: "/c", Value: []byte("1")}}, Else: []string{"/a", "/missing", "/b"}})
	if again.Done || len(again.Read) != 2 || again.Read[0].Key != "/a" || string(again.Read[0].Value) != "1" || again.Read[1].Key != "/b" {
		t.Fatalf("create twice: %+v", again)
	}
	if r := commit(fleet.Txn{If: []fleet.Cond{{Key: "/a", Value: []byte("1")}, {Key: "/b", Value: []byte("2")}}, Then: []fleet.Op{{Key: "/a"}}}); r.Done {
		t.Fatal("one of two conditions was enough")
	}
	if r := commit(fleet.Txn{If: []fleet.Cond{{Key: "/missing", Value: []byte{}}}}); r.Done {
		t.Fatal("a key that does not exist has the empty value")
	}
	last := commit(fleet.Txn{If: []fleet.Cond{{Key: "/a", Value: []byte("1")}}, Then: []fleet.Op{{Key: "/a"}, {Key: "/nothing"}, {Key: "/b", Value: []byte("3")}}})
	if !last.Done || last.Revision <= first.Revision {
		t.Fatalf("change: %+v", last)
	}
	snapshot, err := e.Read(ctx, fleet.Prefix("/"))
	if err != nil || len(snapshot.KVs) != 1 || string(snapshot.KVs[0].Value) != "3" || snapshot.Revision != last.Revision || snapshot.KVs[0].Modified != last.Revision {
		t.Fatalf("at the end: %+v, %v", snapshot, err)
	}
}

func ranges(t *testing.T, s Store) {
	e, ctx := s.Client(), t.Context()
	for _, key := range []string{"/p/b", "/p/a", "/p0", "/p/c/d", "/o"} {
		if _, err := e.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: key, Value: []byte(key)}}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		r    fleet.Range
		want []string
		more bool
	}{
		{fleet.Prefix("/p/"), []string{"/p/a", "/p/b", "/p/c/d"}, false},
		{fleet.Range{From: "/p/", To: "/p0", Limit: 2}, []string{"/p/a", "/p/b"}, true},
		{fleet.Range{From: "/p/", To: "/p0", Limit: 3}, []string{"/p/a", "/p/b", "/p/c/d"}, false},
		{fleet.Range{From: "/p/a"}, []string{"/p/a"}, false},
		{fleet.Range{From: "/p"}, nil, false},
	} {
		got, err := e.Read(ctx, test.r)
		var keys []string
		for _, kv := range got.KVs {
			keys = append(keys, kv.Key)
		}
		if err != nil || !slices.Equal(keys, test.want) || got.More != test.more {
			t.Errorf("%+v: %q, more %v, %v", test.r, keys, got.More, err)
		}
	}
}

// errEnough ends a watch.
var errEnough = errors.New("enough")

// collect watches until n events have come.
func collect(t *testing.T, e fleet.Engine, after int64, ranges []fleet.Range, n int) ([]fleet.Event, error) {
	t.Helper()
	var events []fleet.Event
	err := e.Watch(t.Context(), after, ranges, func(b fleet.Batch) error {
		events = append(events, b.Events...)
		if len(events) >= n {
			return errEnough
		}
		return nil
	})
	return events, err
}

func watch(t *testing.T, s Store) {
	e, ctx := s.Client(), t.Context()
	var revisions []int64
	put := func(key string, value []byte) {
		r, err := e.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: key, Value: value}}})
		if err != nil {
			t.Error(err)
		}
		revisions = append(revisions, r.Revision)
	}
	put("/w/a", []byte("1"))
	put("/other", []byte("1"))
	put("/w/a", []byte("2"))
	put("/w/a", nil)
	events, err := collect(t, e, revisions[0], []fleet.Range{fleet.Prefix("/w/")}, 2)
	if !errors.Is(err, errEnough) || len(events) != 2 || string(events[0].Value) != "2" || events[0].Deleted ||
		!events[1].Deleted || events[1].Key != "/w/a" || events[0].Modified != revisions[2] || events[1].Modified != revisions[3] {
		t.Fatalf("changes of the past: %+v, %v", events, err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		other := s.Client()
		for i := range 50 {
			for _, dir := range []string{"/x/", "/y/"} {
				if _, err := other.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: dir + "k", Value: fmt.Append(nil, i)}}}); err != nil {
					t.Error(err)
				}
			}
		}
	}()
	events, err = collect(t, e, revisions[3], []fleet.Range{fleet.Prefix("/x/"), fleet.Prefix("/y/")}, 100)
	<-done
	seen := map[string]int{}
	for _, ev := range events {
		if string(ev.Value) != fmt.Sprint(seen[ev.Key]) {
			t.Fatalf("%s has %s, want %d", ev.Key, ev.Value, seen[ev.Key])
		}
		seen[ev.Key]++
	}
	if !errors.Is(err, errEnough) || len(events) != 100 {
		t.Fatalf("%d changes, %v", len(events), err)
	}
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := e.Watch(ended, revisions[3], []fleet.Range{fleet.Prefix("/z/")}, func(fleet.Batch) error { return nil }); err == nil {
		t.Fatal("a watch outlives its context")
	}
}

func watchCompacted(t *testing.T, s Store) {
	e, ctx := s.Client(), t.Context()
	var first, last int64
	for i := range 5 {
		r, err := e.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: "/w/a", Value: fmt.Append(nil, i)}}})
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			first = r.Revision
		}
		last = r.Revision
	}
	s.Compact(t, last)
	if _, err := collect(t, e, first, []fleet.Range{fleet.Prefix("/w/")}, 1); !errors.Is(err, fleet.ErrCompacted) {
		t.Fatalf("a watch from a compacted revision: %v", err)
	}
	go func() {
		_, _ = s.Client().Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: "/w/a", Value: []byte("new")}}})
	}()
	if events, err := collect(t, e, last, []fleet.Range{fleet.Prefix("/w/")}, 1); !errors.Is(err, errEnough) || string(events[0].Value) != "new" {
		t.Fatalf("a watch from the compacted revision on: %+v, %v", events, err)
	}
}

func leases(t *testing.T, s Store) {
	e, ctx := s.Client(), t.Context()
	lease, err := e.Grant(ctx, time.Minute)
	if err != nil || lease == 0 {
		t.Fatalf("grant: %d, %v", lease, err)
	}
	if err := e.KeepAlive(ctx, lease); err != nil {
		t.Fatal(err)
	}
	r, err := e.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: "/l/a", Value: []byte("1"), Lease: lease}, {Key: "/l/b", Value: []byte("1")}}})
	if err != nil || !r.Done {
		t.Fatal(err)
	}
	got, err := e.Read(ctx, fleet.Range{From: "/l/a"})
	if err != nil || len(got.KVs) != 1 || got.KVs[0].Lease != lease {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := s.Client().Revoke(ctx, lease); err != nil {
		t.Fatal(err)
	}
	got, err = e.Read(ctx, fleet.Prefix("/l/"))
	if err != nil || len(got.KVs) != 1 || got.KVs[0].Key != "/l/b" {
		t.Fatalf("after the lease: %+v, %v", got, err)
	}
	if err := e.KeepAlive(ctx, lease); !errors.Is(err, fleet.ErrNoLease) {
		t.Errorf("keep-alive of a lease that is gone: %v", err)
	}
	if _, err := e.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: "/l/a", Value: []byte("1"), Lease: lease}}}); !errors.Is(err, fleet.ErrNoLease) {
		t.Errorf("a key under a lease that is gone: %v", err)
	}
	if err := e.Revoke(ctx, lease); err != nil {
		t.Errorf("revoke twice: %v", err)
	}
	events, err := collect(t, e, r.Revision, []fleet.Range{fleet.Prefix("/l/")}, 1)
	if !errors.Is(err, errEnough) || !events[0].Deleted || events[0].Key != "/l/a" {
		t.Errorf("the end of a lease is a change: %+v, %v", events, err)
	}
}
