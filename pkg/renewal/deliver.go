package renewal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

// deliver installs the active version at the plan's targets, and checks those that only need a look. Targets are
// independent of each other: all are tried, each outcome is stored by itself.
func (j *job) deliver(ctx context.Context, plan Plan, lineage *store.Lineage) error {
	outcomes := make([]error, len(plan.Install)+len(plan.Verify))
	var wg sync.WaitGroup
	for i, target := range plan.Install {
		wg.Go(func() { outcomes[i] = j.install(ctx, target, lineage.Current) })
	}
	for i, target := range plan.Verify {
		wg.Go(func() { outcomes[len(plan.Install)+i] = j.verify(ctx, target, lineage.Current) })
	}
	wg.Wait()
	if err := j.engine.base.Err(); err != nil { // stopped in the middle: nothing is known, the next start looks again
		j.result.Err = errors.Join(j.result.Err, ErrClosed)
		return ErrClosed
	}
	installed := make(map[string]error, len(plan.Install))
	for i, target := range plan.Install {
		installed[target] = outcomes[i]
	}
	if back, err := j.fallBack(ctx, lineage, installed); back || err != nil {
		return err
	}
	for i, target := range plan.Install {
		j.recordTarget(lineage, target, outcomes[i])
	}
	for i, target := range plan.Verify {
		j.recordLook(lineage, target, outcomes[len(plan.Install)+i])
	}
	return j.engine.store.SaveState(j.want.Name, &lineage.State)
}

func (j *job) install(ctx context.Context, target string, b *certs.Bundle) (err error) {
	installer, ok := j.to[target]
	if !ok {
		return fmt.Errorf("target %q is not configured", target)
	}
	defer j.caught("target "+target, &err)
	if err := j.older(ctx, installer, b); err != nil {
		return err
	}
	j.tell(certs.Step{Phase: certs.PhaseInstall, Detail: target})
	if err := installer.Install(ctx, b); err != nil {
		return err
	}
	return j.look(ctx, installer, target, b)
}

// older refuses to put an earlier certificate over one that acmed does not have, after a backup was restored or where
// another program renews too. An operator who asks for it and a certificate that was just issued are not refused.
func (j *job) older(ctx context.Context, installer installers.Installer, b *certs.Bundle) error {
	if j.result.Obtained || j.opts.Targets == InstallTargets {
		return nil
	}
	var newer *installers.NewerError
	if err := installer.Verify(ctx, b); !errors.As(err, &newer) {
		return nil
	}
	lineage, err := j.engine.store.Load(j.want.Name)
	if err != nil {
		return err
	}
	known := func(v store.Version) bool { return strings.Contains(v.Fingerprint, newer.Fingerprint) }
	if slices.ContainsFunc(lineage.Versions, known) {
		return nil
	}
	return fmt.Errorf("%w; that is newer than what acmed has, so it stays: an old backup was restored, or somebody else renews it; "+
		"'acmed renew --force %s' brings a new one, 'acmed install %[2]s' puts acmed's own there", newer, j.want.Name)
}

func (j *job) verify(ctx context.Context, target string, b *certs.Bundle) (err error) {
	installer, ok := j.to[target]
	if !ok {
		return fmt.Errorf("target %q is not configured", target)
	}
	defer j.caught("target "+target, &err)
	return j.look(ctx, installer, target, b)
}

func (j *job) look(ctx context.Context, installer installers.Installer, target string, b *certs.Bundle) error {
	j.tell(certs.Step{Phase: certs.PhaseVerify, Detail: target})
	return installer.Verify(ctx, b)
}

// caught turns a panic in a plugin into an error of its target or hook.
func (j *job) caught(who string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("internal error: %v", r)
		j.engine.log.Error("plugin panicked", zap.String("certificate", j.want.Name), zap.String("plugin", who),
			zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
	}
}

