package issuer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// Shared is what the nodes of a fleet share of a CA. pkg/fleet implements it; on a single machine there is none.
type Shared struct {
	Accounts Accounts
	Orders   Orders
	Budget   Budget
}

// Accounts are the fleet's accounts, one for each directory and contact. What is there counts; the store of this machine has
// a copy, for the time when the fleet's store is away.
type Accounts interface {
	// Account returns the fleet's account, or nil and no error when there is none.
	Account(ctx context.Context, directory, contact string) (*store.Account, error)
	// SaveAccount stores an account in place of the one that was read last, and returns what the fleet has then: another
	// node's account if that was faster.
	SaveAccount(ctx context.Context, directory, contact string, a *store.Account) (*store.Account, error)
	// Lock keeps other nodes from replacing the account's key until release is called.
	Lock(ctx context.Context, directory, contact string) (release func(), err error)
}

// Orders are the pending orders of certificates, in a fleet under the claim of the node that works on them.
type Orders interface {
	// Order returns the pending order of a slot, or nil and no error when there is none.
	Order(ctx context.Context, name, slot string) (*store.Order, error)
	SaveOrder(ctx context.Context, name, slot string, o *store.Order) error
	DropOrder(ctx context.Context, name, slot string) error
	// Hold reports whether this node may go on: before an order is placed, and before it is finalized.
	Hold(ctx context.Context, name string) error
}

// Budget is what the nodes together may ask of a CA with one account.
type Budget interface {
	// TakeOrder counts a new order, or returns when there may be one.
	TakeOrder(ctx context.Context, directory, contact string, most int, window time.Duration) (time.Time, error)
	Pause(ctx context.Context, directory, contact string, until time.Time, down bool) error
	// Paused returns until when the CA wants no request, and whether that is because it was unavailable. It asks nobody.
	Paused(directory, contact string) (until time.Time, down bool)
}

// localOrders are those of a single machine.
type localOrders struct{ store *store.Store }

// Order reads it from the disk.
func (l localOrders) Order(_ context.Context, name, slot string) (*store.Order, error) {
	return l.store.Order(name, slot)
}

// SaveOrder writes it to the disk.
func (l localOrders) SaveOrder(_ context.Context, name, slot string, o *store.Order) error {
	return l.store.SaveOrder(name, slot, o)
}

// DropOrder removes it from the disk.
func (l localOrders) DropOrder(_ context.Context, name, slot string) error {
	return l.store.DropOrder(name, slot)
}

// Hold allows it: nobody else is there.
func (localOrders) Hold(context.Context, string) error { return nil }

func (i *Issuer) orders() Orders {
	if i.config.Shared != nil {
		return i.config.Shared.Orders
	}
	return localOrders{i.config.Store}
}

// follow takes the fleet's account over, or gives the fleet the one that is here. While the fleet's store is away, what is
// here counts.
func (i *Issuer) follow(ctx context.Context) error {
	if i.config.Shared == nil {
		return nil
	}
	acct := i.current()
	theirs, err := i.config.Shared.Accounts.Account(ctx, acct.directory, acct.contact)
	if err != nil {
		return i.withoutFleet(err)
	}
	mine, err := acct.store.Account(acct.directory, acct.contact)
	switch {
	case theirs != nil:
		return i.mirror(mine, theirs)
	case err != nil || mine == nil:
		return err
	}
	_, err = i.share(ctx, mine)
	return err
}

// Follow makes the account the fleet's, or the fleet's account that of this machine. On a single machine it does nothing.
func (i *Issuer) Follow(ctx context.Context) error {
	acct := i.current()
	if err := acct.take(ctx); err != nil {
		return err
	}
	defer acct.release()
	return i.follow(ctx)
}

// withoutFleet takes what is here while the fleet's store is away. A store that answers and cannot be understood is an error.
func (i *Issuer) withoutFleet(err error) error {
	var away *certs.LedgerError
	if !errors.As(err, &away) {
		return fmt.Errorf("the fleet's account: %w", err)
	}
	i.config.Log.Debug("the fleet's account cannot be read", zapIssuer(i), zapError(err))
	return nil
}

// mirror keeps a copy of the fleet's account in the place of what is here, whose key is kept aside.
func (i *Issuer) mirror(mine, theirs *store.Account) error {
	acct := i.current()
	if mine != nil {
		same := certs.SameKey(mine.Key.Public(), theirs.Key.Public())
		if same && mine.URI == theirs.URI && (mine.NextKey == nil) == (theirs.NextKey == nil) {
			return nil
		}
		if same {
			theirs.KeyChanged = mine.KeyChanged
		} else {
			if err := i.retireKey(mine.Key); err != nil {
				return err
			}
			theirs.KeyChanged = i.now()
			i.config.Log.Info("the fleet's account takes the place of the one that was here", zapIssuer(i), zapAccount(theirs.URI), zap.String("before", mine.URI))
		}
	}
	return acct.store.SaveAccount(acct.directory, acct.contact, theirs)
}

// share gives the fleet an account, and returns what the fleet has then. Nil means that its store is away.
func (i *Issuer) share(ctx context.Context, a *store.Account) (*store.Account, error) {
	acct := i.current()
	theirs, err := i.config.Shared.Accounts.SaveAccount(ctx, acct.directory, acct.contact, a)
	if err != nil {
		return nil, i.withoutFleet(err)
	}
	if !certs.SameKey(theirs.Key.Public(), a.Key.Public()) || theirs.URI != a.URI {
		return theirs, i.mirror(a, theirs)
	}
	return theirs, nil
}

// alone runs fn while no other node replaces the key of the account, which is read again before. The account is taken.
func (i *Issuer) alone(ctx context.Context, a *store.Account, fn func() error) error {
	if i.config.Shared == nil {
		return fn()
	}
	acct := i.current()
	release, err := i.config.Shared.Accounts.Lock(ctx, acct.directory, acct.contact)
	if err != nil {
		return err
	}
	defer release()
	if err := i.follow(ctx); err != nil {
		return err
	}
	now, err := i.load()
	if err != nil || now == nil {
		return err
	}
	*a = *now
	return fn()
}
