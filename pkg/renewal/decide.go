package renewal

import (
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

const day = 24 * time.Hour

// DefaultRenewBefore is how much validity may remain before a certificate with a lifetime of 90 days or more is renewed.
const DefaultRenewBefore = 30 * day

const (
	// issueLimit and issueWindow keep a CA that always answers "renew now" from being asked for ever: one renewal and
	// one mistake a day are plausible, a third issuance is a loop. Public CAs allow 5 duplicates a week.
	issueLimit  = 2
	issueWindow = day

	// verifyEvery is how often a target that serves the right certificate is looked at again.
	verifyEvery = day

	// longestWait is more than the longest wait that is ever stored: a day, its jitter, or a CA's Retry-After.
	longestWait = 2 * day

	// clockSlack is how far in the future notBefore may lie before the clock is called wrong.
	clockSlack = time.Hour

	// ARIEvery is how often a CA is asked for its renewal window when it does not say itself (RFC 9773 section 4.3).
	ARIEvery = 12 * time.Hour
)

// input is everything a check may look at.
type input struct {
	now  time.Time
	want *certs.Spec
	have *store.Lineage
	opts Options
}

// life returns when the active certificate ends and how long it is valid in all.
func (in *input) life() (notAfter time.Time, lifetime time.Duration) {
	leaf := in.have.Current.Leaf
	return leaf.NotAfter, Lifetime(leaf.NotBefore, leaf.NotAfter)
}

// impatient reports whether an operator wants to see a target tried now.
func (in *input) impatient(t store.Installed) bool {
	return in.opts.Force || in.opts.Retry && t.LastError != ""
}

// verdict is the answer of one check that applies.
type verdict struct {
	reason  Reason
	message string
}

// Decide compares what is wanted with what is there. It is pure: no clock, disk or network. Applying its plan and
// deciding again, without options, ends in a plan that asks for nothing. Force skips "not due" and acmed's own backoff,
// never the CA's Retry-After, which the issuer keeps; Retry skips the backoff of targets.
func Decide(now time.Time, want certs.Spec, have *store.Lineage, opts Options) Plan {
	in := &input{now: now, want: &want, have: have, opts: opts}
	if p, ok := stored(in); ok {
		return p
	}
	if v, ok := clockWrong(in); ok {
		return deliver(in, Plan{Reason: v.reason, Message: v.message, Next: have.Current.Leaf.NotBefore})
	}
	due, isDue := orderDue(in)
	if !isDue {
		return deliver(in, notDue(in))
	}
	if !opts.Force {
		if wait, ok := mustWait(in, due); ok {
			return deliver(in, wait)
		}
	}
	return Plan{Reason: due.reason, Message: due.message, Obtain: true, Next: now}
}

// orderDue runs the checks that can call for a new version; the first that applies gives the reason.
func orderDue(in *input) (verdict, bool) {
	checks := []func(*input) (verdict, bool){
		neverIssued, damaged, compromised, namesChanged, issuerChanged, keyTypeChanged, profileChanged,
		ariReached, lastTenth, renewBeforeReached, requested, forced,
	}
	for _, check := range checks {
		if v, ok := check(in); ok {
			return v, true
		}
	}
	return verdict{}, false
}

func clockWrong(in *input) (verdict, bool) {
	if in.have.Current == nil || in.opts.Force {
		return verdict{}, false
	}
	notBefore := in.have.Current.Leaf.NotBefore
	if !notBefore.After(in.now.Add(clockSlack)) {
		return verdict{}, false
	}
	return verdict{ReasonClock, fmt.Sprintf("the active certificate is not valid before %s: this machine's clock is probably wrong, so nothing is ordered",
		notBefore.UTC().Format(time.RFC3339))}, true
}

func neverIssued(in *input) (verdict, bool) {
	v := newest(in.have)
	return verdict{ReasonNeverIssued, "there is no certificate yet"},
		in.have.Current == nil && in.have.Damage == nil && (v == nil || ended(v, in.now))
}

func damaged(in *input) (verdict, bool) {
	if in.have.Damage == nil {
		return verdict{}, false
	}
	return verdict{ReasonDamaged, fmt.Sprintf("the active certificate cannot be used: %v", in.have.Damage)}, true
}

func namesChanged(in *input) (verdict, bool) {
	b := in.have.Current
	if b == nil || certs.SameNames(b.Leaf, in.want.Identifiers) {
		return verdict{}, false
	}
	return verdict{ReasonNames, "the names in the configuration differ from the certificate's"}, true
}

func issuerChanged(in *input) (verdict, bool) {
	b := in.have.Current
	if b == nil || b.Issuer == "" || slices.Contains(in.want.Issuers, b.Issuer) {
		return verdict{}, false
	}
	return verdict{ReasonIssuer, fmt.Sprintf("issuer %q is no longer listed", b.Issuer)}, true
}

func keyTypeChanged(in *input) (verdict, bool) {
	b := in.have.Current
	if b == nil || in.want.CSR != nil {
		return verdict{}, false
	}
	var have []certs.KeyType
	for _, leaf := range b.Leaves() {
		have = append(have, certs.KeyTypeOf(leaf.PublicKey))
	}
	if slices.Equal(have, in.want.KeyTypes) {
		return verdict{}, false
	}
	return verdict{ReasonKeyType, fmt.Sprintf("the key is %s, wanted is %s", have, in.want.KeyTypes)}, true
}

func profileChanged(in *input) (verdict, bool) {
	b := in.have.Current
	if b == nil || b.Profile == in.want.Profile {
		return verdict{}, false
	}
	return verdict{ReasonProfile, fmt.Sprintf("the profile is %q, wanted is %q", b.Profile, in.want.Profile)}, true
}

func ariReached(in *input) (verdict, bool) {
	at := ariTime(in)
	if at.IsZero() || in.now.Before(at) {
		return verdict{}, false
	}
	return verdict{ReasonARI, "the CA asks for renewal" + explained(in.have.State.ARI.URL)}, true
}

// ariTime is the moment drawn in the CA's window for the active leaf; a window for an earlier leaf means nothing.
func ariTime(in *input) time.Time {
	if in.have.Current == nil || in.have.State.RenewFor != certs.Fingerprint(in.have.Current.Leaf) {
		return time.Time{}
	}
	return in.have.State.RenewAt
}

func explained(url string) string {
	if url == "" {
		return ""
	}
	return fmt.Sprintf(", see %q", url)
}

func lastTenth(in *input) (verdict, bool) {
	if in.have.Current == nil {
		return verdict{}, false
	}
	notAfter, life := in.life()
	if in.now.Before(notAfter.Add(-life / 10)) {
		return verdict{}, false
	}
	return verdict{ReasonLastTenth, remaining(in.now, notAfter)}, true
}

func renewBeforeReached(in *input) (verdict, bool) {
	if in.have.Current == nil || in.now.Before(ruleTime(in)) {
		return verdict{}, false
	}
	notAfter, _ := in.life()
	return verdict{ReasonRenewBefore, remaining(in.now, notAfter)}, true
}

func forced(in *input) (verdict, bool) {
	return verdict{ReasonForced, "renewal was asked for"}, in.opts.Force
}

func ruleTime(in *input) time.Time {
	notAfter, life := in.life()
	return notAfter.Add(-RenewBefore(life, in.want.RenewBefore))
}

// Lifetime is the time for which a certificate is valid, both ends included (RFC 5280 section 4.1.2.5): one that a CA
// calls a 90-day certificate has 90 days here, not a second less.
func Lifetime(notBefore, notAfter time.Time) time.Duration {
	return notAfter.Sub(notBefore) + time.Second
}

// RenewBefore is how much validity may remain before a certificate with this lifetime is renewed: what was asked for,
// at most two thirds of the lifetime; else 30 days, a third of the lifetime below 90 days, half of it below 10 days.
func RenewBefore(lifetime, asked time.Duration) time.Duration {
	switch {
	case asked > 0:
		return min(asked, lifetime*2/3)
	case lifetime < 10*day:
		return lifetime / 2
	case lifetime < 90*day:
		return lifetime / 3
	}
	return DefaultRenewBefore
}

func remaining(now, notAfter time.Time) string {
	left := notAfter.Sub(now)
	switch {
	case left <= 0:
		return fmt.Sprintf("the certificate expired on %s", notAfter.UTC().Format(time.RFC3339))
	case left < 2*day:
		return fmt.Sprintf("%s of validity remain", left.Round(time.Minute))
	}
	return fmt.Sprintf("%d days of validity remain", left/day)
}

// mustWait says why something that is due is not done now.
func mustWait(in *input, due verdict) (Plan, bool) {
	st := &in.have.State
	if in.opts.doubt != "" && newest(in.have) != nil { // what is missing is missing at any time
		return Plan{Reason: ReasonClock, Message: due.message + ", but " + in.opts.doubt, Next: in.now.Add(clockLook)}, true
	}
	// A time further away than the schedule ever goes was not written by this clock.
	if in.now.Before(st.RetryAt) && st.RetryAt.Before(in.now.Add(longestWait)) {
		return Plan{
			Reason:  ReasonBackoff,
			Message: fmt.Sprintf("%s; try %d failed: %s", due.message, st.Failures, st.LastError),
			Next:    st.RetryAt,
		}, true
	}
	recent := issuedLately(st, in.now)
	if len(recent) < issueLimit || due.reason == ReasonCompromised { // which ends with one more, and an operator asked for it
		return waitForWindow(in, due)
	}
	return Plan{
		Reason:  ReasonIssueLimit,
		Message: fmt.Sprintf("%s, but it was issued %d times within 24 hours; --force overrides", due.message, len(recent)),
		Next:    issueAgain(recent),
	}, true
}

// issuedLately are the issuances that count. One in the future was not written by this clock.
func issuedLately(st *store.State, now time.Time) []time.Time {
	return slices.DeleteFunc(since(st.Issued, now.Add(-issueWindow)), func(at time.Time) bool { return at.After(now) })
}

// issueAgain is when the first of the issuances that count does so no more.
func issueAgain(recent []time.Time) time.Time {
	return slices.MinFunc(recent, time.Time.Compare).Add(issueWindow)
}

func notDue(in *input) Plan {
	next := ruleTime(in)
	for _, at := range []time.Time{ariTime(in), in.have.State.Requested} {
		if !at.IsZero() {
			next = earliest(next, at)
		}
	}
	p := Plan{Reason: ReasonNothing, Message: "renews on " + next.UTC().Format(time.DateOnly), Next: next}
	ari := &in.have.State.ARI
	p.AskARI = !in.now.Before(ari.CheckAt) || ari.For != certs.Fingerprint(in.have.Current.Leaf)
	if !p.AskARI {
		p.Next = earliest(p.Next, ari.CheckAt)
	}
	return p
}

// deliver adds what has to happen at the targets of the active version.
func deliver(in *input, p Plan) Plan {
	if in.have.Current == nil {
		return p
	}
	fingerprint := in.have.Current.Fingerprint()
	for _, target := range in.want.Targets {
		t := in.have.State.Installed[target]
		again := t.RetryAt
		if t.Fingerprint == fingerprint {
			again = later(t.VerifiedAt.Add(verifyEvery), t.RetryAt)
		}
		switch {
		case t.Off:
		case in.now.Before(again) && !in.impatient(t):
			p.Next = earliest(p.Next, again)
		case t.Fingerprint != fingerprint:
			p.Install = append(p.Install, target)
		default:
			p.Verify = append(p.Verify, target)
		}
	}
	hook(in, &p)
	if p.Reason != ReasonNothing {
		return p
	}
	switch {
	case len(p.Install) > 0:
		p.Reason, p.Message = ReasonNotInstalled, fmt.Sprintf("not installed at %s", p.Install)
	case len(p.Verify) > 0:
		p.Reason, p.Message = ReasonDrift, fmt.Sprintf("daily check of %s", p.Verify)
	case p.Hook:
		p.Reason, p.Message = ReasonHook, "the hook after the new certificate is due"
	}
	return p
}

// hook adds the hook after a new version, once all targets serve it.
func hook(in *input, p *Plan) {
	h, fingerprint := in.have.State.Hook, in.have.Current.Fingerprint()
	if h == nil || h.For != fingerprint {
		return
	}
	for _, target := range in.want.Targets {
		if t := in.have.State.Installed[target]; t.Fingerprint != fingerprint && !t.Off {
			return
		}
	}
	if in.now.Before(h.RetryAt) && !in.opts.Force && !in.opts.Retry {
		p.Next = earliest(p.Next, h.RetryAt)
		return
	}
	p.Hook = true
}

func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
