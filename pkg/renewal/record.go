package renewal

import (
	"cmp"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

const (
	// maxFailures keeps the counter readable; the schedule has long been daily by then.
	maxFailures = 100_000
	// errorText is the longest error kept in the state.
	errorText = 2000
	// invalidWindow is for how long a failed validation counts; public CAs count them by the hour.
	invalidWindow = time.Hour
)

// record is what is stored about one certificate while a job, or a request of an operator, works on it. Nothing else
// writes state.json. There are three points at which it is saved: before an order (and before each further one that the
// issuer places for a name that failed), so that a crash loop or a full disk cannot become a request loop; after an order,
// so that what a CA counts is counted; and at the end. A kill in between repeats what is idempotent: a question to the
// CA, an activation, an installation. Two things would be undone by that, so they are saved at once: what an operator
// asked for about versions and targets, and that a version was taken back from an endpoint which it broke.
type record struct {
	*store.Lineage // without a version that must not go live before the fleet has it
	all            *store.Lineage
	store          *store.Store
	fleet          bool
	now            func() time.Time
	doubted        bool // the state held times that this clock cannot have written
	dirty          bool // State was changed since it was read or saved
}

// open reads what is stored about a certificate. The caller must have kept other jobs away.
func (e *Engine) open(name string) (*record, error) {
	have, doubted, err := e.load(name)
	if err != nil {
		return nil, err
	}
	r := &record{store: e.store, now: e.clock, doubted: doubted, fleet: e.fleet != nil}
	r.see(have)
	return r, nil
}

// load reads what is stored, without the times that cannot be believed.
func (e *Engine) load(name string) (have *store.Lineage, doubted bool, err error) {
	if have, err = e.store.Load(name); err != nil {
		return nil, false, err
	}
	return have, have.State.Believe(e.clock()), nil
}

// edit is the state, to be changed.
func (r *record) edit() *store.State {
	r.dirty = true
	return &r.State
}

// save writes state.json if anything changed.
func (r *record) save() error {
	if !r.dirty {
		return nil
	}
	if err := r.store.SaveState(r.Name, &r.State); err != nil {
		return err
	}
	r.dirty = false
	return nil
}

// reread looks at the versions again after one was added or made live.
func (r *record) reread() error {
	have, err := r.store.Load(r.Name)
	if err == nil {
		have.State = r.State
		r.see(have)
	}
	return err
}

// see makes have what decisions are about. In a fleet, a version that was obtained here and could not be committed must
// not go live for being the newest on disk: another node may have gone on. It does where waiting would be an outage.
func (r *record) see(have *store.Lineage) {
	if r.all != nil && r.Lineage != nil { // the state that decisions change is one
		have.State = r.State
	}
	r.Lineage, r.all = have, have
	st := have.State.Fleet
	if !r.fleet || st == nil || st.Unshared == "" || st.Unshared == have.Version || have.Current == nil {
		return
	}
	leaf := have.Current.Leaf
	if !r.now().Before(leaf.NotAfter.Add(-plan.Lifetime(leaf.NotBefore, leaf.NotAfter) / 10)) {
		return
	}
	seen := *have
	seen.Versions = slices.DeleteFunc(slices.Clone(have.Versions), func(v store.Version) bool { return v.ID == st.Unshared })
	r.Lineage = &seen
}

// backoff is when to try again after so many failures.
func (r *record) backoff(failures int) time.Time {
	left, life := time.Duration(0), time.Duration(0)
	if r.Current != nil {
		leaf := r.Current.Leaf
		left, life = cmp.Or(leaf.NotAfter.Sub(r.now()), 1), plan.Lifetime(leaf.NotBefore, leaf.NotAfter)
	}
	return r.now().Add(plan.Backoff(failures, left, life, spread()))
}

// backoffAfter skips the quick tries after a failure that only an operator can mend.
func (r *record) backoffAfter(failures int, permanent bool) time.Time {
	if permanent {
		failures = max(failures, len(plan.Retries())+1)
	}
	return r.backoff(failures)
}

// resume ends acmed's own pauses where what failed is not what is asked for now, or where an operator asked again.
func (r *record) resume(c *Certificate, again bool) {
	if st := &r.State; !st.RetryAt.IsZero() && !st.Paused && (again || changed(st.Asked, c.Asked)) {
		r.edit().RetryAt = time.Time{}
	}
	for target, asked := range c.AskedOf {
		if t := r.State.Installed[target]; !t.RetryAt.IsZero() && changed(t.Asked, asked) {
			t.RetryAt = time.Time{}
			r.setTarget(target, t)
		}
	}
}

func changed(before, now string) bool { return before != "" && now != "" && before != now }

// beginOrder notes that a try begins. A try that never ended, because acmed was killed, is followed by one prompt further
// try and then by the ordinary schedule.
func (r *record) beginOrder() error {
	st := r.edit()
	st.Attempts++
	if st.Attempts > 1 {
		st.RetryAt = r.backoff(st.Attempts - 1)
	}
	return r.save()
}

// cancelOrder notes that an order was stopped, which is no failure.
func (r *record) cancelOrder() {
	st := r.edit()
	st.Attempts, st.RetryAt = 0, time.Time{}
}

// failOrder notes why no certificate could be obtained and when to try again. It reports false when the error is no news:
// nothing was tried, because names failed too often before, and why they did stays on record.
func (r *record) failOrder(err error, asked string) (news bool) {
	st, now := r.edit(), r.now()
	st.Attempts = 0
	var refused *certs.VetError
	if errors.As(err, &refused) { // the CA issued it and counts it
		r.countIssued()
	}
	r.forgetInvalid()
	if budget := OverBudget(err); budget != nil && st.LastError != "" {
		st.RetryAt = r.believable(clock.Later(st.RetryAt, budget.At))
		return false
	}
	st.LastError, st.LastCode, st.LastErrorAt, st.Asked = shorten(err), advice.Of(err), now, asked
	if st.FailingSince.IsZero() {
		st.FailingSince = now
	}
	st.RetryAt = r.believable(r.retryAt(err))
	return true
}

// believable cuts a time to what [store.State.Believe] lets stand: a CA that asks for more is asked again after two days.
func (r *record) believable(t time.Time) time.Time {
	return clock.Earlier(t, r.now().Add(clock.LongestPause))
}

func (r *record) retryAt(err error) time.Time {
	st, now := r.edit(), r.now()
	var limited *certs.RateLimitError
	st.Paused = errors.As(err, &limited) && limited.At.After(now.Add(2*time.Minute)) // sooner is the issuer's word for "did not say"
	if st.Paused {
		return limited.At.Add(time.Duration(spread() * float64(time.Minute)))
	}
	st.Failures = min(st.Failures+1, maxFailures)
	var permanent *certs.PermanentError
	again := r.backoffAfter(st.Failures, errors.As(err, &permanent))
	var budget *certs.BudgetError
	if errors.As(err, &budget) {
		again = clock.Later(again, budget.At)
	}
	return again
}

// issued notes a new version. Its first question for a renewal window comes later, spread over half of the usual distance.
func (r *record) issued(b *certs.Bundle, hook, newKey bool) {
	r.countIssued()
	st, now := r.edit(), r.now()
	st.Attempts, st.Failures, st.LastError, st.LastCode = 0, 0, "", ""
	st.LastErrorAt, st.FailingSince, st.RetryAt, st.Asked, st.Paused = time.Time{}, time.Time{}, time.Time{}, "", false
	st.RenewAt, st.RenewFor, st.Requested = time.Time{}, "", time.Time{}
	if newKey {
		st.Held, st.Pinned = nil, ""
	}
	half := plan.ARIEvery(plan.Lifetime(b.Leaf.NotBefore, b.Leaf.NotAfter)) / 2
	st.ARI = store.ARI{For: certs.Fingerprint(b.Leaf), CheckAt: now.Add(half + time.Duration(spread()*float64(half)))}
	st.Hook = nil
	if hook {
		st.Hook = &store.Hook{For: b.Fingerprint()}
	}
	r.forgetInvalid()
	remember(st, b.Validations)
}

// countIssued counts a certificate that the CA issued, whether it can be used or not.
func (r *record) countIssued() {
	st, now := r.edit(), r.now()
	st.Issued = append(since(st.Issued, now.Add(-24*time.Hour)), now)
}

// window notes the CA's renewal window; no answer is no news. The time in it is drawn once: drawing it at every look could
// put it off for ever.
func (r *record) window(w certs.Window, err error) {
	st, now, leaf := r.edit(), r.now(), r.Current.Leaf
	fingerprint, every := certs.Fingerprint(leaf), plan.ARIEvery(plan.Lifetime(leaf.NotBefore, leaf.NotAfter))
	if err != nil { // RFC 9773 section 4.3.3
		st.ARI.For, st.ARI.CheckAt = fingerprint, now.Add(every/2)
		return
	}
	again := w.RetryAfter
	if again <= 0 {
		again = every
	}
	moved := !w.Start.Equal(st.ARI.Start) || !w.End.Equal(st.ARI.End)
	st.ARI = store.ARI{CheckAt: r.believable(now.Add(again)), For: fingerprint, Start: w.Start, End: w.End, URL: w.ExplanationURL}
	switch {
	case w.IsZero():
		st.RenewAt, st.RenewFor = time.Time{}, ""
	case moved || st.RenewFor != fingerprint:
		st.RenewAt = w.Start.Add(time.Duration(spread() * float64(w.End.Sub(w.Start))))
		st.RenewFor = fingerprint
	}
}

// invalid counts a failed validation before the next order is placed, so that neither a crash nor a solver that works in
// the end makes a name's budget whole again.
func (r *record) invalid(id string) error {
	st := r.edit()
	if st.Invalid == nil {
		st.Invalid = map[string][]time.Time{}
	}
	st.Invalid[id] = append(st.Invalid[id], r.now())
	return r.save()
}

// forgetInvalid drops failed validations that do not count any more.
func (r *record) forgetInvalid() {
	st := r.edit()
	for id, times := range st.Invalid {
		if st.Invalid[id] = since(times, r.now().Add(-invalidWindow)); len(st.Invalid[id]) == 0 {
			delete(st.Invalid, id)
		}
	}
}

// remember notes which solver proved each name. What an earlier order had proved keeps its solver.
func remember(st *store.State, validations []certs.Validation) {
	solved := map[string]string{}
	for _, v := range validations {
		if v.Solver == "" {
			v.Solver = st.Solved[v.Identifier]
		}
		if v.Solver != "" {
			solved[v.Identifier] = v.Solver
		}
	}
	st.Solved = solved
}

// setTarget changes what is known about one target.
func (r *record) setTarget(target string, t store.Installed) {
	st := r.edit()
	if st.Installed == nil {
		st.Installed = map[string]store.Installed{}
	}
	st.Installed[target] = t
}

// since keeps the times after cut.
func since(times []time.Time, cut time.Time) []time.Time {
	kept := times[:0:0]
	for _, t := range times {
		if t.After(cut) {
			kept = append(kept, t)
		}
	}
	return kept
}

func shorten(err error) string { return text.Cut(strings.ToValidUTF8(err.Error(), "?"), errorText) }

// OverBudget is the error of a run in which nothing was tried, because a name failed too often before; else nil.
func OverBudget(err error) *certs.BudgetError {
	var budget *certs.BudgetError
	if len(certs.Validations(err)) > 0 || !errors.As(err, &budget) {
		return nil
	}
	return budget
}

var errNotConfigured = errors.New("it is not configured")

// needsClock reports whether a plan rests on the clock's being right: an order where there is a version already, or the
// first question to a CA. It does as well when the certificate or its state come from the future, which is what a machine
// that is behind sees while nothing seems to be due.
func (r *record) needsClock(p plan.Plan) bool {
	return plan.Newest(r.Lineage) != nil && (p.Obtain || p.Publish || p.AskARI || p.Reason == plan.ReasonClock || r.doubted)
}
