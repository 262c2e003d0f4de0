package fleettest

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/store"
)

const fleetName = "test-fleet"

// root is where the fleet's keys begin.
const root = "/acmed/" + fleetName + "/v1/"

// fixture is a fleet on one store, with a seal key of its own.
type fixture struct {
	store Store
	key   certs.Secret
	nodes int
}

func newFixture(t *testing.T, s Store) *fixture {
	t.Helper()
	key, err := fleet.ParseSealKey(fleet.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{store: s, key: key}
	if err := f.ledger(t, nil).Init(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	return f
}

// ledger returns a process that has not joined. Fault, if given, is its connection's.
func (f *fixture) ledger(t *testing.T, fault *Faulty) *fleet.Ledger {
	t.Helper()
	sealer, err := fleet.NewSealer(f.key)
	if err != nil {
		t.Fatal(err)
	}
	f.nodes++
	engine := f.store.Client()
	if fault != nil {
		fault.Engine = engine
		engine = fault
	}
	return fleet.New(fleet.Config{
		Fleet: fleetName, Engine: engine, Sealer: sealer, Node: fleet.Node{ID: fmt.Sprintf("node%d", f.nodes)},
		Names: func() []string { return []string{"www"} },
	})
}

// joined returns a process that has joined and read everything.
func (f *fixture) joined(t *testing.T, fault *Faulty) *fleet.Ledger {
	t.Helper()
	l := f.ledger(t, fault)
	lease, err := l.Join(t.Context(), 0)
	if err == nil {
		_, err = l.Load(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.store.Client().Revoke(context.Background(), lease) })
	return l
}

// leaseOf is the lease of a process, as the others see it.
func leaseOf(t *testing.T, f *fixture, id int) int64 {
	t.Helper()
	l := f.joined(t, nil)
	for _, n := range l.Nodes() {
		if n.ID == fmt.Sprintf("node%d", id) {
			return n.Lease
		}
	}
	t.Fatalf("node%d is not listed: %+v", id, l.Nodes())
	return 0
}

func mustClaim(t *testing.T, l *fleet.Ledger, name string) *fleet.Claim {
	t.Helper()
	seen, _ := l.Head(name)
	next := seen.Clone()
	next.Attempts++
	c, err := l.Claim(t.Context(), name, seen, next, "test")
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// version is the head of c with b in it.
func version(c *fleet.Claim, b *certs.Bundle) certs.Head {
	h := c.Head()
	h.SetVersion(h.N+1, b, "1-spec")
	h.Attempts = 0
	return h
}

func month(t *testing.T) *certs.Bundle {
	t.Helper()
	now := time.Now().Truncate(time.Second)
	return Bundle(t, now.Add(-time.Hour), now.Add(30*24*time.Hour), "www.example.com")
}

func mustCommit(t *testing.T, l *fleet.Ledger) *certs.Bundle {
	t.Helper()
	c, b := mustClaim(t, l, "www"), month(t)
	if err := c.Commit(t.Context(), b, version(c, b)); err != nil {
		t.Fatal(err)
	}
	return b
}

func reload(t *testing.T, l *fleet.Ledger) {
	t.Helper()
	if _, err := l.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func overtaken(err error) bool {
	var e *certs.OvertakenError
	return errors.As(err, &e)
}

func oneClaim(t *testing.T, s Store) {
	f := newFixture(t, s)
	var won, elsewhere atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		l := f.joined(t, nil)
		wg.Go(func() {
			_, err := l.Claim(t.Context(), "www", certs.Head{}, certs.Head{Attempts: 1}, "test")
			var other *certs.ElsewhereError
			switch {
			case err == nil:
				won.Add(1)
			case errors.As(err, &other) && other.Node != "" && other.Why == "test":
				elsewhere.Add(1)
			default:
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won.Load() != 1 || elsewhere.Load() != 7 {
		t.Fatalf("%d claims, %d told that another node is at it", won.Load(), elsewhere.Load())
	}
}

func headChanged(t *testing.T, s Store) {
	f := newFixture(t, s)
	one, two := f.joined(t, nil), f.joined(t, nil)
	b := mustCommit(t, one)
	_, err := two.Claim(t.Context(), "www", certs.Head{}, certs.Head{}, "test")
	var changed *certs.ChangedError
	if !errors.As(err, &changed) {
		t.Fatalf("a claim on what was: %v", err)
	}
	if h, _ := two.Head("www"); h.N != 1 || h.Fingerprint != b.Fingerprint() {
		t.Fatalf("the refusal did not teach the head: %+v", h)
	}
	mustClaim(t, two, "www")
}

// fence: a node whose lease ended while it was paused comes back when another one has the claim, and when that is done.
func fence(t *testing.T, s Store) {
	f := newFixture(t, s)
	paused, b := f.joined(t, nil), month(t)
	c := mustClaim(t, paused, "www")
	if err := s.Client().Revoke(t.Context(), leaseOf(t, f, 2)); err != nil {
		t.Fatal(err)
	}
	other := f.joined(t, nil)
	theirs := mustClaim(t, other, "www")
	order := &store.Order{URL: "https://ca/order/theirs", Directory: "https://ca", Created: time.Now()}
	if err := theirs.SaveOrder(t.Context(), store.SlotEC, order); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"hold": c.Hold(t.Context()), "journal": c.SaveOrder(t.Context(), store.SlotEC, &store.Order{URL: "https://ca/order/mine"}),
		"drop": c.DropOrder(t.Context(), store.SlotEC), "update": c.Update(t.Context(), c.Head(), true), "commit": c.Commit(t.Context(), b, version(c, b)),
	} {
		if !overtaken(err) {
			t.Errorf("%s of a node that was paused: %v", what, err)
		}
	}
	if err := c.Release(t.Context()); err != nil {
		t.Errorf("letting go of what is gone: %v", err)
	}
	if got, err := theirs.Order(t.Context(), store.SlotEC); err != nil || got == nil || got.URL != order.URL {
		t.Fatalf("the other node's order: %+v, %v", got, err)
	}
	if err := theirs.Commit(t.Context(), b, version(theirs, b)); err != nil {
		t.Fatal(err)
	}
	if err := c.Fail(t.Context(), certs.Head{LastError: "mine"}); err != nil {
		t.Errorf("a failure after the end: %v", err)
	}
	reload(t, other)
	if h, _ := other.Head("www"); h.N != 1 || h.LastError != "" || h.Attempts != 0 || h.Node != "node4" {
		t.Fatalf("the head: %+v", h)
	}
}

// loseOne loses the answer to the first transaction from now on that has this many operations at least.
func loseOne(f *Faulty, ops int) *atomic.Int32 {
	var lost atomic.Int32
	f.Lost = func(txn fleet.Txn) bool { return len(txn.Then) >= ops && lost.CompareAndSwap(0, 1) }
	return &lost
}

func lostClaim(t *testing.T, s Store) {
	f := newFixture(t, s)
	fault := &Faulty{}
	l := f.joined(t, fault)
	lost := loseOne(fault, 2)
	c := mustClaim(t, l, "www")
	if lost.Load() != 1 {
		t.Fatal("no answer was lost")
	}
	if err := c.Hold(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := month(t)
	if err := c.Commit(t.Context(), b, version(c, b)); err != nil {
		t.Fatal(err)
	}
}

func lostCommit(t *testing.T, s Store) {
	f := newFixture(t, s)
	fault := &Faulty{}
	l := f.joined(t, fault)
	c, b := mustClaim(t, l, "www"), month(t)
	lost := loseOne(fault, 3)
	if err := c.Commit(t.Context(), b, version(c, b)); err != nil || lost.Load() != 1 {
		t.Fatalf("%v, %d lost", err, lost.Load())
	}
	reload(t, l)
	if h, _ := l.Head("www"); h.N != 1 || h.Fingerprint != b.Fingerprint() {
		t.Fatalf("%+v", h)
	}
	if _, claimed := l.Claimed("www"); claimed {
		t.Fatal("the claim is still there")
	}
}

func lostFail(t *testing.T, s Store) {
	f := newFixture(t, s)
	fault := &Faulty{}
	l := f.joined(t, fault)
	c := mustClaim(t, l, "www")
	h := c.Head()
	h.Failures, h.LastError = 1, "no"
	lost := loseOne(fault, 2)
	if err := c.Fail(t.Context(), h); err != nil || lost.Load() != 1 {
		t.Fatalf("%v, %d lost", err, lost.Load())
	}
	reload(t, l)
	if h, _ := l.Head("www"); h.Failures != 1 || h.LastError != "no" {
		t.Fatalf("%+v", h)
	}
	mustClaim(t, l, "www")
}

// letGo: a claim whose answer was lost, with no way to ask, goes at the next beat; one with a job stays.
func letGo(t *testing.T, s Store) {
	f := newFixture(t, s)
	fault := &Faulty{}
	l := f.joined(t, fault)
	kept := mustClaim(t, l, "kept")
	loseOne(fault, 2)
	var cut atomic.Bool
	cut.Store(true)
	fault.Before = func(_ context.Context, what string) error {
		if what == "read" && cut.Load() {
			return Away()
		}
		return nil
	}
	if _, err := l.Claim(t.Context(), "www", certs.Head{}, certs.Head{Attempts: 1}, "test"); err == nil {
		t.Fatal("a claim without an answer was taken for one")
	}
	cut.Store(false)
	other := f.joined(t, nil)
	if _, claimed := other.Claimed("www"); !claimed {
		t.Fatal("the claim is not in the store, so this tests nothing")
	}
	reload(t, l) // the watch would bring it
	if err := l.Beat(t.Context()); err != nil {
		t.Fatal(err)
	}
	reload(t, other)
	if _, claimed := other.Claimed("www"); claimed {
		t.Fatal("the beat did not let go of a claim without a job")
	}
	if err := kept.Hold(t.Context()); err != nil {
		t.Fatalf("the beat let go of a claim with a job: %v", err)
	}
}

func versions(t *testing.T, s Store) {
	f := newFixture(t, s)
	l, other := f.joined(t, nil), f.joined(t, nil)
	var last *certs.Bundle
	for range 4 {
		last = mustCommit(t, l)
	}
	data, err := s.Client().Read(t.Context(), fleet.Prefix(root+"data/"))
	if err != nil || len(data.KVs) != 2 || !strings.HasSuffix(data.KVs[0].Key, "/www/3") || !strings.HasSuffix(data.KVs[1].Key, "/www/4") {
		t.Fatalf("%d versions stay, %v", len(data.KVs), err)
	}
	reload(t, other)
	h, ok := other.Head("www")
	if !ok || h.N != 4 {
		t.Fatalf("%+v", h)
	}
	got, err := other.Fetch(t.Context(), "www", h)
	if err != nil || got.Fingerprint() != last.Fingerprint() || !bytes.Equal(got.KeyPEM, last.KeyPEM) || got.Issuer != "test" {
		t.Fatalf("fetched %+v, %v", got, err)
	}
	all, err := s.Client().Read(t.Context(), fleet.Prefix("/"))
	if err != nil {
		t.Fatal(err)
	}
	for _, kv := range all.KVs {
		if bytes.Contains(kv.Value, []byte("PRIVATE")) || bytes.Contains(kv.Value, f.key) {
			t.Errorf("%s has a key in clear", kv.Key)
		}
	}
	c, b := mustClaim(t, l, "www"), month(t)
	h = c.Head()
	h.SetVersion(4, b, "1-spec")
	if err := c.Commit(t.Context(), b, h); err == nil {
		t.Fatal("a version with the number of the one before was committed")
	}
}

func unknownFields(t *testing.T, s Store) {
	f := newFixture(t, s)
	l := f.joined(t, nil)
	mustCommit(t, l)
	heads, err := s.Client().Read(t.Context(), fleet.Prefix(root+"head/"))
	if err != nil || len(heads.KVs) != 1 {
		t.Fatal(err)
	}
	later := append(bytes.TrimSuffix(heads.KVs[0].Value, []byte("}")), `,"of_a_later_release":{"x":1}}`...)
	if _, err := s.Client().Commit(t.Context(), fleet.Txn{Then: []fleet.Op{{Key: heads.KVs[0].Key, Value: later}}}); err != nil {
		t.Fatal(err)
	}
	reload(t, l)
	mustCommit(t, l)
	c := mustClaim(t, l, "www")
	if err := c.Fail(t.Context(), c.Head()); err != nil {
		t.Fatal(err)
	}
	heads, err = s.Client().Read(t.Context(), fleet.Prefix(root+"head/"))
	var members map[string]json.RawMessage
	if err != nil || json.Unmarshal(heads.KVs[0].Value, &members) != nil || string(members["of_a_later_release"]) != `{"x":1}` {
		t.Fatalf("%s, %v", heads.KVs[0].Value, err)
	}
}

func orderContinued(t *testing.T, s Store) {
	f := newFixture(t, s)
	l := f.joined(t, nil)
	c := mustClaim(t, l, "www")
	key, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	text, err := certs.EncodeKey(key)
	if err != nil {
		t.Fatal(err)
	}
	order := &store.Order{URL: "https://ca/order/1", Directory: "https://ca", Account: "https://ca/acct/1", KeyPEM: text, Created: time.Now().UTC().Truncate(time.Second), Finalized: true}
	if err := c.SaveOrder(t.Context(), store.SlotRSA, order); err != nil {
		t.Fatal(err)
	}
	if err := s.Client().Revoke(t.Context(), leaseOf(t, f, 2)); err != nil {
		t.Fatal(err)
	}
	successor := f.joined(t, nil)
	if successor.Abandoned("www").IsZero() {
		t.Error("a pending order without a claim is not seen")
	}
	next := mustClaim(t, successor, "www")
	if !successor.Abandoned("www").IsZero() {
		t.Error("a pending order under a claim counts as abandoned")
	}
	if h := next.Head(); h.Attempts != 2 {
		t.Errorf("the successor knows of %d attempts, want 2", h.Attempts)
	}
	got, err := next.Order(t.Context(), store.SlotRSA)
	if err != nil || got == nil || got.URL != order.URL || !bytes.Equal(got.KeyPEM, order.KeyPEM) || !got.Finalized || !got.Created.Equal(order.Created) {
		t.Fatalf("%+v, %v", got, err)
	}
	if none, err := next.Order(t.Context(), store.SlotEC); none != nil || err != nil {
		t.Fatalf("%+v, %v", none, err)
	}
	b := month(t)
	if err := next.Commit(t.Context(), b, version(next, b)); err != nil {
		t.Fatal(err)
	}
	if left, err := s.Client().Read(t.Context(), fleet.Prefix(root+"order/")); err != nil || len(left.KVs) != 0 {
		t.Fatalf("%d pending orders after the commit, %v", len(left.KVs), err)
	}
}

func oneAccount(t *testing.T, s Store) {
	f := newFixture(t, s)
	const directory, contact = "https://ca/dir", "ops@example.com"
	keys := make([]certs.Secret, 6)
	var wg sync.WaitGroup
	for i := range keys {
		l := f.joined(t, nil)
		wg.Go(func() {
			key, err := certs.NewKey(certs.EC256)
			if err != nil {
				t.Error(err)
				return
			}
			a, err := l.SaveAccount(t.Context(), directory, contact, &fleet.Account{Account: store.Account{Key: key}, Thumbprint: fmt.Sprint(i)})
			if err != nil {
				t.Error(err)
				return
			}
			keys[i], _ = certs.EncodeKey(a.Key)
		})
	}
	wg.Wait()
	for i := range keys {
		if !bytes.Equal(keys[i], keys[0]) {
			t.Fatal("two nodes have two keys for one account")
		}
	}
	l := f.joined(t, nil)
	a, err := l.Account(t.Context(), directory, contact)
	if err != nil || a == nil {
		t.Fatal(err)
	}
	a.URI = "https://ca/acct/1"
	if a, err = l.SaveAccount(t.Context(), directory, contact, a); err != nil || a.URI == "" {
		t.Fatal(err)
	}
	if l.AccountChanged(directory, contact, a) || l.Thumbprint(directory, contact) != a.Thumbprint || a.Thumbprint == "" {
		t.Error("the account is not known from memory")
	}
	other := f.joined(t, nil)
	if none, err := other.Account(t.Context(), directory, "other@example.com"); none != nil || err != nil {
		t.Fatalf("%+v, %v", none, err)
	}
	newer, err := other.Account(t.Context(), directory, contact)
	if err != nil {
		t.Fatal(err)
	}
	newer.Contacts = []string{"mailto:x@example.com"}
	if _, err = other.SaveAccount(t.Context(), directory, contact, newer); err != nil {
		t.Fatal(err)
	}
	a.URI = "https://ca/acct/overwritten"
	if got, err := l.SaveAccount(t.Context(), directory, contact, a); err != nil || got.URI != "https://ca/acct/1" || len(got.Contacts) != 1 {
		t.Fatalf("a save over what another node saved: %+v, %v", got, err)
	}
	if !l.AccountChanged(directory, contact, a) {
		t.Error("the change by another node is not seen")
	}
}

func budget(t *testing.T, s Store) {
	f := newFixture(t, s)
	const directory, contact = "https://ca/dir", ""
	const most = 20
	var taken, refused atomic.Int32
	var wg sync.WaitGroup
	for range 6 {
		l := f.joined(t, nil)
		wg.Go(func() {
			for range 6 {
				switch at, err := l.TakeOrder(t.Context(), directory, contact, most, time.Hour); {
				case err != nil:
					t.Error(err)
				case at.IsZero():
					taken.Add(1)
				case at.After(time.Now()):
					refused.Add(1)
				}
			}
		})
	}
	wg.Wait()
	if taken.Load() != most || refused.Load() != 36-most {
		t.Fatalf("%d orders, %d refused", taken.Load(), refused.Load())
	}
	l := f.joined(t, nil)
	until := time.Now().Add(2 * time.Hour).UTC().Truncate(time.Second)
	for _, at := range []time.Time{until, until.Add(-time.Hour)} {
		if err := l.Pause(t.Context(), directory, contact, at, true); err != nil {
			t.Fatal(err)
		}
	}
	if at, err := f.joined(t, nil).TakeOrder(t.Context(), directory, contact, 0, time.Hour); err != nil || !at.Equal(until) {
		t.Fatalf("during a pause until %s: %s, %v", until, at, err)
	}
	if b := l.Budget(directory, contact); len(b.Orders) != most || !b.Down || !b.RetryAt.Equal(until) {
		t.Fatalf("%+v", b)
	}
}

func answers(t *testing.T, s Store) {
	f := newFixture(t, s)
	one, two := f.joined(t, nil), f.joined(t, nil)
	put := func(l *fleet.Ledger, answer string) error {
		return l.PutAnswer(t.Context(), fleet.AnswerTLSALPN, "www.example.com", answer)
	}
	if err := errors.Join(put(one, "first"), put(one, "first")); err != nil {
		t.Fatal(err)
	}
	if got, err := two.Answer(t.Context(), fleet.AnswerTLSALPN, "www.example.com"); err != nil || got != "first" {
		t.Fatalf("read through: %q, %v", got, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := two.PutAnswer(ended, fleet.AnswerTLSALPN, "www.example.com", "second"); err == nil {
		t.Fatal("a second answer took the place of the first")
	}
	done := make(chan error, 1)
	go func() { done <- put(two, "second") }()
	if err := one.DropAnswer(t.Context(), fleet.AnswerTLSALPN, "www.example.com", "not this"); err != nil {
		t.Fatal(err)
	}
	if got, err := two.Answer(t.Context(), fleet.AnswerTLSALPN, "www.example.com"); err != nil || got != "first" {
		t.Fatalf("another answer was dropped: %q, %v", got, err)
	}
	if err := one.DropAnswer(t.Context(), fleet.AnswerTLSALPN, "www.example.com", "first"); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	if got, err := one.Answer(t.Context(), fleet.AnswerTLSALPN, "www.example.com"); err != nil || got != "second" {
		t.Fatalf("after the wait: %q, %v", got, err)
	}
	if got, err := one.Answer(t.Context(), fleet.AnswerTLSALPN, "other.example.com"); err != nil || got != "" {
		t.Fatalf("%q, %v", got, err)
	}
}

// attacker: somebody who can write to the store, and has not the seal key.
func attacker(t *testing.T, s Store) {
	f := newFixture(t, s)
	l, ctx := f.joined(t, nil), t.Context()
	mustCommit(t, l)
	old, _ := l.Head("www")
	mustCommit(t, l)
	c := mustClaim(t, l, "other")
	now := time.Now().Truncate(time.Second)
	b := Bundle(t, now.Add(-time.Hour), now.Add(time.Hour), "other.example.com")
	if err := c.Commit(ctx, b, version(c, b)); err != nil {
		t.Fatal(err)
	}
	head, _ := l.Head("www")
	data, err := s.Client().Read(ctx, fleet.Prefix(root+"data/"))
	if err != nil {
		t.Fatal(err)
	}
	value := map[string][]byte{}
	for _, kv := range data.KVs {
		value[strings.Join(strings.Split(kv.Key, "/")[6:], "/")] = kv.Value
	}
	place := ""
	for _, kv := range data.KVs {
		if strings.HasSuffix(kv.Key, "/www/2") {
			place = kv.Key
		}
	}
	foreign, err := fleet.ParseSealKey(fleet.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	sealer, err := fleet.NewSealer(foreign)
	if err != nil {
		t.Fatal(err)
	}
	planted, err := json.Marshal(map[string]any{"names": []string{"www.example.com"}, "sealed": sealer.Seal(place, []byte("{}"))})
	if err != nil {
		t.Fatal(err)
	}
	flipped := bytes.Clone(value["www/2"])
	flipped[len(flipped)-10] ^= 1
	for what, plant := range map[string][]byte{
		"another certificate's version": value["other/1"], "an older version": value["www/1"], "sealed with another key": planted,
		"garbage": []byte("{"), "a changed byte": flipped, "nothing": nil,
	} {
		if _, err := s.Client().Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: place, Value: plant}}}); err != nil {
			t.Fatal(err)
		}
		_, err := l.Fetch(ctx, "www", head)
		var refused *fleet.SealError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "/www/2") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := s.Client().Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: place, Value: value["www/2"]}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := l.Fetch(ctx, "www", head); err != nil {
		t.Fatalf("the right version is refused: %v", err)
	}
	old.N = head.N // an old head under a new number
	var refused *fleet.SealError
	if _, err := l.Fetch(ctx, "www", old); !errors.As(err, &refused) {
		t.Errorf("a head with another fingerprint: %v", err)
	}
}

func notes(t *testing.T, s Store) {
	f := newFixture(t, s)
	l, other := f.joined(t, nil), f.joined(t, nil)
	mustCommit(t, l)
	seen, _ := l.Head("www")
	h := seen.Clone()
	h.ARIURL = "https://ca/why"
	if err := l.Note(t.Context(), "www", seen, h); err != nil {
		t.Fatal(err)
	}
	var changed *certs.ChangedError
	if err := l.Note(t.Context(), "www", seen, h); !errors.As(err, &changed) {
		t.Fatalf("a note on what was: %v", err)
	}
	reload(t, other)
	c := mustClaim(t, other, "www")
	seen, _ = l.Head("www")
	var elsewhere *certs.ElsewhereError
	if err := l.Note(t.Context(), "www", seen, h); !errors.As(err, &elsewhere) {
		t.Fatalf("a note during a claim: %v", err)
	}
	if err := c.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	if h := c.Head(); h.ARIURL != "https://ca/why" {
		t.Fatalf("the note is lost: %+v", h)
	}
}

func condemned(t *testing.T, s Store) {
	f := newFixture(t, s)
	l := f.joined(t, nil)
	b := mustCommit(t, l)
	c := mustClaim(t, l, "www")
	if err := c.SaveOrder(t.Context(), store.SlotEC, &store.Order{URL: "https://ca/order/1"}); err != nil {
		t.Fatal(err)
	}
	h := c.Head()
	h.Condemned = fleet.KeyHashes(b)
	if err := c.Update(t.Context(), h, true); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"data/", "order/"} {
		if left, err := s.Client().Read(t.Context(), fleet.Prefix(root+dir)); err != nil || len(left.KVs) != 0 {
			t.Errorf("%d of %s stay, %v", len(left.KVs), dir, err)
		}
	}
	h = c.Head()
	h.SetVersion(h.N+1, b, "1-spec")
	if err := c.Commit(t.Context(), b, h); err == nil {
		t.Fatal("a key that others may know was published again")
	}
}

func forget(t *testing.T, s Store) {
	f := newFixture(t, s)
	l := f.joined(t, nil)
	mustCommit(t, l)
	mustCommit(t, l)
	if err := l.Forget(t.Context(), "www"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"head/", "data/", "claim/", "order/"} {
		if left, err := s.Client().Read(t.Context(), fleet.Prefix(root+dir)); err != nil || len(left.KVs) != 0 {
			t.Errorf("%d of %s stay, %v", len(left.KVs), dir, err)
		}
	}
}

// watching: what one node does, a running node sees.
func watching(t *testing.T, s Store) {
	f := newFixture(t, s)
	seen := make(chan string, 100)
	sealer, err := fleet.NewSealer(f.key)
	if err != nil {
		t.Fatal(err)
	}
	watcher := fleet.New(fleet.Config{
		Fleet: fleetName, Engine: s.Client(), Sealer: sealer, Node: fleet.Node{ID: "watcher"}, Has: func(name string) bool { return name == "www" },
		Changed: func(name string) {
			select {
			case seen <- name:
			default:
			}
		},
	})
	ctx, cancel := context.WithCancel(t.Context())
	done, joined := make(chan struct{}), make(chan int64, 10)
	go func() {
		defer close(done)
		watcher.Run(ctx, 0, func(lease int64) { joined <- lease })
	}()
	lease := <-joined
	l := f.joined(t, nil)
	b := mustCommit(t, l)
	for h, _ := watcher.Head("www"); h.Fingerprint != b.Fingerprint(); h, _ = watcher.Head("www") {
		if name := <-seen; name != "www" {
			t.Fatalf("told of %q", name)
		}
	}
	if err := s.Client().Revoke(t.Context(), lease); err != nil { // its lease ends behind its back
		t.Fatal(err)
	}
	if err := watcher.Beat(t.Context()); !errors.Is(err, fleet.ErrNoLease) {
		t.Fatalf("a beat without a lease: %v", err)
	}
	cancel()
	<-done
	nodes, err := s.Client().Read(t.Context(), fleet.Prefix(root+"node/watcher/"))
	if err != nil || len(nodes.KVs) != 0 {
		t.Fatalf("it is still listed: %v, %v", nodes.KVs, err)
	}
}

func sealKeys(t *testing.T, s Store) {
	f := newFixture(t, s)
	first := f.joined(t, nil)
	mustCommit(t, first)
	thumbprint := func(crypto.PublicKey) (string, error) { return "thumb", nil }
	account, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fleet.NewAccounts(first, thumbprint).SaveAccount(t.Context(), "https://ca", "", &store.Account{URI: "https://ca/1", Key: account}); err != nil {
		t.Fatal(err)
	}
	fresh, err := fleet.ParseSealKey(fleet.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	with := func(id string, keys ...certs.Secret) *fleet.Ledger {
		sealer, err := fleet.NewSealer(keys...)
		if err != nil {
			t.Fatal(err)
		}
		return fleet.New(fleet.Config{Fleet: fleetName, Engine: s.Client(), Sealer: sealer, Node: fleet.Node{ID: id}})
	}
	join := func(l *fleet.Ledger) error {
		lease, err := l.Join(t.Context(), 0)
		if err == nil {
			t.Cleanup(func() { _ = s.Client().Revoke(context.Background(), lease) })
		}
		return err
	}
	var wrong *fleet.SealKeyError
	if err := join(with("wrong", fresh)); !errors.As(err, &wrong) {
		t.Fatalf("a node with another fleet's key: %v", err)
	}
	rotating := with("rotating", fresh, f.key)
	if err := join(rotating); err != nil {
		t.Fatal(err)
	}
	reload(t, rotating)
	mustCommit(t, rotating)
	h, _ := rotating.Head("www")
	if a, err := fleet.NewAccounts(rotating, thumbprint).Account(t.Context(), "https://ca", ""); err != nil || a == nil {
		t.Fatal(a, err)
	}
	renewed := with("renewed", fresh)
	if err := join(renewed); err != nil {
		t.Fatalf("a node with the new key alone: %v", err)
	}
	if _, err := renewed.Fetch(t.Context(), "www", h); err != nil {
		t.Fatal(err)
	}
	if a, err := renewed.Account(t.Context(), "https://ca", ""); err != nil || a == nil || a.URI != "https://ca/1" {
		t.Fatalf("the account was not sealed again: %+v, %v", a, err)
	}
	var exists *fleet.ExistsError
	if err := with("again", fresh).Init(t.Context(), false); !errors.As(err, &exists) {
		t.Fatalf("init twice: %v", err)
	}
	lost, err := fleet.ParseSealKey(fleet.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	again := with("again", lost)
	if err := again.Init(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if err := join(again); err != nil {
		t.Fatal(err)
	}
	if err := join(with("left", fresh)); !errors.As(err, &wrong) {
		t.Fatalf("the key from before init --again: %v", err)
	}
}
