package renewal

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

// HeldError says that a version was not made live because somebody would notice.
type HeldError struct {
	Version string
	Reason  string
	Clients []string // trust stores that would refuse it
}

// Error says how to do it nevertheless.
func (e *HeldError) Error() string {
	return fmt.Sprintf("version %s waits: %s; --anyway makes it live nevertheless", e.Version, e.Reason)
}

// Advice is the code of the failure.
func (e *HeldError) Advice() advice.Code { return heldCode(&store.Held{Clients: e.Clients}) }

// heldCode says why a version waits; "" when it is only announced.
func heldCode(h *store.Held) advice.Code {
	if len(h.Clients) > 0 {
		return advice.ClientsWouldBreak
	}
	return ""
}

// obey does what an operator asked for about versions or targets, before the first decision.
func (j *job) obey(ctx context.Context) error {
	switch {
	case j.opts.Targets != "":
		return j.changeTargets(ctx)
	case !j.opts.aboutVersions():
		return nil
	}
	lineage, err := j.engine.store.Load(j.want.Name)
	switch {
	case err != nil:
		return err
	case j.opts.Pin != "":
		return j.pin(lineage, j.opts.Pin)
	}
	again, err := j.review(lineage)
	if again && err == nil {
		lineage, err = j.engine.store.Load(j.want.Name)
	}
	if err != nil {
		return err
	}
	return j.activateNewest(lineage)
}

// pin keeps an earlier version live until an operator says otherwise. The pin is stored first: whatever happens after
// that, the next start goes on.
func (j *job) pin(lineage *store.Lineage, id string) error {
	now := j.engine.clock()
	v := version(lineage, id)
	switch {
	case v == nil:
		return fmt.Errorf("there is no version %q; 'acmed history %s' lists them", id, j.want.Name)
	case ended(v, now):
		return fmt.Errorf("version %s ended on %s", id, v.NotAfter.UTC().Format(time.RFC3339))
	case slices.Contains(lineage.State.Compromised, id):
		return fmt.Errorf("others may know the private key of version %s; choose another one, or renew", id)
	}
	if _, err := j.engine.store.Bundle(j.want.Name, id); err != nil {
		return err
	}
	st := &lineage.State
	st.Pinned, st.Alerted = id, reminder(v.NotAfter.Sub(now))
	j.event(notify.Event{Kind: notify.RolledBack, Version: id, NotAfter: v.NotAfter, Message: "an operator went back to an earlier version"})
	return j.engine.store.SaveState(j.want.Name, st)
}

// activateNewest ends a pin and makes the newest version live, also one that was taken back. One that clients would
// refuse, or whose notice is not over, needs to be asked for with Anyway.
func (j *job) activateNewest(lineage *store.Lineage) error {
	v, st := newest(lineage), &lineage.State
	switch {
	case v == nil:
		return errors.New("there is no stored version yet")
	case ended(v, j.engine.clock()):
		return fmt.Errorf("the newest version, %s, ended on %s", v.ID, v.NotAfter.UTC().Format(time.RFC3339))
	case v.ID == lineage.Version:
		st.Pinned = ""
		return j.engine.store.SaveState(j.want.Name, st)
	}
	if h := st.Held; h != nil && h.Version == v.ID && !j.opts.Anyway && (len(h.Clients) > 0 || announced(h)) {
		return &HeldError{Version: v.ID, Reason: h.Reason, Clients: h.Clients}
	}
	return j.goLive(lineage, v.ID)
}

// fallBack looks for a target that worked with an earlier version and is out of order now that the active one was
// installed. If the earlier version puts it in order again, that one stays live and the new one is held: it reports true.
// If not, the trouble is not the certificate's, and nothing changes.
func (j *job) fallBack(ctx context.Context, lineage *store.Lineage, outcomes map[string]error) (bool, error) {
	for _, target := range j.want.Targets {
		old := j.worked(lineage, target, outcomes[target])
		if old == "" {
			continue
		}
		bundle, err := j.engine.store.Bundle(j.want.Name, old)
		if err != nil || !outOfOrder(j.verify(ctx, target, bundle)) || !outOfOrder(j.verify(ctx, target, lineage.Current)) {
			continue
		}
		helped, err := j.tryBack(ctx, lineage, target, old, bundle)
		if err != nil || !helped {
			return false, err
		}
		return true, j.recordBack(lineage, target, old, bundle, outcomes)
	}
	return false, nil
}

// outOfOrder reports whether an outcome of a target means that its endpoint does not work. A stopped server, or one that
// asked for time, is not out of order; and a file that could not be read here says nothing about the endpoint.
func outOfOrder(outcome error) bool {
	var stopped *installers.NotRunningError
	var later *installers.LaterError
	var file *fs.PathError
	return outcome != nil && !errors.As(outcome, &stopped) && !errors.As(outcome, &later) && !errors.As(outcome, &file)
}

// worked returns the version that a target was last seen serving, if that was another one and is still valid.
func (j *job) worked(lineage *store.Lineage, target string, outcome error) string {
	t := lineage.State.Installed[target]
	if !outOfOrder(outcome) || t.VerifiedAt.IsZero() {
		return ""
	}
	for i := range lineage.Versions {
		v := &lineage.Versions[i]
		if v.Fingerprint == t.Fingerprint && v.ID != lineage.Version && !ended(v, j.engine.clock()) &&
			!slices.Contains(lineage.State.Compromised, v.ID) {
			return v.ID
		}
	}
	return ""
}

// tryBack installs an earlier version and reports whether the target is in order with it. If it is not, the active
// version is the active one again.
func (j *job) tryBack(ctx context.Context, lineage *store.Lineage, target, old string, b *certs.Bundle) (bool, error) {
	j.tell(certs.Step{Phase: certs.PhaseActivate, Detail: old})
	if err := j.engine.store.Activate(j.want.Name, old); err != nil {
		return false, err
	}
	err := j.install(ctx, target, b)
	if err == nil {
		return true, nil
	}
	j.engine.log.Warn("the earlier version does not help, keeping the new one", zap.String("certificate", j.want.Name),
		zap.String("target", target), zap.Error(err))
	return false, j.engine.store.Activate(j.want.Name, lineage.Version)
}

// recordBack keeps the earlier version live and the new one waiting for the operator.
func (j *job) recordBack(lineage *store.Lineage, target, old string, b *certs.Bundle, outcomes map[string]error) error {
	st, now := &lineage.State, j.engine.clock()
	reason := fmt.Sprintf("%s stopped working with it: %v", target, outcomes[target])
	st.Held = &store.Held{Version: lineage.Version, Reason: shorten(errors.New(reason)), Since: now}
	st.Pinned, st.Alerted = "", reminder(b.Leaf.NotAfter.Sub(now))
	for other := range outcomes { // what the others serve is known after the next round
		t := installed(st, other)
		t.Fingerprint, t.RetryAt = "", time.Time{}
		st.Installed[other] = t
	}
	st.Installed[target] = store.Installed{Fingerprint: b.Fingerprint(), At: now, VerifiedAt: now}
	j.result.Changed = true
	j.result.Err = errors.Join(j.result.Err, fmt.Errorf("version %s was taken back: %s", lineage.Version, reason))
	j.event(notify.Event{
		Kind: notify.RolledBack, Version: old, Target: target, NotAfter: b.Leaf.NotAfter, Error: st.Held.Reason,
		Message: "the new version was taken back, the earlier one is live again",
	})
	return j.engine.store.SaveState(j.want.Name, st)
}
