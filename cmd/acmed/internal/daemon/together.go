package daemon

import (
	"context"
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// joinPatience is how long a command waits for the fleet's store. Without it the command does what a node does then.
const joinPatience = 10 * time.Second

// join makes a command without a daemon a part of the fleet. A daemon is one already.
func (d *Daemon) join(ctx context.Context) {
	if d.member == nil {
		return
	}
	d.mu.Lock()
	runs := d.scheduler != nil
	d.mu.Unlock()
	if !runs {
		d.member.start()
		d.member.wait(ctx, joinPatience)
	}
}

// followPoll is how often a command looks whether another node is done.
const followPoll = 200 * time.Millisecond

// work runs one certificate for a command. When another node works on it, the command waits for what comes of that, and takes it.
func (d *Daemon) work(ctx context.Context, name string, opts renewal.Options, tell func(certs.Step)) renewal.Result {
	d.join(ctx)
	for {
		seen := d.head(name)
		r := d.engine.Run(ctx, name, opts, tell)
		if r.Err != nil || r.Reason != plan.ReasonElsewhere {
			return r
		}
		if tell != nil {
			tell(certs.Step{Phase: certs.PhaseOrder, Detail: r.Message})
		}
		if err := d.member.settled(ctx, name); err != nil {
			r.Err = err
			return r
		}
		now := d.head(name)
		switch {
		case now.N > seen.N:
			opts.Force, opts.NewKey = false, false
		case now.Failures > seen.Failures:
			r.Err = errors.New("another node tried: " + now.LastError)
			return r
		}
	}
}

func (d *Daemon) head(name string) certs.Head {
	if d.member == nil {
		return certs.Head{}
	}
	h, _ := d.member.ledger.Head(name)
	return h
}

// settled returns once no node works on a certificate.
func (m *member) settled(ctx context.Context, name string) error {
	tick := time.NewTicker(followPoll)
	defer tick.Stop()
	for {
		if _, claimed := m.ledger.Claimed(name); !claimed {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
