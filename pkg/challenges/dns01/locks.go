package dns01

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"sync"
)

// Locks lets one change of a name at a time through to a DNS account: some providers read all records of a name, change
// one and write all of them back. The daemon has one for all solvers, old and new ones during a reload. The zero value is
// ready.
type Locks struct {
	// Fleet keeps the other nodes of a fleet from what is locked here; nil on a single machine. The name says nothing about
	// the credential.
	Fleet func(ctx context.Context, name string) (release func(), err error)

	mu   sync.Mutex
	held map[lockKey]*lock
}

type lockKey struct{ credential, fqdn string }

type lock struct {
	turn  chan struct{} // holds one element while nobody has the lock
	users int           // holders and waiters
}

// acquire waits for the lock. After a nil error the caller must call release once.
func (l *Locks) acquire(ctx context.Context, key lockKey) (release func(), err error) {
	k := l.join(key)
	select {
	case <-k.turn:
	case <-ctx.Done():
		l.leave(key)
		return nil, context.Cause(ctx)
	}
	here := func() { k.turn <- struct{}{}; l.leave(key) }
	if l.Fleet == nil {
		return here, nil
	}
	sum := sha256.Sum256([]byte(key.credential + "\n" + key.fqdn))
	others, err := l.Fleet(ctx, hex.EncodeToString(sum[:16]))
	if err != nil {
		here()
		return nil, err
	}
	return func() { others(); here() }, nil
}

func (l *Locks) join(key lockKey) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[key]
	if k == nil {
		k = &lock{turn: make(chan struct{}, 1)}
		k.turn <- struct{}{}
		if l.held == nil {
			l.held = map[lockKey]*lock{}
		}
		l.held[key] = k
	}
	k.users++
	return k
}

func (l *Locks) leave(key lockKey) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.held[key]
	if k.users--; k.users == 0 {
		delete(l.held, key)
	}
}
