package fleettest

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
)

// Faulty is a connection, to any store, that can fail. Its functions may be changed while nothing uses it.
type Faulty struct {
	fleet.Engine
	// Cut lets all calls fail without an effect.
	Cut atomic.Bool
	// CutCalls is the same for all but a watch, which goes on.
	CutCalls atomic.Bool
	// Before is called before each call. It may sleep, to pause the process, or return an error, with which the call fails
	// and has no effect. What names the call: read, commit, watch, grant, keepalive or revoke.
	Before func(ctx context.Context, what string) error
	// Late delivers transactions although the context of their caller ended while Before held them up.
	Late bool
	// Lost is called after each transaction and tells whether its answer is lost.
	Lost func(t fleet.Txn) bool
}

func (f *Faulty) before(ctx context.Context, what string) error {
	if f.Cut.Load() || f.CutCalls.Load() && what != "watch" {
		return Away()
	}
	if f.Before == nil {
		return nil
	}
	return f.Before(ctx, what)
}

// Read implements fleet.Engine.
func (f *Faulty) Read(ctx context.Context, r fleet.Range) (fleet.Snapshot, error) {
	if err := f.before(ctx, "read"); err != nil {
		return fleet.Snapshot{}, err
	}
	return f.Engine.Read(ctx, r)
}

// Commit implements fleet.Engine.
func (f *Faulty) Commit(ctx context.Context, t fleet.Txn) (fleet.Result, error) {
	if err := f.before(ctx, "commit"); err != nil {
		return fleet.Result{}, err
	}
	if f.Late {
		ctx = context.WithoutCancel(ctx)
	}
	r, err := f.Engine.Commit(ctx, t)
	if err == nil && f.Lost != nil && f.Lost(t) {
		return fleet.Result{}, Lost()
	}
	return r, err
}

// Watch implements fleet.Engine. The hook is asked again before each batch.
func (f *Faulty) Watch(ctx context.Context, after int64, ranges []fleet.Range, fn func(fleet.Batch) error) error {
	if err := f.before(ctx, "watch"); err != nil {
		return err
	}
	return f.Engine.Watch(ctx, after, ranges, func(b fleet.Batch) error {
		if err := f.before(ctx, "watch"); err != nil {
			return err
		}
		return fn(b)
	})
}

// Grant implements fleet.Engine.
func (f *Faulty) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	if err := f.before(ctx, "grant"); err != nil {
		return 0, err
	}
	return f.Engine.Grant(ctx, ttl)
}

// KeepAlive implements fleet.Engine.
func (f *Faulty) KeepAlive(ctx context.Context, id int64) error {
	if err := f.before(ctx, "keepalive"); err != nil {
		return err
	}
	return f.Engine.KeepAlive(ctx, id)
}

// Revoke implements fleet.Engine.
func (f *Faulty) Revoke(ctx context.Context, id int64) error {
	if err := f.before(ctx, "revoke"); err != nil {
		return err
	}
	return f.Engine.Revoke(ctx, id)
}

// Away is the failure of a call that had no effect.
func Away() error {
	return &certs.LedgerError{Code: advice.StoreUnreachable, Err: errors.New("connection refused")}
}

// Lost is the failure of a transaction whose answer did not arrive.
func Lost() error {
	return &certs.LedgerError{Code: advice.StoreUnreachable, Unknown: true, Err: errors.New("connection reset")}
}
