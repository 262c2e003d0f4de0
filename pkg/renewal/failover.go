package renewal

import (
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// failoverAfter is how long a CA may stay away before the next one in line is asked. A day covers every outage that
// public CAs have had; a switch changes the chain, which some clients notice, so it is not done lightly.
const failoverAfter = day

// failover reports whether the next issuer shall be asked after err. It remembers in the state since when the issuer is
// away. Only a CA that is unavailable is left; a name's own failure would fail everywhere. With the last third of the
// renewal time gone, or without any certificate to serve, there is nothing to wait for. A limit on this account passes by
// itself and says nothing about the CA, so it is waited out even without a certificate: mass issuance spreads over time
// and not over CAs. It is left only near expiry.
func failover(now time.Time, want *certs.Spec, have *store.Lineage, issuer string, err error) bool {
	st := &have.State
	switch {
	case unavailable(err):
	case limited(err):
		return have.Current != nil && nearExpiry(now, want, have.Current)
	default:
		delete(st.Down, issuer)
		return false
	}
	since, known := st.Down[issuer]
	if !known {
		if st.Down == nil {
			st.Down = map[string]time.Time{}
		}
		since = now
		st.Down[issuer] = now
	}
	return have.Current == nil || now.Sub(since) >= failoverAfter || nearExpiry(now, want, have.Current)
}

// nearExpiry reports whether two thirds of the renewal time are gone.
func nearExpiry(now time.Time, want *certs.Spec, current *certs.Bundle) bool {
	leaf := current.Leaf
	before := RenewBefore(Lifetime(leaf.NotBefore, leaf.NotAfter), want.RenewBefore)
	return leaf.NotAfter.Sub(now) <= before/3
}

func unavailable(err error) bool {
	var down *certs.UnavailableError
	var limit *certs.RateLimitError
	return errors.As(err, &down) || errors.As(err, &limit) && limit.Unavailable
}

func limited(err error) bool {
	var limit *certs.RateLimitError
	return errors.As(err, &limit)
}
