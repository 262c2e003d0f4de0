package fleet

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// The times of a lease: a node that the store did not answer for TTL has lost its claims, and stops its own work a margin
// before that.
const (
	LeaseTTL    = 30 * time.Second
	BeatEvery   = 10 * time.Second
	leaseMargin = 5 * time.Second
)

// announceEvery is how often a node lists itself again although nothing changed: if the store has an older entry
// afterwards, it went back.
const announceEvery = time.Minute

// Config is one process's part in a fleet.
type Config struct {
	Fleet   string
	Engine  Engine
	Sealer  *Sealer // nil: versions and accounts can be neither read nor written
	Node    Node    // as the others see this process; ID is set, Lease is not
	Names   func() []string
	Has     func(name string) bool // whether the configuration has this certificate; nil: every one
	Loaded  func()                 // told when everything was read, which may be after the store was away; may be nil; must not block
	Back    func()                 // told when the store answers again after a call that failed; may be nil; must not block
	Changed func(name string)      // told when another node changed something about a certificate; may be nil; must not block
}

// Ledger is what the nodes share, seen from one process. It is safe for concurrent use. Reads that take no context are
// answered from memory.
type Ledger struct {
	config Config
	keys   keys
	view   view

	mu       sync.Mutex
	revision int64 // greatest of any answer
	rewound  chan struct{}
	contact  time.Time // of the last answer
	failure  error     // of the last call, nil if it was answered
	refused  error     // why this process could not join, although the store answered

	lease     int64
	deadline  time.Time // when the lease ends unless it is renewed
	announced int64     // the revision at which this node was last listed
	listed    time.Time // when that was
	ending    *time.Timer
	claims    map[string]*Claim // running here, by nonce
}

// New returns the part of a process that has not joined yet.
func New(c Config) *Ledger {
	if c.Has == nil {
		c.Has = func(string) bool { return true }
	}
	if c.Changed == nil {
		c.Changed = func(string) {}
	}
	if c.Back == nil {
		c.Back = func() {}
	}
	if c.Loaded == nil {
		c.Loaded = func() {}
	}
	l := &Ledger{config: c, keys: newKeys(c.Fleet), rewound: make(chan struct{}, 1), claims: map[string]*Claim{}}
	l.view.reset()
	return l
}

// Health is how the store answers, from memory.
type Health struct {
	Up      bool      // the last call was answered, and this process has a lease
	Contact time.Time // of the last answer; zero: never
	Err     error     // of the last call, or why this node cannot join
	Refused bool      // Err will not pass by itself: the store answered
}

// Usable is why the store cannot be used now, nil if it can: it answers, and everything was read. It asks nobody.
func (l *Ledger) Usable() error {
	if h := l.Health(); !h.Up || !l.Loaded() {
		return cmp.Or[error](h.Err, errors.New("the fleet's store was not reached yet"))
	}
	return nil
}

// Health tells how the store answers, without asking it.
func (l *Ledger) Health() Health {
	l.mu.Lock()
	defer l.mu.Unlock()
	h := Health{Up: l.failure == nil && l.lease != 0, Contact: l.contact, Err: l.failure}
	if h.Err == nil && !h.Up && l.refused != nil {
		h.Err, h.Refused = l.refused, true
	}
	return h
}

// Reread makes everything be read again, because the configuration has other certificates now, or the store went back.
func (l *Ledger) Reread() {
	select {
	case l.rewound <- struct{}{}:
	default:
	}
}

func (l *Ledger) read(ctx context.Context, r Range) (Snapshot, error) {
	before := l.before()
	s, err := l.config.Engine.Read(ctx, r)
	l.after(before, s.Revision, err)
	return s, err
}

// get reads one key; nil means that it does not exist.
func (l *Ledger) get(ctx context.Context, key string) (*KV, error) {
	s, err := l.read(ctx, Range{From: key})
	if err != nil || len(s.KVs) == 0 {
		return nil, err
	}
	return &s.KVs[0], nil
}

func (l *Ledger) commit(ctx context.Context, t Txn) (Result, error) {
	before := l.before()
	r, err := l.config.Engine.Commit(ctx, t)
	if errors.Is(err, ErrNoLease) {
		err = errNotJoined() // the next beat finds it too
	}
	l.after(before, r.Revision, err)
	if err == nil && r.Done {
		l.learn(t, r.Revision)
	}
	return r, err
}

// learn puts what this process wrote into its memory, so that it reads its own writes before the watch brings them.
func (l *Ledger) learn(t Txn, revision int64) {
	b := Batch{Revision: revision}
	for _, op := range t.Then {
		b.Events = append(b.Events, Event{KV: KV{Key: op.Key, Value: op.Value, Lease: op.Lease, Modified: revision}, Deleted: op.Value == nil})
	}
	l.view.apply(l, b)
}

// relearn puts what a transaction found instead into memory.
func (l *Ledger) relearn(r Result) {
	b := Batch{Revision: r.Revision}
	for _, kv := range r.Read {
		if r.Revision >= l.view.modified(l, kv.Key) && kv.Modified < l.view.modified(l, kv.Key) {
			l.Reread()
		}
		b.Events = append(b.Events, Event{KV: kv})
	}
	l.view.apply(l, b)
}

// Refresh reads again who works on a certificate, what its head is, and whether an order is pending. What stands in the way
// of an order is not believed from memory for long: a store that went back and was written to since looks like one that
// never did, and the watch continues in it without a word.
func (l *Ledger) Refresh(ctx context.Context, name string) error {
	for _, r := range []Range{{From: l.keys.claim(name)}, {From: l.keys.head(name)}, Prefix(l.keys.order(name, ""))} {
		s, err := l.read(ctx, r)
		if err != nil {
			return err
		}
		if len(s.KVs) == 0 {
			gone := KV{Key: r.From, Modified: s.Revision}
			l.view.apply(l, Batch{Revision: s.Revision, Events: []Event{{KV: gone, Deleted: true}}})
		}
		l.relearn(Result{Revision: s.Revision, Read: s.KVs})
	}
	return nil
}

// before returns the greatest revision that was known when a call began: its answer may not have a smaller one.
func (l *Ledger) before() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.revision
}

// after records an answer. A revision that went back means that the store was restored from a backup: everything known
// is read again.
func (l *Ledger) after(before, revision int64, err error) {
	if l.answered(before, revision, err) {
		l.config.Back()
	}
}

// answered reports whether the call before failed and this one did not. The watch may have gone on meanwhile.
func (l *Ledger) answered(before, revision int64, err error) (back bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		if !errors.Is(err, context.Canceled) {
			l.failure = err
		}
		return false
	}
	back = l.failure != nil
	l.failure, l.contact = nil, time.Now()
	if revision < before {
		l.revision = revision
		l.Reread()
		return back
	}
	l.revision = max(l.revision, revision)
	return back
}

// unknown reports whether a transaction may have taken effect although it failed.
func unknown(err error) bool {
	var failed *certs.LedgerError
	return errors.As(err, &failed) && failed.Unknown
}

// errNotJoined is the error of claims without a lease.
func errNotJoined() error {
	return &certs.LedgerError{Code: advice.StoreUnreachable, Err: errors.New("this node has no lease")}
}

func nonce() string {
	var b [12]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

// wait sleeps for d, or until ctx ends.
func wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func damagedValue(key string, err error) error {
	return &certs.LedgerError{Code: advice.StoreUntrusted, Err: fmt.Errorf("%s has a value that cannot be read: %w", key, err)}
}
