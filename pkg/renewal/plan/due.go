package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// orderDue runs the checks that can call for a new version; the first that applies gives the reason.
func orderDue(in *input) (verdict, bool) {
	checks := []func(*input) (verdict, bool){
		neverIssued, damaged, compromised, revoked, namesChanged, issuerChanged, keyTypeChanged, profileChanged,
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
	if in.have.Current == nil || in.opts.Force || in.opts.Clock.Reason != "" && in.surelyLate() {
		return verdict{}, false
	}
	notBefore := in.have.Current.Leaf.NotBefore
	if !notBefore.After(in.now.Add(clock.Slack)) {
		return verdict{}, false
	}
	return verdict{ReasonClock, fmt.Sprintf("the active certificate is not valid before %s: this machine's clock is probably wrong, so nothing is ordered",
		notBefore.UTC().Format(time.RFC3339))}, true
}

func neverIssued(in *input) (verdict, bool) {
	return verdict{ReasonNeverIssued, "there is no certificate yet"},
		in.have.Current == nil && in.have.Damage == nil && (in.next() == nil || Ended(in.next(), in.now))
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
	at := ARITime(in.have)
	if at.IsZero() || in.now.Before(at) {
		return verdict{}, false
	}
	return verdict{ReasonARI, "the CA asks for renewal" + explained(in.have.State.ARI.URL)}, true
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
	return verdict{ReasonLastTenth, Remaining(in.now, notAfter)}, true
}

func renewBeforeReached(in *input) (verdict, bool) {
	if in.have.Current == nil || in.now.Before(RuleTime(in.want, in.have)) {
		return verdict{}, false
	}
	notAfter, _ := in.life()
	return verdict{ReasonRenewBefore, Remaining(in.now, notAfter)}, true
}

func forced(in *input) (verdict, bool) {
	return verdict{ReasonForced, "renewal was asked for"}, in.opts.Force
}

// requested is a renewal that an operator asked for at a time of its own.
func requested(in *input) (verdict, bool) {
	at := in.have.State.Requested
	return verdict{ReasonForced, "renewal was asked for"}, !at.IsZero() && !in.now.Before(at)
}

// compromised makes a certificate due whose replacement could not be had at once.
func compromised(in *input) (verdict, bool) {
	return verdict{ReasonCompromised, "others may know the private key"}, IsCompromised(in.have)
}

// IsCompromised reports whether others may know the private key of the active version.
func IsCompromised(have *store.Lineage) bool {
	return have.Version != "" && slices.Contains(have.State.Compromised, have.Version)
}

// IsStale reports whether a stored certificate is not what the configuration asks for any more.
func IsStale(want *certs.Spec, b *certs.Bundle) bool {
	in := &input{want: want, have: &store.Lineage{Current: b}}
	for _, changed := range []func(*input) (verdict, bool){namesChanged, issuerChanged, keyTypeChanged, profileChanged} {
		if _, yes := changed(in); yes {
			return true
		}
	}
	return false
}
