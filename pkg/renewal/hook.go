package renewal

import (
	"context"
	"errors"
	"fmt"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

// preHook runs the operator's hook before an order.
func (j *job) preHook(ctx context.Context) (err error) {
	if j.hooks.Pre == nil {
		return nil
	}
	defer j.caught("pre hook", &err)
	j.tell(certs.Step{Phase: certs.PhaseHook, Detail: "pre"})
	if err := j.hooks.Pre(ctx); err != nil {
		return fmt.Errorf("pre hook: %w", err)
	}
	return nil
}

// postHook runs the operator's hook after a new version and stores the outcome.
func (j *job) postHook(ctx context.Context, lineage *store.Lineage) error {
	err := j.callPost(ctx, lineage.Current)
	if j.engine.base.Err() != nil { // stopped in the middle: the next start runs it again
		j.result.Err = errors.Join(j.result.Err, ErrClosed)
		return ErrClosed
	}
	j.recordHook(lineage, err)
	return j.engine.store.SaveState(j.want.Name, &lineage.State)
}

// callPost succeeds when the hook was taken out of the configuration.
func (j *job) callPost(ctx context.Context, b *certs.Bundle) (err error) {
	if j.hooks.Post == nil {
		return nil
	}
	defer j.caught("post hook", &err)
	j.tell(certs.Step{Phase: certs.PhaseHook, Detail: "post"})
	return j.hooks.Post(ctx, b)
}

func (j *job) recordHook(lineage *store.Lineage, err error) {
	st, now := &lineage.State, j.engine.clock()
	if err == nil {
		if st.Hook.Failures > 0 {
			j.event(notify.Event{
				Kind: notify.Recovered, Recovers: notify.HookFailed, Version: lineage.Version, NotAfter: lineage.Current.Leaf.NotAfter,
				Message: "the hook after the new certificate succeeded",
			})
		}
		st.Hook = nil
		return
	}
	h := *st.Hook
	h.Failures = min(h.Failures+1, maxFailures)
	h.LastError, h.LastCode = shorten(err), advice.Of(err)
	h.RetryAt = now.Add(Backoff(h.Failures, left(lineage.Current, now), spread()))
	st.Hook = &h
	j.result.Err = errors.Join(j.result.Err, fmt.Errorf("post hook: %w", err))
	j.event(notify.Event{
		Kind: notify.HookFailed, Version: lineage.Version, NotAfter: lineage.Current.Leaf.NotAfter, RetryAt: h.RetryAt,
		Message: "the certificate is in use, the hook after it failed", Error: h.LastError, Code: h.LastCode,
	})
}
