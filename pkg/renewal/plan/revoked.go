package plan

import (
	"fmt"
	"maps"
	"slices"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/store"
)

// IsRevoked reports whether an operator revoked the active version, and how. The CA may still have to be asked.
func IsRevoked(have *store.Lineage) (store.Revocation, bool) {
	rev, revoked := have.State.Revoked[have.Version]
	return rev, revoked && have.Version != ""
}

// revoked makes a certificate due whose active version was revoked, unless the operator wants no replacement.
func revoked(in *input) (verdict, bool) {
	rev, yes := IsRevoked(in.have)
	return verdict{ReasonRevoked, "the active version was revoked"}, yes && !rev.Keep
}

// addRevocations adds the versions that the CA has yet to revoke. They come last: clients see a replacement first.
func addRevocations(in *input, p Plan) Plan {
	for _, id := range slices.Sorted(maps.Keys(in.have.State.Revoked)) {
		switch rev := in.have.State.Revoked[id]; {
		case !rev.DoneAt.IsZero():
		case in.now.Before(rev.RetryAt) && !in.opts.Again:
			p.Next = clock.Earlier(p.Next, rev.RetryAt)
		default:
			p.Revoke = append(p.Revoke, id)
		}
	}
	if len(p.Revoke) > 0 && p.Reason == ReasonNothing {
		p.Reason, p.Message = ReasonRevoke, fmt.Sprintf("the CA has not revoked version %s yet", p.Revoke[0])
	}
	return p
}