// recordTarget notes the outcome of an installation. The fingerprint is only recorded when the target was seen to serve
// the certificate.
func (j *job) recordTarget(lineage *store.Lineage, target string, err error) {
	st, now := &lineage.State, j.engine.clock()
	t := installed(st, target)
	if err == nil {
		j.targetRecovered(lineage, target, &t)
		t = store.Installed{Fingerprint: lineage.Current.Fingerprint(), At: now, VerifiedAt: now}
		st.Installed[target] = t
		j.result.Changed = true
		return
	}
	patient := postpone(&t, err, left(lineage.Current, now), now)
	t.LastError, t.LastCode = shorten(err), advice.Of(err)
	st.Installed[target] = t
	err = fmt.Errorf("target %s: %w", target, err)
	if patient {
		j.result.Waiting = errors.Join(j.result.Waiting, err)
		return
	}
	j.result.Err = errors.Join(j.result.Err, err)
	j.event(notify.Event{
		Kind: notify.InstallFailed, Version: lineage.Version, Target: target, NotAfter: lineage.Current.Leaf.NotAfter,
		RetryAt: t.RetryAt, Message: "the certificate is stored but not served", Error: t.LastError, Code: t.LastCode,
	})
}

// targetRecovered tells that a target works again whose record says that it failed.
func (j *job) targetRecovered(lineage *store.Lineage, target string, before *store.Installed) {
	if before.Failures == 0 {
		return
	}
	j.event(notify.Event{
		Kind: notify.Recovered, Recovers: notify.InstallFailed, Version: lineage.Version, Target: target,
		NotAfter: lineage.Current.Leaf.NotAfter, Message: "the target serves the certificate again",
	})
}

// The bounds on what a target may ask for when it names the time of the next call.
const (
	soonestLater = time.Minute
	latestLater  = time.Hour
)

// postpone sets the time of the next try, and reports whether the target only asked to be called later. One that names no
// time gets the ordinary schedule, and counts as failed when it still asks after all the quick tries.
func postpone(t *store.Installed, err error, left time.Duration, now time.Time) (patient bool) {
	var later *installers.LaterError
	patient = errors.As(err, &later)
	if patient && later.After > 0 {
		t.RetryAt = now.Add(min(max(later.After, soonestLater), latestLater))
		return true
	}
	t.Failures = min(t.Failures+1, maxFailures)
	t.RetryAt = now.Add(Backoff(t.Failures, left, spread()))
	return patient && t.Failures <= len(retryTable())
}

// recordLook notes the outcome of a daily check. A target that serves something else is installed again at once.
func (j *job) recordLook(lineage *store.Lineage, target string, err error) {
	st := &lineage.State
	t := installed(st, target)
	if err == nil {
		j.targetRecovered(lineage, target, &t)
		t.VerifiedAt, t.Failures, t.LastError, t.LastCode, t.RetryAt = j.engine.clock(), 0, "", "", time.Time{}
	} else {
		t.Fingerprint, t.LastError, t.LastCode, t.RetryAt = "", shorten(err), advice.Of(err), time.Time{}
	}
	st.Installed[target] = t
}

// finish tidies up after the last round and writes the job's one line.
func (j *job) finish(lineage *store.Lineage) {
	if lineage != nil && (j.result.Obtained || len(lineage.State.Compromised) > 0) {
		if err := j.engine.store.Prune(j.want.Name, j.set.Keep); err != nil {
			j.engine.log.Warn("old versions could not be removed", zap.String("certificate", j.want.Name), zap.Error(err))
		}
	}
	fields := []zap.Field{
		zap.String("certificate", j.want.Name), zap.String("reason", string(j.result.Reason)),
		zap.Bool("obtained", j.result.Obtained), zap.Duration("took", j.engine.clock().Sub(j.begun)),
	}
	if j.result.Err != nil {
		j.engine.log.Debug("job ended", append(fields, zap.String("code", string(advice.Of(j.result.Err))), zap.Error(j.result.Err))...)
		return
	}
	j.engine.log.Debug("job ended", fields...)
}
