package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// HeldError says that a version was not activated because a client would reject it, or its notice has not elapsed.
type HeldError struct {
	Name    string // of the certificate
	Version string
	Reason  string
	Clients []string // trust stores that would refuse it
}

// Error has the command that activates the version all the same.
func (e *HeldError) Error() string {
	return fmt.Sprintf("version %s is held: %s; run 'acmed activate %s --anyway' to activate it", e.Version, e.Reason, e.Name)
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

// obey does what an operator asked for about versions or targets, before the first decision. What was asked for is stored
// before a version goes live: whatever happens after that, the next start goes on.
func (j *job) obey(ctx context.Context) error {
	switch {
	case j.opts.Targets != "":
		return j.changeTargets(ctx)
	case j.opts.Pin != "":
		return j.pin(j.opts.Pin)
	case j.opts.Activate:
		if err := j.review(ctx); err != nil {
			return err
		}
		return j.activateNewest()
	}
	return nil
}

// pin keeps an earlier version live until an operator says otherwise.
func (j *job) pin(id string) error {
	now, r := j.engine.clock(), j.record
	v := plan.Find(r.Lineage, id)
	switch {
	case v == nil:
		return fmt.Errorf("there is no version %q; 'acmed history %s' lists them", id, r.Name)
	case plan.Ended(v, now):
		return fmt.Errorf("version %s ended on %s", id, v.NotAfter.UTC().Format(time.RFC3339))
	case slices.Contains(r.State.Compromised, id):
		return fmt.Errorf("others may know the private key of version %s; choose another one, or renew", id)
	}
	b, err := j.engine.store.Bundle(r.Name, id)
	if err != nil {
		return err
	}
	if until, lacking := j.unseen(b); lacking != nil || until.After(now) {
		return fmt.Errorf("clients would refuse version %s, because the TLSA records of its key are not in the DNS any more; renew instead", id)
	}
	st := r.edit()
	st.Pinned, st.Alerted = id, plan.Reminder(v.NotAfter.Sub(now))
	j.event(notify.Event{Kind: notify.RolledBack, Version: id, NotAfter: v.NotAfter, Message: "an operator went back to an earlier version"})
	return r.save()
}

// activateNewest ends a pin and makes the newest version live, also one that was taken back. One that clients would
// refuse, or whose notice is not over, needs to be asked for with Anyway.
func (j *job) activateNewest() error {
	r := j.record
	v, h := plan.Newest(r.Lineage), r.State.Held
	switch {
	case v == nil:
		return errors.New("there is no stored version yet")
	case plan.Ended(v, j.engine.clock()):
		return fmt.Errorf("the newest version, %s, ended on %s", v.ID, v.NotAfter.UTC().Format(time.RFC3339))
	case v.ID != r.Version && h != nil && h.Version == v.ID && !j.opts.Anyway && (len(h.Clients) > 0 || plan.Announced(h) || h.Keys):
		return &HeldError{Name: r.Name, Version: v.ID, Reason: h.Reason, Clients: h.Clients}
	}
	r.edit().Pinned = ""
	if err := r.save(); err != nil || v.ID == r.Version {
		return err
	}
	return j.activate(v.ID)
}

// activate makes a stored version the active one. What kept it waiting is over with that.
func (j *job) activate(id string) error {
	j.step(certs.PhaseActivate, id)
	r := j.record
	if err := j.renewChain(id); err != nil {
		return err
	}
	if err := j.engine.store.Activate(r.Name, id); err != nil {
		return err
	}
	j.result.Changed = true
	st := r.edit()
	if st.Pinned != id {
		st.Pinned = ""
	}
	h := st.Held
	if h == nil || h.Version != id {
		h, j.released = j.released, nil
	}
	if h != nil {
		v := plan.Find(r.Lineage, id)
		j.event(notify.Event{Kind: notify.Activated, Version: id, NotAfter: v.NotAfter, Clients: h.Clients, Message: "the version that waited is live: " + h.Reason})
		st.Held = nil
	} else {
		j.log(store.LogEntry{Event: string(notify.Activated), Version: id, Detail: "this version is active"})
	}
	st.Alerted = 0
	return r.reread()
}
