package renewal

import (
	"fmt"
	"time"

	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// remind tells the operator again what waits.
func (j *job) remind(p plan.Plan) {
	r := j.record
	r.edit().Alerted = p.Remind
	if p.Reason != plan.ReasonPinned {
		j.event(j.heldEvent(r.State.Held))
		return
	}
	leaf := r.Current.Leaf
	j.event(notify.Event{
		Kind: notify.Expiring, Version: r.Version, NotAfter: leaf.NotAfter,
		Message: fmt.Sprintf("the version is pinned by a rollback, %s; run 'acmed activate %s' to end that",
			plan.Remaining(j.engine.clock(), leaf.NotAfter), j.Spec.Name),
	})
}

// alertLimit tells once that a certificate is due again although it was issued too often already: a CA asks for renewals
// without end, or its certificates are refused. After a day without an issuance the next time is news.
func (j *job) alertLimit() {
	r, now := j.record, j.engine.clock()
	reported := !r.State.Limited.IsZero()
	if reported {
		if len(plan.Recent(r.Lineage, now)) == 0 {
			r.edit().Limited = time.Time{}
		}
		return
	}
	p := plan.Decide(now, &j.Spec, r.Lineage, plan.Options{Clock: j.clock, Fleet: j.fleet})
	if p.Reason != plan.ReasonIssueLimit {
		return
	}
	r.edit().Limited = now
	e := notify.Event{Kind: notify.Limited, Version: r.Version, RetryAt: p.Next, Message: p.Message, Error: r.State.LastError, Code: r.State.LastCode}
	if r.Current != nil {
		e.NotAfter = r.Current.Leaf.NotAfter
	}
	j.event(e)
}

// alertExpiry tells that the active certificate nears its end, once for each threshold.
func (j *job) alertExpiry() {
	r, now := j.record, j.engine.clock()
	if r.Current == nil {
		return
	}
	leaf, st := r.Current.Leaf, &r.State
	days, due := plan.AlertDue(now, leaf.NotAfter, plan.Before(&j.Spec, leaf), st.Alerted)
	if !due {
		return
	}
	r.edit().Alerted = days
	j.event(notify.Event{
		Kind: notify.Expiring, Version: r.Version, NotAfter: leaf.NotAfter, RetryAt: st.RetryAt, Error: st.LastError, Code: st.LastCode,
		Message: fmt.Sprintf("%s and it is not renewed", plan.Remaining(now, leaf.NotAfter)),
	})
}
