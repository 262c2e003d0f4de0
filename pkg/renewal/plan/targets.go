package plan

import (
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/store"
)

// addTargets adds what has to happen at the targets of the active version, and then the hook. While the clock is doubted
// only what is missing is done: no time says when a target was looked at last.
func addTargets(in *input, p Plan) Plan {
	if in.have.Current == nil {
		return p
	}
	fingerprint := in.have.Current.Fingerprint()
	for _, target := range in.want.Targets {
		t := in.have.State.Installed[target]
		again, served := in.targetAgain(t, fingerprint)
		switch {
		case t.Off, served && in.opts.Clock.Reason != "":
		case in.now.Before(again) && !in.impatient():
			p.Next = clock.Earlier(p.Next, again)
		case !served:
			p.Install = append(p.Install, target)
		default:
			p.Verify = append(p.Verify, target)
		}
	}
	addHook(in, &p)
	switch {
	case p.Reason != ReasonNothing:
	case len(p.Install) > 0:
		p.Reason, p.Message = ReasonNotInstalled, fmt.Sprintf("not installed at %s", p.Install)
	case len(p.Verify) > 0:
		p.Reason, p.Message = ReasonDrift, fmt.Sprintf("verification of %s is due", p.Verify)
	case p.Hook:
		p.Reason, p.Message = ReasonHook, "the hook after the new certificate is due"
	}
	return p
}

// targetAgain is when a target is installed or looked at, and whether it serves the active version as far as is known.
func (in *input) targetAgain(t store.Installed, fingerprint string) (at time.Time, served bool) {
	if t.Fingerprint != fingerprint {
		return t.RetryAt, false
	}
	return clock.Later(t.VerifiedAt.Add(verifyEvery(lifetimeOf(in.have))), t.RetryAt), true
}

// impatient reports whether an operator wants to see targets tried now.
func (in *input) impatient() bool {
	return in.opts.Force || in.opts.Retry
}

// addHook adds the hook after a new version, once all targets serve it.
func addHook(in *input, p *Plan) {
	h, fingerprint := in.have.State.Hook, in.have.Current.Fingerprint()
	if h == nil || h.For != fingerprint {
		return
	}
	for _, target := range in.want.Targets {
		if t := in.have.State.Installed[target]; t.Fingerprint != fingerprint && !t.Off {
			return
		}
	}
	if in.now.Before(h.RetryAt) && !in.opts.Force && !in.opts.Again {
		p.Next = clock.Earlier(p.Next, h.RetryAt)
		return
	}
	p.Hook = true
}
