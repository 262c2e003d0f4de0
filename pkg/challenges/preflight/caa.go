package preflight

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

// CheckCAA looks up the CAA records of every DNS name and says which of the CAs, given by their names and CAA identities,
// they forbid: one sentence for each CA and name, in the order of the names. CAs without identities cannot be judged. A
// name that cannot be looked up is left out; the CA would say so itself.
func CheckCAA(ctx context.Context, resolver string, timeout time.Duration, ids []certs.Identifier, cas map[string][]string) []string {
	res := newResolver(resolver, timeout)
	found := make([][]string, len(ids))
	var group guard.Group
	group.SetLimit(caaAtOnce)
	for i, id := range ids {
		if id.Type != certs.DNS {
			continue
		}
		group.Go(func() {
			records, zone, err := res.caa(ctx, id.Base())
			if err == nil {
				found[i] = forbidden(records, zone, id, cas)
			}
		})
	}
	group.Wait()
	return slices.Concat(found...)
}

// caaAtOnce is how many names are looked up at a time, so that a certificate with 100 names is no burst.
const caaAtOnce = 8

func forbidden(records []CAARecord, zone string, id certs.Identifier, cas map[string][]string) []string {
	var list []string
	for _, ca := range slices.Sorted(maps.Keys(cas)) {
		identities := cas[ca]
		if len(identities) > 0 && !judgeCAA(records, identities, id.IsWildcard()).allowed {
			list = append(list, fmt.Sprintf("the CAA records of %s forbid %s to issue for %s; add: %s. CAA 0 issue \"%s\"", zone, ca, id, zone, identities[0]))
		}
	}
	return list
}

// caaPolicy is what a set of CAA records means for one CA.
type caaPolicy struct {
	allowed bool
	methods []challenges.Type // nil: any
}

// judgeCAA applies RFC 8659 section 4 and the validationmethods parameter of RFC 8657. The CA is known by any of its
// identities.
func judgeCAA(records []CAARecord, identities []string, wildcard bool) caaPolicy {
	known := []string{"issue", "issuewild", "iodef", "issuemail", "contactemail", "contactphone"}
	tag := "issue"
	for _, r := range records {
		if r.Critical && !slices.Contains(known, strings.ToLower(r.Tag)) {
			return caaPolicy{}
		}
		if wildcard && strings.EqualFold(r.Tag, "issuewild") {
			tag = "issuewild"
		}
	}
	policy := caaPolicy{allowed: true}
	restricted := false
	for _, r := range records {
		if !strings.EqualFold(r.Tag, tag) {
			continue
		}
		if !restricted {
			restricted, policy = true, caaPolicy{}
		}
		issuer, parameters, _ := strings.Cut(r.Value, ";")
		if !slices.ContainsFunc(identities, func(id string) bool { return strings.EqualFold(id, strings.TrimSpace(issuer)) }) {
			continue
		}
		policy.add(validationMethods(parameters))
	}
	return policy
}

// add joins what a further record allows.
func (p *caaPolicy) add(methods []challenges.Type) {
	switch {
	case !p.allowed:
		p.methods = methods
	case p.methods == nil || methods == nil:
		p.methods = nil
	default:
		p.methods = append(p.methods, methods...)
	}
	p.allowed = true
}

func validationMethods(parameters string) []challenges.Type {
	for parameter := range strings.SplitSeq(parameters, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(parameter), "=")
		if !strings.EqualFold(strings.TrimSpace(name), "validationmethods") {
			continue
		}
		methods := []challenges.Type{}
		for m := range strings.SplitSeq(value, ",") {
			methods = append(methods, challenges.Type(strings.TrimSpace(m)))
		}
		return methods
	}
	return nil
}
