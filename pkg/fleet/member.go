package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/acmed/acmed/internal/guard"
)

// Join makes this process a node: it gets a lease and is listed. Old is the lease that a previous process of this node had,
// 0 if unknown: it is revoked with the claims that it still holds. The caller remembers the lease that it returns.
func (l *Ledger) Join(ctx context.Context, old int64) (int64, error) {
	if err := l.checkSeal(ctx); err != nil {
		return 0, err
	}
	if old != 0 {
		if err := l.config.Engine.Revoke(ctx, old); err != nil {
			return 0, err
		}
	}
	asked := time.Now()
	lease, err := l.config.Engine.Grant(ctx, LeaseTTL)
	if err != nil {
		l.after(0, 0, err)
		return 0, err
	}
	l.mu.Lock()
	l.lease = lease
	l.extend(asked)
	l.mu.Unlock()
	if err := l.Announce(ctx, l.config.Node); err != nil {
		l.mu.Lock()
		l.lease = 0
		l.mu.Unlock()
		return 0, err
	}
	return lease, nil
}

// extend moves the end of the lease: the store granted or renewed it no earlier than at the given time. The lock is held.
func (l *Ledger) extend(asked time.Time) {
	l.deadline = asked.Add(LeaseTTL)
	if l.ending != nil {
		l.ending.Stop()
	}
	deadline := l.deadline
	l.ending = time.AfterFunc(time.Until(deadline)-leaseMargin, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.deadline.Equal(deadline) {
			l.endClaims()
		}
	})
}

// endClaims ends the contexts of all running claims. The lock is held.
func (l *Ledger) endClaims() {
	for _, c := range l.claims {
		c.cancel(errLeaseEnds)
	}
}

// errLeaseEnds is the cause with which the context of a claim ends before its lease does.
var errLeaseEnds = errors.New("the fleet's store has not answered for so long that other nodes may claim this node's certificates")

// holding returns the lease, if it is good for some more time.
func (l *Ledger) holding() (int64, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lease, l.lease != 0 && time.Now().Before(l.deadline.Add(-leaseMargin))
}

// Announce writes what the others see of this process: of n, what it serves.
func (l *Ledger) Announce(ctx context.Context, n Node) error {
	l.mu.Lock()
	l.config.Node.Serves, l.config.Node.Failed, l.config.Node.NotAfter = n.Serves, n.Failed, n.NotAfter
	l.mu.Unlock()
	return l.list(ctx)
}

// list writes what was announced last.
func (l *Ledger) list(ctx context.Context) error {
	l.mu.Lock()
	n, lease := l.config.Node, l.lease
	l.mu.Unlock()
	if lease == 0 {
		return errNotJoined()
	}
	var err error
	if n.NameSet, err = l.publishNames(ctx); err != nil {
		return err
	}
	n.Time = time.Now().UTC()
	text, err := json.Marshal(n)
	if err != nil {
		return err
	}
	r, err := l.commit(ctx, Txn{Then: []Op{{Key: l.keys.node(n.ID, lease), Value: text, Lease: lease}}})
	if err == nil {
		l.mu.Lock()
		l.announced, l.listed = r.Revision, time.Now()
		l.mu.Unlock()
	}
	return err
}

// Beat renews the lease and lets go of claims under it that no job here holds: those whose answer was lost. It returns
// [ErrNoLease] when the lease has ended; the caller joins again and loads everything.
func (l *Ledger) Beat(ctx context.Context) error {
	l.mu.Lock()
	lease := l.lease
	l.mu.Unlock()
	if lease == 0 {
		return ErrNoLease
	}
	asked := time.Now()
	err := l.config.Engine.KeepAlive(ctx, lease)
	if errors.Is(err, ErrNoLease) {
		l.mu.Lock()
		l.lease = 0
		l.endClaims()
		l.mu.Unlock()
		return err
	}
	if err != nil {
		l.after(0, 0, err)
		return err
	}
	l.mu.Lock()
	l.extend(asked)
	l.mu.Unlock()
	if err := l.checkListed(ctx, lease); err != nil {
		return err
	}
	return l.letGo(ctx, lease)
}

// checkListed finds out whether the store still has what this node last wrote there, and writes it again after a while.
func (l *Ledger) checkListed(ctx context.Context, lease int64) error {
	l.mu.Lock()
	wrote, at := l.announced, l.listed
	l.mu.Unlock()
	kv, err := l.get(ctx, l.keys.node(l.config.Node.ID, lease))
	switch {
	case err != nil || kv == nil:
		return errors.Join(err, l.lost(kv == nil && err == nil))
	case kv.Modified < wrote:
		l.Reread()
	}
	if time.Since(at) < announceEvery {
		return nil
	}
	return l.list(ctx)
}

