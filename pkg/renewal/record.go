package renewal

import (
	"context"
	"crypto/x509"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

const (
	// ariAgain is when to ask for the window again after an answer that could not be used (RFC 9773 section 4.3.3).
	ariAgain = 6 * time.Hour
	// maxFailures keeps the counter readable; the schedule has long been daily by then.
	maxFailures = 100_000
	// errorText is the longest error kept in the state.
	errorText = 2000
)

// recordAttempt notes that a try begins. A try that never ended, because acmed was killed, is followed by one prompt
// further try and then by the ordinary schedule.
func (j *job) recordAttempt(st *store.State) error {
	st.Attempts++
	if st.Attempts > 1 {
		st.RetryAt = j.engine.clock().Add(Backoff(st.Attempts-1, 0, spread()))
	}
	return j.engine.store.SaveState(j.want.Name, st)
}

// recordOrderFailure stores why no certificate could be obtained and when to try again. The error becomes part of the
// result; only a failure to store it is returned.
func (j *job) recordOrderFailure(lineage *store.Lineage, err error) error {
	j.result.Err = errors.Join(j.result.Err, err)
	st, now := &lineage.State, j.engine.clock()
	st.Attempts = 0
	var refused *certs.VetError
	if errors.As(err, &refused) { // the CA issued it and counts it
		countIssued(st, now)
	}
	if j.engine.base.Err() != nil { // stopped, not failed
		st.RetryAt = time.Time{}
		return j.engine.store.SaveState(j.want.Name, st)
	}
	forgetInvalid(st, now)
	if budget := OverBudget(err); budget != nil && st.LastError != "" { // why it failed stays on record
		st.RetryAt = later(st.RetryAt, budget.At)
		return j.engine.store.SaveState(j.want.Name, st)
	}
	st.LastError, st.LastCode, st.LastErrorAt = shorten(err), advice.Of(err), now
	if st.FailingSince.IsZero() {
		st.FailingSince = now
	}
	st.RetryAt = j.retryAt(st, lineage.Current, err)
	j.event(notify.Event{Kind: notify.Failed, RetryAt: st.RetryAt, Message: "no new certificate could be obtained", Error: st.LastError, Code: st.LastCode})
	return j.engine.store.SaveState(j.want.Name, st)
}

func (j *job) retryAt(st *store.State, current *certs.Bundle, err error) time.Time {
	now := j.engine.clock()
	var limited *certs.RateLimitError
	if errors.As(err, &limited) && limited.At.After(now.Add(2*time.Minute)) { // sooner is the issuer's word for "did not say"
		return limited.At.Add(time.Duration(spread() * float64(time.Minute)))
	}
	st.Failures = min(st.Failures+1, maxFailures)
	var permanent *certs.PermanentError
	if errors.As(err, &permanent) { // only an operator can help, so the quick tries are skipped
		st.Failures = max(st.Failures, len(retryTable())+1)
	}
	again := now.Add(Backoff(st.Failures, left(current, now), spread()))
	var budget *certs.BudgetError
	if errors.As(err, &budget) {
		again = later(again, budget.At)
	}
	return again
}

func left(current *certs.Bundle, now time.Time) time.Duration {
	if current == nil {
		return 0
	}
	return current.Leaf.NotAfter.Sub(now)
}

// countIssued counts a certificate that the CA issued, whether it can be used or not.
func countIssued(st *store.State, now time.Time) {
	st.Issued = append(since(st.Issued, now.Add(-issueWindow)), now)
}

// recordIssued notes a new version. Its first question for a renewal window comes later, spread over half a day.
func (j *job) recordIssued(lineage *store.Lineage, b *certs.Bundle, version string, now time.Time) error {
	st := &lineage.State
	told := notify.Event{Kind: notify.Obtained, Version: version, NotAfter: b.Leaf.NotAfter, Message: "a new certificate was issued by " + b.Issuer}
	if !st.FailingSince.IsZero() {
		told.Kind, told.Recovers = notify.Recovered, notify.Failed
		told.Message += " after failures"
	}
	st.Attempts, st.Failures, st.LastError, st.LastCode = 0, 0, "", ""
	st.LastErrorAt, st.FailingSince, st.RetryAt = time.Time{}, time.Time{}, time.Time{}
	st.RenewAt, st.RenewFor, st.Requested = time.Time{}, "", time.Time{}
	if j.opts.NewKey {
		st.Held, st.Pinned = nil, ""
	}
	st.ARI = store.ARI{For: certs.Fingerprint(b.Leaf), CheckAt: now.Add(ARIEvery/2 + time.Duration(spread()*float64(ARIEvery/2)))}
	countIssued(st, now)
	st.Hook = nil
	if j.hooks.Post != nil {
		st.Hook = &store.Hook{For: b.Fingerprint()}
	}
	forgetInvalid(st, now)
	remember(st, b.Validations)
	j.event(told)
	return j.engine.store.SaveState(j.want.Name, st)
}

// recordWindow stores the CA's renewal window. The time in it is drawn once: drawing it at every look could put it off
// for ever.
func (j *job) recordWindow(lineage *store.Lineage, leaf *x509.Certificate, w certs.Window, err error) error {
	st, now, fingerprint := &lineage.State, j.engine.clock(), certs.Fingerprint(leaf)
	if err != nil {
		j.engine.log.Debug("no renewal window", zap.String("certificate", j.want.Name), zap.Error(err))
		st.ARI.For, st.ARI.CheckAt = fingerprint, now.Add(ariAgain)
		return j.engine.store.SaveState(j.want.Name, st)
	}
	again := w.RetryAfter
	if again <= 0 {
		again = ARIEvery
	}
	moved := !w.Start.Equal(st.ARI.Start) || !w.End.Equal(st.ARI.End)
	st.ARI = store.ARI{CheckAt: now.Add(again), For: fingerprint, Start: w.Start, End: w.End, URL: w.ExplanationURL}
	switch {
	case w.IsZero():
		st.RenewAt, st.RenewFor = time.Time{}, ""
	case moved || st.RenewFor != fingerprint:
		st.RenewAt = w.Start.Add(time.Duration(spread() * float64(w.End.Sub(w.Start))))
		st.RenewFor = fingerprint
	}
	return j.engine.store.SaveState(j.want.Name, st)
}

// recordFailure stores an internal error, so that a job that panics is not begun again at once.
func (j *job) recordFailure(err error) {
	lineage, loadErr := j.engine.store.Load(j.want.Name)
	if loadErr != nil {
		j.fail(loadErr)
		return
	}
	if saveErr := j.recordOrderFailure(lineage, err); saveErr != nil {
		j.fail(saveErr)
		return
	}
	j.result.Next = lineage.State.RetryAt
}

// event sends an event about this job's certificate. A notifier that fails is logged and otherwise ignored.
func (j *job) event(e notify.Event) {
	if j.set.Notifier == nil {
		return
	}
	e.Time, e.Certificate, e.Names = j.engine.clock(), j.want.Name, j.want.Names()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.engine.base), 30*time.Second)
	defer cancel()
	if err := j.set.Notifier.Notify(ctx, e); err != nil {
		j.engine.log.Warn("notification failed", zap.String("certificate", e.Certificate), zap.Error(err))
	}
}

// since keeps the times after cut.
func since(times []time.Time, cut time.Time) []time.Time {
	return slices.DeleteFunc(slices.Clone(times), func(t time.Time) bool { return !t.After(cut) })
}

func shorten(err error) string {
	text := strings.ToValidUTF8(err.Error(), "?")
	if len(text) > errorText {
		text = strings.ToValidUTF8(text[:errorText], "") + "…"
	}
	return text
}

// installed returns the record of one target, ready to be changed.
func installed(st *store.State, target string) store.Installed {
	st.Installed = maps.Clone(st.Installed)
	if st.Installed == nil {
		st.Installed = map[string]store.Installed{}
	}
	return st.Installed[target]
}
