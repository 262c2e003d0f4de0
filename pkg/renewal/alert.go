package renewal

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

// alertDays are the numbers of days left at which people are told. A renewal that should have come weeks ago is news at
// 14; on the last days nobody minds hearing it again.
func alertDays() []int { return []int{14, 7, 3, 1} }

// alertDue returns the threshold that a certificate has crossed and was not told about. Thresholds above half of the
// renewal time say nothing: a certificate of 6 days is not late with 3 days left.
func alertDue(now, notAfter time.Time, before time.Duration, told int) (days int, due bool) {
	for _, d := range slices.Backward(alertDays()) {
		limit := time.Duration(d) * day
		if limit <= before/2 && notAfter.Sub(now) <= limit {
			return d, told == 0 || d < told
		}
	}
	return 0, false
}

// alert tells what a job that has ended leaves unsolved.
func (j *job) alert(have *store.Lineage) error {
	if have == nil {
		return nil
	}
	return errors.Join(j.alertLimit(have), j.alertExpiry(have))
}

// alertLimit tells once that a certificate is due again although it was issued too often already: a CA asks for renewals
// without end, or its certificates are refused. After a day without an issuance the next time is news.
func (j *job) alertLimit(have *store.Lineage) error {
	now, st := j.engine.clock(), &have.State
	recent, told := issuedLately(st, now), !st.Limited.IsZero()
	plan := Decide(now, j.want, have, Options{doubt: j.doubt})
	switch {
	case told && len(recent) == 0:
		st.Limited = time.Time{}
	case !told && plan.Reason == ReasonIssueLimit:
		st.Limited = now
		e := notify.Event{Kind: notify.Limited, Version: have.Version, RetryAt: issueAgain(recent), Message: plan.Message, Error: st.LastError, Code: st.LastCode}
		if have.Current != nil {
			e.NotAfter = have.Current.Leaf.NotAfter
		}
		j.event(e)
	default:
		return nil
	}
	return j.engine.store.SaveState(j.want.Name, st)
}

// alertExpiry tells that the active certificate nears its end, once for each threshold.
func (j *job) alertExpiry(have *store.Lineage) error {
	if have.Current == nil {
		return nil
	}
	now, leaf := j.engine.clock(), have.Current.Leaf
	days, due := alertDue(now, leaf.NotAfter, RenewBefore(Lifetime(leaf.NotBefore, leaf.NotAfter), j.want.RenewBefore), have.State.Alerted)
	if !due {
		return nil
	}
	have.State.Alerted = days
	j.event(notify.Event{
		Kind: notify.Expiring, Version: have.Version, NotAfter: leaf.NotAfter, RetryAt: have.State.RetryAt, Error: have.State.LastError, Code: have.State.LastCode,
		Message: fmt.Sprintf("%s and it is not renewed", remaining(now, leaf.NotAfter)),
	})
	return j.engine.store.SaveState(j.want.Name, &have.State)
}
