package issuer

import (
	"context"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/challenges"
)

// The deadlines of taking away answers. It goes on after a cancelled order returned, because a DNS provider may need
// longer than a caller who cancels wants to wait.
const (
	cleanUpTimeout = time.Minute
	cleanUpGrace   = 500 * time.Millisecond
	cleanUpAtClose = time.Second // what is left is found by its solver after the next start
)

// presented are the answers that solvers made visible for one order.
type presented struct {
	job  *job
	done chan struct{} // closed when everything was taken away; nil before takeAway

	mu   sync.Mutex // guards the field below
	list []answered
}

type answered struct {
	rung      challenges.Rung
	challenge challenges.Challenge
}

// present makes an answer visible. It is remembered before, because even a failed attempt is cleaned up.
func (p *presented) present(ctx context.Context, rung challenges.Rung, c challenges.Challenge) (err error) {
	defer p.job.caught("solver "+rung.Name, &err)
	p.mu.Lock()
	p.list = append(p.list, answered{rung: rung, challenge: c})
	p.mu.Unlock()
	return rung.Solver.Present(ctx, c)
}

// takeAway begins to clean up all answers at the same time, with a deadline of its own. Authorizations in abandoned are
// given back to the CA.
func (p *presented) takeAway(abandoned []*authorization) {
	p.done = make(chan struct{})
	i := p.job.i
	ctx, cancel := context.WithTimeout(context.WithoutCancel(p.job.ctx), cleanUpTimeout)
	i.background.Go(guard.Logged(i.config.Log, "taking answers away", func() {
		defer close(p.done)
		defer cancel()
		guard.Go(i.config.Log, "taking answers away", func() { hurry(ctx, cancel, i.closing) })
		var all guard.Group
		for _, a := range p.list {
			all.Go(func() { p.cleanUp(ctx, a) })
		}
		if len(abandoned) > 0 {
			all.Go(func() { p.job.deactivate(ctx, abandoned) })
		}
		all.Wait()
	}))
}

// hurry ends ctx soon after the issuer began to close.
func hurry(ctx context.Context, cancel context.CancelFunc, closing <-chan struct{}) {
	select {
	case <-ctx.Done():
	case <-closing:
		time.AfterFunc(cleanUpAtClose, cancel)
	}
}

func (p *presented) cleanUp(ctx context.Context, a answered) {
	err := func() (err error) {
		defer p.job.caught("solver "+a.rung.Name, &err)
		return a.rung.Solver.CleanUp(ctx, a.challenge)
	}()
	if err != nil {
		p.job.i.config.Log.Warn("the answer to a challenge was not removed",
			zapCert(p.job.req.Spec.Name), zapName(a.challenge.Identifier.Value), zapSolver(a.rung.Name), zapError(err))
	}
}

// wait returns when everything was taken away, or soon after the order's context ended; the rest then happens in the
// background.
func (p *presented) wait() {
	select {
	case <-p.done:
		return
	case <-p.job.ctx.Done():
	}
	grace := time.NewTimer(cleanUpGrace)
	defer grace.Stop()
	select {
	case <-p.done:
	case <-grace.C:
	}
}

// deactivate gives authorizations back that the CA would otherwise keep pending, where they count against limits (RFC
// 8555 section 7.5.2). It is best effort: they expire anyway.
func (j *job) deactivate(ctx context.Context, list []*authorization) {
	var err error
	defer j.caught("giving authorizations back", &err)
	c, err := j.i.accountClient(ctx, j.account)
	if err != nil {
		return
	}
	for _, a := range list {
		err := c.once("deactivate an authorization", func(core *api.Core) error { return core.Authorizations.Deactivate(a.url) })
		if err != nil {
			j.i.config.Log.Debug("an authorization was left pending", zapCert(j.req.Spec.Name), zapName(a.id.Value), zapError(err))
			return
		}
	}
}
