package issuer

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// usage is what an account may do at the moment. Its file has no key, so a count that is written late harms nothing else.
type usage struct {
	mu       sync.Mutex // guards the fields below
	loaded   bool
	stored   store.Usage
	dirty    bool // has orders that are not stored yet
	flushing bool

	saving sync.Mutex // held while it is written, so that no older state comes last
}

// use runs fn with the usage, which was read before. What was changed is stored by flush.
func (a *account) use(fn func(u *store.Usage) (changed bool)) error {
	a.usage.mu.Lock()
	defer a.usage.mu.Unlock()
	if !a.usage.loaded {
		var err error
		if a.usage.stored, err = a.store.Usage(a.directory, a.contact); err != nil {
			return err
		}
		a.usage.loaded = true
	}
	if fn(&a.usage.stored) {
		a.usage.dirty = true
	}
	return nil
}

// forget makes use read it again.
func (u *usage) forget() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.loaded, u.dirty = false, false
}

// forgetOrders is for a new account, of which the CA has counted none.
func (u *usage) forgetOrders() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stored.Orders, u.dirty = nil, true
}

// flush stores what changed.
func (a *account) flush() error {
	a.usage.saving.Lock()
	defer a.usage.saving.Unlock()
	a.usage.mu.Lock()
	if !a.usage.dirty {
		a.usage.mu.Unlock()
		return nil
	}
	a.usage.dirty = false
	u := a.usage.stored
	u.Orders = slices.Clone(u.Orders)
	a.usage.mu.Unlock()
	return a.store.SaveUsage(a.directory, a.contact, u)
}

// budgetWindow is the window over which CAs count new orders of an account.
const budgetWindow = 3 * time.Hour

// takeOrder counts a new order against the account's budget, so that a mass renewal spreads by itself instead of running
// into the CA's limit. The count is stored by [Issuer.flushUsage], off the way of the order.
func (i *Issuer) takeOrder(ctx context.Context) error {
	var over error
	if shared := i.config.Shared; shared != nil {
		acct := i.current()
		at, err := shared.Budget.TakeOrder(ctx, acct.directory, acct.contact, i.config.OrderBudget, budgetWindow)
		switch {
		case err != nil:
			i.config.Log.Debug("the fleet did not count the order", zapIssuer(i), zapError(err))
		case !at.IsZero():
			return &certs.RateLimitError{At: at, Err: fmt.Errorf("%d new orders in 3 hours are the own budget of the fleet's account (orders_per_3h)", i.config.OrderBudget)}
		}
	}
	err := i.current().use(func(u *store.Usage) bool {
		recent := recentOrders(u, i.now())
		if budget := i.config.OrderBudget; budget > 0 && len(recent) >= budget {
			at := recent[len(recent)-budget].Add(budgetWindow)
			over = &certs.RateLimitError{At: at, Err: fmt.Errorf("%d new orders in 3 hours are this account's own budget (orders_per_3h)", budget)}
			return false
		}
		u.Orders, u.SavedAt = append(recent, i.now()), i.now()
		return true
	})
	return errors.Join(err, over)
}

// recentOrders are the orders that still count. One in the future was counted while the clock was ahead.
func recentOrders(u *store.Usage, now time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(u.Orders), func(at time.Time) bool { return now.Sub(at) >= budgetWindow || !clock.Believable(now, at, 0) })
}

// flushPause is how long orders are gathered before their count is stored. A crash within it loses only that: a second's
// worth of the account's own budget, which is no limit of the CA.
const flushPause = time.Second

// flushUsage stores the orders counted so far, soon and in the background because no order depends on it. One write serves
// all that were counted meanwhile.
func (i *Issuer) flushUsage() {
	a := i.current()
	a.usage.mu.Lock()
	defer a.usage.mu.Unlock()
	if a.usage.flushing || !a.usage.dirty {
		return
	}
	a.usage.flushing = true
	i.background.Go(guard.Logged(i.config.Log, "storing counts", func() {
		select {
		case <-i.closing:
		case <-time.After(flushPause):
		}
		a.usage.mu.Lock()
		a.usage.flushing = false
		a.usage.mu.Unlock()
		i.flushNow(a)
	}))
}

func (i *Issuer) flushNow(a *account) {
	if err := a.flush(); err != nil {
		i.config.Log.Warn("the use of the account could not be stored", zapIssuer(i), zapError(err))
	}
}

// paused is the error while the CA wants no request from this account. A pause that was written while the clock was ahead
// counts no more.
func (i *Issuer) paused() error {
	var pause error
	if shared := i.config.Shared; shared != nil {
		acct := i.current()
		if at, down := shared.Budget.Paused(acct.directory, acct.contact); i.now().Before(at) {
			return &certs.RateLimitError{At: at, Err: errors.New("the CA asked this account to pause"), Unavailable: down}
		}
	}
	err := i.current().use(func(u *store.Usage) bool {
		now := i.now()
		switch {
		case !now.Before(u.RetryAt):
			return false
		case !clock.Believable(now, u.RetryAt, clock.LongestPause) || !clock.Believable(now, u.SavedAt, 0):
			u.RetryAt, u.Down = time.Time{}, false
			return true
		}
		pause = &certs.RateLimitError{At: u.RetryAt, Err: errors.New("the CA asked this account to pause"), Unavailable: u.Down}
		return false
	})
	return errors.Join(err, pause)
}

// The pause of a whole account. A limit on new orders of an account refills one order in under a minute (Let's Encrypt:
// 36 s), while a limit on one set of names lasts hours and must not stop all other certificates; a 429 does not say which
// it is, so it stops the account for a minute and the certificate for as long as the CA said.
const newOrderPause = time.Minute

// pauseAccount remembers across restarts that the CA wants no more requests from this account.
func (i *Issuer) pauseAccount(err error) {
	var limit *certs.RateLimitError
	p := problemOf(err)
	if !errors.As(err, &limit) || p == nil || !p.limited() {
		return // not limited, or by ourselves
	}
	until := limit.At
	if soon := i.now().Add(newOrderPause); p.newOrder && p.status == http.StatusTooManyRequests && until.After(soon) {
		until = soon
	}
	a, now := i.current(), i.now()
	if shared := i.config.Shared; shared != nil {
		if err := shared.Budget.Pause(context.Background(), a.directory, a.contact, until, limit.Unavailable); err != nil {
			i.config.Log.Debug("the CA's rate limit was not shared with the fleet", zapIssuer(i), zapError(err))
		}
	}
	err = a.use(func(u *store.Usage) bool {
		if !until.After(u.RetryAt) {
			return false
		}
		u.RetryAt, u.Down, u.SavedAt = until, limit.Unavailable, now
		return true
	})
	if err != nil {
		i.config.Log.Warn("the CA's rate limit could not be stored", zapIssuer(i), zapError(err))
	}
	i.flushNow(a)
}
