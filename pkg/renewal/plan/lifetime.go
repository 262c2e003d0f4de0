package plan

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

const day = 24 * time.Hour

// DefaultRenewBefore is how much validity may remain before a certificate with a lifetime of 90 days or more is renewed.
const DefaultRenewBefore = 30 * day

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

// Before is [RenewBefore] of one certificate.
func Before(want *certs.Spec, leaf *x509.Certificate) time.Duration {
	return RenewBefore(Lifetime(leaf.NotBefore, leaf.NotAfter), want.RenewBefore)
}

// RuleTime is when so little of the active certificate's lifetime remains that it is renewed.
func RuleTime(want *certs.Spec, have *store.Lineage) time.Time {
	leaf := have.Current.Leaf
	return leaf.NotAfter.Add(-Before(want, leaf))
}

// ARITime is the moment drawn in the CA's window for the active leaf; a window for an earlier leaf means nothing.
func ARITime(have *store.Lineage) time.Time {
	if have.Current == nil || have.State.RenewFor != certs.Fingerprint(have.Current.Leaf) {
		return time.Time{}
	}
	return have.State.RenewAt
}

// NearExpiry reports whether two thirds of the renewal time are gone.
func NearExpiry(now time.Time, want *certs.Spec, leaf *x509.Certificate) bool {
	return leaf.NotAfter.Sub(now) <= Before(want, leaf)/3
}

// FailoverAfter is how long a CA may stay away before the next one in line is asked. A day covers every outage that
// public CAs have had; a switch changes the chain, which some clients notice, so it is not done lightly.
func FailoverAfter(have *store.Lineage) time.Duration { return share(day, lifetimeOf(have), 8) }

// ARIEvery is how often a CA is asked for the renewal window of a certificate when it does not say itself (RFC 9773
// section 4.3).
func ARIEvery(lifetime time.Duration) time.Duration {
	return max(share(12*time.Hour, lifetime, 8), time.Minute)
}

// share is a duration that suits long lives, and at most one part of the lifetime for short ones. A lifetime of 0 is
// unknown.
func share(most, lifetime, parts time.Duration) time.Duration {
	if lifetime <= 0 {
		return most
	}
	return min(most, lifetime/parts)
}

// lifetimeOf is the lifetime of the active certificate; 0 without one.
func lifetimeOf(have *store.Lineage) time.Duration {
	if have.Current == nil {
		return 0
	}
	return Lifetime(have.Current.Leaf.NotBefore, have.Current.Leaf.NotAfter)
}

// verifyEvery is how often a target that serves the right certificate is looked at again: another tool may overwrite its
// configuration at any time.
func verifyEvery(lifetime time.Duration) time.Duration { return share(time.Hour, lifetime, 2) }

// ClockCheck is how often a doubted clock is compared with the CAs'.
const ClockCheck = 10 * time.Minute

// nextClockCheck is when to decide again while the clock is doubted: in the last tenth nothing may delay any more.
func (in *input) nextClockCheck() time.Time {
	next := in.now.Add(ClockCheck)
	if in.have.Current == nil {
		return next
	}
	end, life := in.life()
	if tenth := end.Add(-life / 10).Add(in.opts.Clock.Ahead); tenth.After(in.now) {
		next = clock.Earlier(next, tenth)
	}
	return next
}

// surelyLate reports whether the last tenth has begun whatever the right time is: by the time that is believed instead of
// the clock's, or by the clock when the two differ by little, measured by the lifetime.
func (in *input) surelyLate() bool {
	if in.have.Current == nil {
		return false
	}
	end, life := in.life()
	tenth, ahead := end.Add(-life/10), in.opts.Clock.Ahead
	return !in.now.Add(-ahead).Before(tenth) || ahead.Abs() <= life/4 && !in.now.Before(tenth)
}

// Remaining says how much validity is left, for people.
func Remaining(now, notAfter time.Time) string {
	left := notAfter.Sub(now)
	switch {
	case left <= 0:
		return fmt.Sprintf("the certificate expired on %s", notAfter.UTC().Format(time.RFC3339))
	case left < time.Hour:
		return fmt.Sprintf("%s of validity remain", left.Round(time.Second))
	case left < 2*day:
		return fmt.Sprintf("%s of validity remain", left.Round(time.Minute))
	}
	return text.Count(left/day, "day") + " of validity remain"
}

// hours says how long a window is, for people.
func hours(d time.Duration) string {
	if d%time.Hour == 0 {
		return text.Count(d/time.Hour, "hour")
	}
	return d.Round(time.Second).String()
}
