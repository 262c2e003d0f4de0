package renewal

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// serve installs the active version at the plan's targets, and checks those that only need a look. Targets are
// independent of each other: all are tried, each outcome is recorded by itself.
func (j *job) serve(ctx context.Context, p plan.Plan) error {
	outcomes := make([]error, len(p.Install)+len(p.Verify))
	var wg guard.Group
	for i, target := range p.Install {
		wg.Go(func() { outcomes[i] = j.install(ctx, target, j.record.Current) })
	}
	for i, target := range p.Verify {
		wg.Go(func() { outcomes[len(p.Install)+i] = j.verify(ctx, target, j.record.Current) })
	}
	wg.Wait()
	if err := j.stopped(); err != nil {
		return err
	}
	installed := make(map[string]error, len(p.Install))
	for i, target := range p.Install {
		installed[target] = outcomes[i]
	}
	if back, err := j.fallBack(ctx, installed); back || err != nil {
		return err
	}
	for _, target := range p.Install {
		j.recordInstall(ctx, target, installed[target])
	}
	for i, target := range p.Verify {
		j.recordLook(ctx, target, outcomes[len(p.Install)+i])
	}
	j.noteServed(ctx)
	return nil
}

func (j *job) install(ctx context.Context, target string, b *certs.Bundle) (err error) {
	installer, ok := j.Targets[target]
	if !ok {
		return fmt.Errorf("target %q: %w", target, errNotConfigured)
	}
	defer j.caught("target "+target, &err)
	if err := j.refuseOlder(ctx, installer, b); err != nil {
		return err
	}
	j.step(certs.PhaseInstall, target)
	if err := installer.Install(ctx, b); err != nil {
		return err
	}
	j.step(certs.PhaseVerify, target)
	return installer.Verify(ctx, b)
}

// refuseOlder refuses to put an earlier certificate over one that acmed does not have, after a backup was restored or
// where another program renews too. An operator who asks for it and a certificate that was just issued are not refused.
func (j *job) refuseOlder(ctx context.Context, installer installers.Installer, b *certs.Bundle) error {
	if j.result.Obtained || j.opts.Targets == InstallTargets {
		return nil
	}
	var newer *installers.NewerError
	if err := installer.Verify(ctx, b); !errors.As(err, &newer) {
		return nil
	}
	known := func(v store.Version) bool { return strings.Contains(v.Fingerprint, newer.Fingerprint) }
	if slices.ContainsFunc(j.record.Versions, known) {
		return nil
	}
	return fmt.Errorf("%w; the served certificate is newer than acmed's, so acmed leaves it in place (restored backup, or another ACME client); "+
		"'acmed renew --force %s' brings a new one, 'acmed install %[2]s' puts acmed's own there", newer, j.Spec.Name)
}

func (j *job) verify(ctx context.Context, target string, b *certs.Bundle) (err error) {
	installer, ok := j.Targets[target]
	if !ok {
		return fmt.Errorf("target %q: %w", target, errNotConfigured)
	}
	defer j.caught("target "+target, &err)
	j.step(certs.PhaseVerify, target)
	return installer.Verify(ctx, b)
}

// notes are what an operator should know although the target serves the certificate. A helper of an earlier release has none.
func (j *job) notes(ctx context.Context, target string) (list []string) {
	n, ok := j.Targets[target].(installers.Noter)
	if !ok {
		return nil
	}
	var err error
	defer j.caught("target "+target, &err)
	if list, err = n.Notes(ctx, j.record.Current); err != nil {
		return nil
	}
	for i := range list {
		list[i] = shorten(errors.New(list[i]))
	}
	return list
}

