package renewal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// fallBack looks for a target that worked with an earlier version and is out of order now that the active one was
// installed. If the earlier version puts it in order again, that one stays live and the new one is held: it reports true.
// If not, the trouble is not the certificate's, and nothing changes.
func (j *job) fallBack(ctx context.Context, outcomes map[string]error) (bool, error) {
	for _, target := range j.Spec.Targets {
		old := j.worked(target, outcomes[target])
		if old == "" {
			continue
		}
		bundle, err := j.engine.store.Bundle(j.Spec.Name, old)
		if err != nil || !outOfOrder(j.verify(ctx, target, bundle)) {
			continue
		}
		if outcome := j.steadily(ctx, target); !outOfOrder(outcome) {
			outcomes[target] = outcome
			continue
		}
		helped, err := j.tryEarlier(ctx, target, old, bundle)
		if err != nil || !helped {
			return false, err
		}
		err = j.recordFallBack(target, old, bundle, outcomes)
		j.noteBroken(ctx, j.record.State.Held.Reason)
		return true, err
	}
	return false, nil
}

// The looks before a fall-back: an endpoint must fail in all of them. Old and new workers may answer in turn for a while,
// and not every installer waits for that itself.
const (
	steadyLooks = 3
	steadyPause = 2 * time.Second
)

// steadily is the outcome of several looks at a target, the last failure only if all failed.
func (j *job) steadily(ctx context.Context, target string) (outcome error) {
	for i := range steadyLooks {
		if i > 0 {
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-time.After(steadyPause):
			}
		}
		if outcome = j.verify(ctx, target, j.record.Current); !outOfOrder(outcome) {
			return outcome
		}
	}
	return outcome
}

// outOfOrder reports whether an outcome of a target means that its endpoint does not work. A stopped server, or one that
// asked for time, is not out of order; and a file that could not be read here says nothing about the endpoint.
func outOfOrder(outcome error) bool {
	var stopped *installers.NotRunningError
	var later *installers.LaterError
	var file *fs.PathError
	return outcome != nil && !errors.As(outcome, &stopped) && !errors.As(outcome, &later) && !errors.As(outcome, &file)
}

// worked returns the version that a target was last seen serving, if that was another one and lasts for longer than the
// margin in which nothing is held any more.
func (j *job) worked(target string, outcome error) string {
	t := j.record.State.Installed[target]
	if !outOfOrder(outcome) || t.VerifiedAt.IsZero() {
		return ""
	}
	for i := range j.record.Versions {
		v := &j.record.Versions[i]
		if v.Fingerprint == t.Fingerprint && v.ID != j.record.Version && j.engine.clock().Before(plan.ReleaseBy(v.NotBefore, v.NotAfter)) &&
			!slices.Contains(j.record.State.Compromised, v.ID) {
			return v.ID
		}
	}
	return ""
}

// tryEarlier installs an earlier version and reports whether the target is in order with it. If it is not, the active
// version is the active one again.
func (j *job) tryEarlier(ctx context.Context, target, old string, b *certs.Bundle) (bool, error) {
	j.step(certs.PhaseActivate, old)
	if err := j.engine.store.Activate(j.Spec.Name, old); err != nil {
		return false, err
	}
	err := j.install(ctx, target, b)
	if err == nil {
		return true, nil
	}
	j.engine.log.Warn("the earlier version does not help, keeping the new one", zap.String("certificate", j.Spec.Name),
		zap.String("target", target), zap.Error(err))
	return false, j.engine.store.Activate(j.Spec.Name, j.record.Version)
}

// recordFallBack keeps the earlier version live and the new one waiting for the operator.
func (j *job) recordFallBack(target, old string, b *certs.Bundle, outcomes map[string]error) error {
	r, now := j.record, j.engine.clock()
	st := r.edit()
	reason := fmt.Sprintf("%s stopped working with it: %v", target, outcomes[target])
	st.Held = &store.Held{Version: r.Version, Reason: shorten(errors.New(reason)), Since: now}
	st.Pinned, st.Alerted = "", plan.Reminder(b.Leaf.NotAfter.Sub(now))
	for other := range outcomes { // what the others serve is known after the next round
		t := st.Installed[other]
		t.Fingerprint, t.RetryAt = "", time.Time{}
		r.setTarget(other, t)
	}
	r.setTarget(target, store.Installed{Fingerprint: b.Fingerprint(), At: now, VerifiedAt: now})
	j.result.Changed = true
	j.result.Err = errors.Join(j.result.Err, fmt.Errorf("version %s was rolled back: %s", r.Version, reason))
	j.event(notify.Event{
		Kind: notify.RolledBack, Version: old, Target: target, NotAfter: b.Leaf.NotAfter, Error: st.Held.Reason,
		Message: "the new version was rolled back, the earlier one is active again",
	})
	if err := r.save(); err != nil {
		return err
	}
	return r.reread()
}
