// Package plan decides what one certificate needs now. It knows no disk, clock, log or network: a plan is a function of
// the time, of what is wanted and of what is stored, so a restart changes nothing.
//
// Every duration in it suits certificates of months and shrinks with the lifetime, so that certificates of minutes are
// renewed like all others.
package plan

import (
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// Plan is what one certificate needs now. The engine carries it out from top to bottom.
type Plan struct {
	Reason   Reason
	Message  string    // one line for people
	Adopt    bool      // take the version that the fleet has, then decide again
	Publish  bool      // give the fleet the version that is here, then decide again
	AskARI   bool      // fetch the CA's renewal window first, then decide again
	Obtain   bool      // order a new version; the fields below are decided again afterwards
	Activate string    // version to make live, "" for none
	Install  []string  // IDs of targets to install
	Verify   []string  // IDs of targets to check on the wire without installing
	Hook     bool      // run the hook after a new version
	Revoke   []string  // IDs of versions that the CA has yet to revoke
	Remind   int       // tell the operator again what waits: days left of the active version, 0 for not now
	Next     time.Time // when to decide again, if nothing happens before
}

// Idle reports whether the plan asks for nothing at all.
func (p *Plan) Idle() bool {
	return !p.Adopt && !p.Publish && !p.AskARI && !p.Obtain && p.Activate == "" && len(p.Install) == 0 && len(p.Verify) == 0 && !p.Hook && p.Remind == 0 && len(p.Revoke) == 0
}

// Options changes one decision.
type Options struct {
	Force bool // renew although it is not due, and do not wait for our own backoff
	Retry bool // install and verify now, whenever that was done last; costs the CA nothing
	Again bool // repeat hooks and revocations that failed a moment ago
	Clock Suspicion
	Fleet *Fleet // what the other nodes know; nil on a single machine
}

// Suspicion says why the machine's clock is not believed; the zero Suspicion believes it.
type Suspicion struct {
	Reason string        // for people; "": the clock is believed
	Ahead  time.Duration // how far the clock is ahead of the time that is believed instead
}

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

// verdict is the answer of one check that applies.
type verdict struct {
	reason  Reason
	message string
}

// Decide compares what is wanted with what is there, whose state must have been [store.State.Believe]d. It is pure.
// Applying its plan and deciding again, without options, ends in a plan that asks for nothing. Force skips "not due" and
// acmed's own backoff, never the CA's Retry-After, which the issuer keeps; Retry skips the backoff of targets.
func Decide(now time.Time, want *certs.Spec, have *store.Lineage, opts Options) Plan {
	in := &input{now: now, want: want, have: have, opts: opts}
	return addRevocations(in, decide(in))
}

func decide(in *input) Plan {
	for _, rule := range []func(*input) (Plan, bool){adopt, publish, follow, stored} {
		if p, ok := rule(in); ok {
			return p
		}
	}
	if v, ok := clockWrong(in); ok {
		return addTargets(in, Plan{Reason: v.reason, Message: v.message, Next: in.have.Current.Leaf.NotBefore})
	}
	due, isDue := orderDue(in)
	if !isDue {
		due, isDue = resumed(in)
	}
	if !isDue {
		return addTargets(in, notDue(in))
	}
	if wait, ok := mustWait(in, due); ok {
		return addTargets(in, wait)
	}
	return Plan{Reason: due.reason, Message: due.message, Obtain: true, Next: in.now}
}

// mustWait says why something that is due is not done now.
func mustWait(in *input, due verdict) (Plan, bool) {
	if p, ok := waitForFleet(in, due); ok {
		return p, true
	}
	st := &in.have.State
	switch {
	case in.opts.Force:
		return Plan{}, false
	case in.opts.Clock.Reason != "" && Newest(in.have) != nil && !in.surelyLate(): // what is missing is missing at any time
		return Plan{Reason: ReasonClock, Message: due.message + ", but " + in.opts.Clock.Reason, Next: in.nextClockCheck()}, true
	case in.now.Before(st.RetryAt):
		return Plan{
			Reason:  ReasonBackoff,
			Message: fmt.Sprintf("%s; try %d failed: %s", due.message, st.Failures, st.LastError),
			Next:    st.RetryAt,
		}, true
	}
	if until, limited := limitedUntil(in); limited && due.reason != ReasonCompromised && due.reason != ReasonRevoked { // which ends with one more, and an operator asked for it
		return Plan{
			Reason: ReasonIssueLimit, Next: until,
			Message: fmt.Sprintf("%s, but it was issued %s within %s; --force overrides", due.message,
				text.Count(len(Recent(in.have, in.now)), "time"), hours(issueWindow(in.have))),
		}, true
	}
	return waitForWindow(in, due)
}

func notDue(in *input) Plan {
	next := RuleTime(in.want, in.have)
	for _, at := range []time.Time{ARITime(in.have), in.have.State.Requested} {
		if !at.IsZero() {
			next = clock.Earlier(next, at)
		}
	}
	p := Plan{Reason: ReasonNothing, Message: "renews on " + next.UTC().Format(time.DateOnly), Next: next}
	if _, life := in.life(); life < 2*day {
		p.Message = "renews at " + next.UTC().Format(time.RFC3339)
	}
	ari := &in.have.State.ARI
	look := ari.CheckAt
	if ari.For != certs.Fingerprint(in.have.Current.Leaf) {
		look = in.now
	}
	look, ask := in.ariTurn(look)
	p.AskARI = ask && !in.now.Before(look)
	if ask && !p.AskARI {
		p.Next = clock.Earlier(p.Next, look)
	}
	return p
}
