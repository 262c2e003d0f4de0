package renewal

import (
	"context"
	"errors"
	"fmt"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
)

// runPre runs the operator's hook before an order.
func (j *job) runPre(ctx context.Context) (err error) {
	if j.Hooks.Pre == nil {
		return nil
	}
	defer j.caught("pre hook", &err)
	j.step(certs.PhaseHook, "pre")
	if err := j.Hooks.Pre(ctx); err != nil {
		return fmt.Errorf("pre hook: %w", err)
	}
	return nil
}

// runPost runs the operator's hook after a new version and records the outcome.
func (j *job) runPost(ctx context.Context) error {
	err := j.callPost(ctx)
	if stopped := j.stopped(); stopped != nil {
		return stopped
	}
	r := j.record
	e := notify.Event{Version: r.Version, NotAfter: r.Current.Leaf.NotAfter}
	h := *r.State.Hook
	if err == nil {
		if h.Failures > 0 {
			e.Kind, e.Recovers, e.Message = notify.Recovered, notify.HookFailed, "the hook after the new certificate succeeded"
			j.event(e)
		}
		r.edit().Hook = nil
		return nil
	}
	h.Failures = min(h.Failures+1, maxFailures)
	h.LastError, h.LastCode, h.RetryAt = shorten(err), advice.Of(err), r.backoff(h.Failures)
	if j.clock.Reason != "" {
		j.unrecorded = true
	} else {
		r.edit().Hook = &h
	}
	j.result.Err = errors.Join(j.result.Err, fmt.Errorf("post hook: %w", err))
	e.Kind, e.Message = notify.HookFailed, "the certificate is in use, the hook after it failed"
	e.RetryAt, e.Error, e.Code = h.RetryAt, h.LastError, h.LastCode
	j.event(e)
	return nil
}

// callPost succeeds when the hook was taken out of the configuration.
func (j *job) callPost(ctx context.Context) (err error) {
	if j.Hooks.Post == nil {
		return nil
	}
	defer j.caught("post hook", &err)
	j.step(certs.PhaseHook, "post")
	shared := j.record.State.Fleet
	adopted := shared != nil && shared.Version == j.record.Version && shared.By == ""
	return j.Hooks.Post(ctx, j.record.Current, !adopted)
}
