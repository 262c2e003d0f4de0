package fleet

import (
	"context"
	"crypto"
	"errors"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// Accounts are the fleet's accounts as pkg/issuer uses them. It remembers what it read, and asks again when another node
// changed it.
type Accounts struct {
	ledger     *Ledger
	thumbprint func(crypto.PublicKey) (string, error)

	mu   sync.Mutex
	read map[string]*Account // by key
}

// NewAccounts makes them. Thumbprint is that of RFC 7638.
func NewAccounts(l *Ledger, thumbprint func(crypto.PublicKey) (string, error)) *Accounts {
	return &Accounts{ledger: l, thumbprint: thumbprint, read: map[string]*Account{}}
}

// Account returns the fleet's account, or nil and no error when there is none.
func (s *Accounts) Account(ctx context.Context, directory, contact string) (*store.Account, error) {
	key := s.ledger.keys.account(directory, contact)
	s.mu.Lock()
	a := s.read[key]
	s.mu.Unlock()
	if a == nil || !s.ledger.Health().Up || s.ledger.AccountChanged(directory, contact, a) {
		var err error
		if a, err = s.ledger.Account(ctx, directory, contact); err != nil {
			return nil, err
		}
		if a != nil && a.retiring && !s.ledger.Installs() {
			if saved, err := s.ledger.SaveAccount(ctx, directory, contact, a); err == nil {
				a = saved
			}
		}
		s.keep(key, a)
	}
	if a == nil {
		return nil, nil //nolint:nilnil // documented
	}
	copied := a.Account
	return &copied, nil
}

func (s *Accounts) keep(key string, a *Account) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read[key] = a
}

// SaveAccount stores an account in place of the one that was read last, and returns what the fleet has then. A node that
// only takes what others obtain changes nothing.
func (s *Accounts) SaveAccount(ctx context.Context, directory, contact string, a *store.Account) (*store.Account, error) {
	if s.ledger.Installs() {
		return a, nil
	}
	thumb, err := s.thumbprint(a.Key.Public())
	if err != nil {
		return nil, err
	}
	key := s.ledger.keys.account(directory, contact)
	next := &Account{Account: *a, Thumbprint: thumb}
	s.mu.Lock()
	if before := s.read[key]; before != nil {
		next.raw = before.raw
	}
	s.mu.Unlock()
	saved, err := s.ledger.SaveAccount(ctx, directory, contact, next)
	if err != nil {
		return nil, err
	}
	s.keep(key, saved)
	copied := saved.Account
	return &copied, nil
}

// Lock waits until no other node works on the account, and keeps them from it until release is called.
func (s *Accounts) Lock(ctx context.Context, directory, contact string) (release func(), err error) {
	return s.ledger.Lock(ctx, "account-"+lastPart(s.ledger.keys.account(directory, contact)), "the account's key")
}

// lockPoll is how often a node looks whether another one has done with what it waits for.
const lockPoll = time.Second

// Lock waits until no other node works on something that is no certificate, and keeps them from it until release is called.
func (l *Ledger) Lock(ctx context.Context, what, why string) (release func(), err error) {
	for {
		c, err := l.ClaimOther(ctx, "@"+what, why)
		if err == nil {
			return func() {
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), leaseMargin)
				defer cancel()
				_ = c.Release(ctx) // else the next beat does
			}, nil
		}
		var elsewhere *certs.ElsewhereError
		if !errors.As(err, &elsewhere) {
			return nil, err
		}
		if wait(ctx, lockPoll) != nil {
			return nil, err
		}
	}
}

// Orders are the pending orders of certificates: under the claim of this process in the fleet and on this machine, without a
// claim on this machine alone.
type Orders struct {
	Ledger *Ledger
	Store  *store.Store
}

// Order returns the pending order of a slot, or nil and no error when there is none. One that is on this machine alone counts
// unless the fleet has a later version.
func (o Orders) Order(ctx context.Context, name, slot string) (*store.Order, error) {
	local, err := o.Store.Order(name, slot)
	c := o.Ledger.Held(name)
	if c == nil {
		return local, err
	}
	shared, sharedErr := c.Order(ctx, slot)
	switch {
	case sharedErr != nil:
		return nil, sharedErr
	case shared != nil:
		return shared, nil
	case local == nil || err != nil:
		return nil, err
	case !local.Created.After(c.head.Committed):
		return nil, o.Store.DropOrder(name, slot)
	}
	return local, nil
}

// SaveOrder stores the pending order of a slot. It is finalized only after this returned nil.
func (o Orders) SaveOrder(ctx context.Context, name, slot string, order *store.Order) error {
	if err := o.Store.SaveOrder(name, slot, order); err != nil {
		return err
	}
	if c := o.Ledger.Held(name); c != nil {
		return c.SaveOrder(ctx, slot, order)
	}
	return nil
}

// DropOrder forgets the pending order of a slot. In the fleet only the node that holds the claim can.
func (o Orders) DropOrder(ctx context.Context, name, slot string) error {
	err := o.Store.DropOrder(name, slot)
	if c := o.Ledger.Held(name); c != nil {
		err = errors.Join(err, c.DropOrder(ctx, slot))
	}
	return err
}

// Hold reports whether the claim on the certificate still exists. A node without one orders alone.
func (o Orders) Hold(ctx context.Context, name string) error {
	if c := o.Ledger.Held(name); c != nil {
		return c.Hold(ctx)
	}
	return nil
}

// Paused returns until when the CA wants no request from the account, from memory.
func (l *Ledger) Paused(directory, contact string) (until time.Time, down bool) {
	b := l.Budget(directory, contact)
	return b.RetryAt, b.Down
}
