package webserver

import (
	"context"
	"crypto/x509"
	"errors"
	"time"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// test is the server's own test, before the edit and after it. What comes before the reload is done at its end: a look at
// what the server makes of the edit, and at who can connect now.
func (p *pass[C]) test(ctx context.Context) error {
	if !p.tested {
		p.tested = true
		return p.testBefore(ctx)
	}
	err := p.server.Test(ctx)
	if err != nil && p.cured { // it failed before as well, and not only for what the edit mended
		err = &installers.BrokenServerError{Err: err}
	}
	if err != nil || p.edited {
		return err
	}
	p.edited = true
	if !p.known {
		if err := p.reread(ctx); err != nil {
			return err
		}
	}
	return p.look(ctx)
}

// testBefore is the test before the edit. A failure that an edit cures is none.
func (p *pass[C]) testBefore(ctx context.Context) error {
	if err := sleep(ctx, p.spacing); err != nil {
		return err
	}
	err := p.server.Test(ctx)
	for _, t := range p.editing() {
		if err != nil && t.plan.Cures != nil && t.plan.Cures(err.Error()) {
			err, p.cured = nil, true
		}
	}
	if err != nil || len(p.editing()) > 0 {
		return err
	}
	return p.look(ctx)
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// reread asks the server what it makes of the edit.
func (p *pass[C]) reread(ctx context.Context) error {
	c, err := p.tasks[0].editor.Read(ctx)
	if err != nil {
		return err
	}
	p.after, p.known = c, true
	var errs []error
	for _, t := range p.tasks {
		if t.reason != nil {
			continue
		}
		var err error
		if t.endpoints, err = t.plan.Check(c); err != nil && len(t.files) == 0 {
			t.reason, err = err, nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// look finds out who can connect before the reload, and where the server's log ends.
func (p *pass[C]) look(ctx context.Context) error {
	guard.Each(len(p.tasks), endpoint.ParallelProofs, func(i int) {
		if t := p.tasks[i]; t.reason == nil {
			t.before = endpoint.AskAll(ctx, t.endpoints, t.changesNothing)
		}
	})
	for _, t := range p.tasks {
		if t.plan != nil {
			t.plan.Log.Mark()
		}
	}
	return nil
}

// changesNothing reports whether clients that accept a leaf now accept the new one for the same reasons: the key is of the
// same kind, its issuer is the same, and the server's configuration stays.
func (t *task[C]) changesNothing(leaf *x509.Certificate) bool {
	return len(t.files) == 0 && endpoint.SameForClients(leaf, t.bundle)
}

func (p *pass[C]) reload(ctx context.Context) error { return p.server.Reload(ctx) }

// prove makes the proofs of all tasks.
func prove[C Configuration](ctx context.Context, tasks []*task[C]) []error {
	errs := make([]error, len(tasks))
	guard.Each(len(tasks), endpoint.ParallelProofs, func(i int) {
		if t := tasks[i]; t.reason == nil {
			errs[i] = t.plan.Log.Explain(t.prove(ctx))
		}
	})
	return errs
}

// handover is how long the workers of before and after a reload answer side by side: nginx starts the new ones, waits
// 100 ms and then tells the old ones to stop.
const handover = 150 * time.Millisecond

// prove waits until every endpoint serves the bundle, then until only the new workers answer, and looks again, also for the
// clients that could connect before.
func (t *task[C]) prove(ctx context.Context) error {
	if err := t.before.Verify(ctx, t.endpoints, t.bundle, t.verifyTimeout); err != nil {
		return err
	}
	if err := sleep(ctx, handover); err != nil {
		return err
	}
	if err := t.before.Verify(ctx, t.endpoints, t.bundle, t.verifyTimeout); err != nil {
		return err
	}
	return t.before.Lost(ctx, t.bundle, t.plan.Min)
}