// lost is for a lease that exists without this node's key: the store went back to before it joined.
func (l *Ledger) lost(gone bool) error {
	if !gone {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lease = 0
	l.endClaims()
	return ErrNoLease
}

func (l *Ledger) letGo(ctx context.Context, lease int64) error {
	var errs []error
	for name, c := range l.view.under(lease) {
		l.mu.Lock()
		_, running := l.claims[c.Nonce]
		l.mu.Unlock()
		if running {
			continue
		}
		key := l.keys.claim(name)
		_, err := l.commit(ctx, Txn{If: []Cond{{key, []byte(c.raw)}}, Then: []Op{{Key: key}}})
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// under lists the claims under a lease by name.
func (v *view) under(lease int64) map[string]claimEntry {
	v.mu.RLock()
	defer v.mu.RUnlock()
	list := map[string]claimEntry{}
	for name, c := range v.claims {
		if c.Lease == lease {
			list[name] = c
		}
	}
	return list
}

// oneRange is the most heads that are read in one answer; more are read by shard.
const oneRange = 50_000

// Load reads everything that is kept in memory, and returns the revision to watch from.
func (l *Ledger) Load(ctx context.Context) (int64, error) {
	heads := Prefix(l.keys.heads())
	heads.Limit = oneRange
	first, err := l.read(ctx, heads)
	if err != nil {
		return 0, err
	}
	kvs := l.wanted(first.KVs)
	ranges := []Range{{From: l.keys.root, To: l.keys.root + "data/"}, {From: heads.To, To: l.keys.watched()[1].To}}
	if first.More {
		kvs = nil
		ranges = append(ranges, l.keys.shardRanges()...)
	}
	for _, r := range ranges {
		s, err := l.read(ctx, r)
		if err != nil {
			return 0, err
		}
		kvs = append(kvs, l.wanted(s.KVs)...)
	}
	select {
	case <-l.rewound:
	default:
	}
	l.view.replace(l, kvs)
	return first.Revision, nil
}

// wanted drops the heads of certificates that this node does not have.
func (l *Ledger) wanted(kvs []KV) []KV {
	kept := kvs[:0]
	for _, kv := range kvs {
		if kind, _ := l.keys.split(kv.Key); kind != "head" || l.config.Has(lastPart(kv.Key)) {
			kept = append(kept, kv)
		}
	}
	return kept
}

// Leave ends all claims and takes this process out of the fleet. The store does the same by itself after [LeaseTTL].
func (l *Ledger) Leave(ctx context.Context) error {
	l.mu.Lock()
	lease := l.lease
	l.lease = 0
	l.endClaims()
	if l.ending != nil {
		l.ending.Stop()
	}
	l.mu.Unlock()
	if lease == 0 {
		return nil
	}
	return l.config.Engine.Revoke(ctx, lease)
}

// reloadEvery is how often everything is read again although nothing seems wrong: a watch continues silently if the store
// was restored from a backup.
const reloadEvery = 24 * time.Hour

// follow loads everything and applies changes until ctx ends, the watch fails, or everything must be read again.
func (l *Ledger) follow(ctx context.Context, loaded func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	revision, err := l.Load(ctx)
	if err != nil {
		return err
	}
	loaded()
	l.config.Loaded()
	daily := time.AfterFunc(reloadEvery, cancel)
	defer daily.Stop()
	go func() {
		select {
		case <-l.rewound:
			cancel()
		case <-ctx.Done():
		}
	}()
	return l.config.Engine.Watch(ctx, revision, l.keys.watched(), func(b Batch) error {
		l.mu.Lock()
		l.revision = max(l.revision, b.Revision)
		l.mu.Unlock()
		l.view.apply(l, b)
		return nil
	})
}

// The bounds of the time between attempts to reach the store.
const (
	retryLeast = time.Second
	retryMost  = time.Minute
)

// Run keeps this process in the fleet until ctx ends, and takes it out then: it joins, follows all changes, and begins
// again when the store was away, its lease ended, or the store went back. Old is the lease of a previous process, remember
// is told each new one.
func (l *Ledger) Run(ctx context.Context, old int64, remember func(lease int64)) {
	for pause := retryLeast; ctx.Err() == nil; pause = min(2*pause, retryMost) {
		lease, err := l.Join(ctx, old)
		l.mu.Lock()
		l.refused = err
		l.mu.Unlock()
		if err == nil {
			old = lease
			remember(lease)
			l.session(ctx, func() { pause = retryLeast })
		}
		if wait(ctx, pause/2+rand.N(pause/2)) != nil {
			break
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseMargin)
	defer cancel()
	_ = l.Leave(ctx) // what is left ends with the lease
}

// session is the life of one lease: beats and the watch side by side. A watch that fails begins again under the same lease.
func (l *Ledger) session(ctx context.Context, good func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for pause := retryLeast; ctx.Err() == nil; pause = min(2*pause, retryMost) {
			var panicked *guard.PanicError
			err := guard.Err(func() error { return l.follow(ctx, func() { pause = retryLeast / 2; good() }) })()
			if errors.As(err, &panicked) {
				l.after(0, 0, err) // other failures are in Health already
			}
			if wait(ctx, pause/2+rand.N(pause/2)) != nil {
				return
			}
		}
	}()
	for wait(ctx, BeatEvery) == nil {
		if err := l.Beat(ctx); errors.Is(err, ErrNoLease) {
			break
		}
	}
	cancel()
	<-done
}
