package preflight

import (
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/challenges"
)

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
