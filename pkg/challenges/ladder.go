package challenges

import (
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// Rung is one configured solver.
type Rung struct {
	Name   string // configured name, for example "http-01" or "cloudflare"
	Solver Solver
	Zones  []string // the only DNS zones the solver is for, in lower case; empty: any name
}

// Ladder lists the solvers of a certificate in order of preference.
type Ladder []Rung

// Pick chooses the solver for one identifier: the hint (the name of the solver that worked last time) if it is still
// fit, else the first that is. A rung is fit when the CA offers its type, the identifier can be validated that way, its
// zones cover the identifier, and its name is not in tried. False means that the ladder has nothing left for it.
func (l Ladder) Pick(id certs.Identifier, offered []Type, tried map[string]bool, hint string) (Rung, bool) {
	fit := func(r Rung) bool {
		t := r.Solver.Type()
		return !tried[r.Name] && slices.Contains(offered, t) && Can(t, id) && r.covers(id)
	}
	if i := slices.IndexFunc(l, func(r Rung) bool { return r.Name == hint && fit(r) }); i >= 0 {
		return l[i], true
	}
	if i := slices.IndexFunc(l, fit); i >= 0 {
		return l[i], true
	}
	return Rung{}, false
}

// Demote moves the rungs with the given names behind all others. The operator's order is kept otherwise, and nothing is
// left out, because what a preflight sees from here is advice: a CA may see something else.
func (l Ladder) Demote(names map[string]bool) Ladder {
	demoted := func(r Rung) bool { return names[r.Name] }
	sorted := slices.DeleteFunc(slices.Clone(l), demoted)
	for _, r := range l {
		if demoted(r) {
			sorted = append(sorted, r)
		}
	}
	return sorted
}

// For keeps the rungs that are fit for an identifier, whatever the CA offers.
func (l Ladder) For(id certs.Identifier) Ladder {
	return slices.DeleteFunc(slices.Clone(l), func(r Rung) bool { return !r.Fits(id) })
}

// Can reports whether an identifier may be validated by a challenge type at all: wildcards in the DNS only (RFC 8555
// section 7.1.3 leaves it to the CA, the Baseline Requirements do not), IP addresses by anything else (RFC 8738
// section 7).
func Can(t Type, id certs.Identifier) bool {
	switch {
	case id.Type == certs.IP:
		return !t.DNS()
	case id.IsWildcard():
		return t.DNS()
	}
	return true
}

// Fits reports whether a rung is for an identifier, whatever the CA offers.
func (r Rung) Fits(id certs.Identifier) bool { return Can(r.Solver.Type(), id) && r.covers(id) }

func (r Rung) covers(id certs.Identifier) bool {
	if len(r.Zones) == 0 {
		return true
	}
	return id.Type == certs.DNS && slices.ContainsFunc(r.Zones, func(zone string) bool {
		zone = strings.TrimSuffix(zone, ".")
		return id.Base() == zone || strings.HasSuffix(id.Base(), "."+zone)
	})
}