// caught turns a panic in a plugin into an error of its target or hook.
func (j *job) caught(who string, err *error) {
	if r := recover(); r != nil {
		*err = fmt.Errorf("internal error: %v", r)
		j.engine.log.Error("plugin panicked", zap.String("certificate", j.Spec.Name), zap.String("plugin", who),
			zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
	}
}

// recordInstall notes the outcome of an installation. The fingerprint is only recorded when the target was seen to serve
// the certificate. While the clock is doubted no time is recorded, and a target that failed is tried again with the next
// look at the clock.
func (j *job) recordInstall(ctx context.Context, target string, err error) {
	r, now := j.record, j.engine.clock()
	t := r.State.Installed[target]
	if err == nil {
		j.targetRecovered(target, t)
		t = store.Installed{Fingerprint: r.Current.Fingerprint(), At: now, VerifiedAt: now, Notes: j.notes(ctx, target)}
		if j.clock.Reason != "" {
			t.At, t.VerifiedAt = time.Time{}, time.Time{}
		}
		r.setTarget(target, t)
		j.log(store.LogEntry{Event: "installed", Target: target, Version: r.Version, Detail: "the target serves this version"})
		j.result.Changed = true
		return
	}
	deferred := j.postpone(target, &t, err)
	t.LastError, t.LastCode = shorten(err), advice.Of(err)
	if j.clock.Reason != "" {
		j.unrecorded = true
	} else {
		r.setTarget(target, t)
	}
	err = fmt.Errorf("target %s: %w", target, err)
	if deferred {
		j.result.Waiting = errors.Join(j.result.Waiting, err)
		return
	}
	j.result.Err = errors.Join(j.result.Err, err)
	j.event(notify.Event{
		Kind: notify.InstallFailed, Version: r.Version, Target: target, NotAfter: r.Current.Leaf.NotAfter,
		RetryAt: t.RetryAt, Message: "the certificate is stored but not served", Error: t.LastError, Code: t.LastCode,
	})
}

// targetRecovered tells that a target works again whose record says that it failed.
func (j *job) targetRecovered(target string, before store.Installed) {
	if before.Failures == 0 {
		return
	}
	j.event(notify.Event{
		Kind: notify.Recovered, Recovers: notify.InstallFailed, Version: j.record.Version, Target: target,
		NotAfter: j.record.Current.Leaf.NotAfter, Message: "the target serves the certificate again",
	})
}

// The bounds on what a target may ask for when it names the time of the next call.
const (
	soonestLater = time.Minute
	latestLater  = time.Hour
)

// postpone sets the time of the next try, and reports whether the target only asked to be called later. One that names no
// time gets the ordinary schedule, and counts as failed when it still asks after all the quick tries. A server that refused
// the edit itself refuses it again, so the quick tries are skipped.
func (j *job) postpone(target string, t *store.Installed, err error) (deferred bool) {
	var later *installers.LaterError
	deferred = errors.As(err, &later)
	if deferred && later.After > 0 {
		t.RetryAt = j.engine.clock().Add(min(max(later.After, soonestLater), latestLater))
		return true
	}
	var refused *installers.RefusedEditError
	t.Failures = min(t.Failures+1, maxFailures)
	t.RetryAt, t.Asked = j.record.backoffAfter(t.Failures, errors.As(err, &refused)), j.AskedOf[target]
	return deferred && t.Failures <= len(plan.Retries())
}

// recordLook notes the outcome of a daily check. A target that serves something else is installed again at once.
func (j *job) recordLook(ctx context.Context, target string, err error) {
	t := j.record.State.Installed[target]
	if err == nil {
		j.targetRecovered(target, t)
		t.VerifiedAt, t.Failures, t.LastError, t.LastCode, t.RetryAt = j.engine.clock(), 0, "", "", time.Time{}
		t.Notes = j.notes(ctx, target)
	} else {
		t.Fingerprint, t.LastError, t.LastCode, t.RetryAt = "", shorten(err), advice.Of(err), time.Time{}
		j.log(store.LogEntry{Event: "not_served", Target: target, Version: j.record.Version, Code: t.LastCode, Detail: t.LastError})
	}
	j.record.setTarget(target, t)
}

// changeTargets prepares a new installation, or takes the targets away. What could be taken away is stored as such, so
// that no sweep puts it back.
func (j *job) changeTargets(ctx context.Context) error {
	var errs []error
	for _, target := range j.Spec.Targets {
		t := j.record.State.Installed[target]
		if j.opts.Targets == InstallTargets {
			t = store.Installed{}
		} else if err := j.uninstall(ctx, target); err != nil {
			errs = append(errs, fmt.Errorf("target %s: %w", target, err))
		} else {
			t = store.Installed{Off: true}
			j.log(store.LogEntry{Event: "uninstalled", Target: target, Detail: "by an operator"})
			j.result.Changed = true
		}
		j.record.setTarget(target, t)
	}
	return errors.Join(append(errs, j.record.save())...)
}

func (j *job) uninstall(ctx context.Context, target string) (err error) {
	installer, ok := j.Targets[target]
	if !ok {
		return errNotConfigured
	}
	u, ok := installer.(installers.Uninstaller)
	if !ok {
		j.step(certs.PhaseUninstall, target+": what its program did stays")
		return nil
	}
	defer j.caught("target "+target, &err)
	j.step(certs.PhaseUninstall, target)
	return u.Uninstall(ctx)
}
