package dns01

import (
	"context"
	"sync"
)

// Locks lets one change of a name at a time through to a DNS account: some providers read all records of a name, change
// one and write all of them back. The daemon has one for all solvers, old and new ones during a reload. The zero value is
// ready.
type Locks struct {
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
		return func() { k.turn <- struct{}{}; l.leave(key) }, nil
	case <-ctx.Done():
		l.leave(key)
		return nil, context.Cause(ctx)
	}
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
