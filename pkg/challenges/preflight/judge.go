package preflight

import (
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

// Judge concludes from the findings. Identities are the names by which the CA calls itself in CAA records (caaIdentities
// of its directory); without any, CAA is not judged.
func Judge(f *Findings, id certs.Identifier, identities []string) Verdict {
	v := Verdict{Class: Unprobed, Prefer: []challenges.Type{}}
	decisive := decisive(f.Addresses)
	for _, a := range decisive {
		v.Class = worse(v.Class, classify(a))
		if v.Proxy == "" {
			v.Proxy = a.HTTP.Proxy
		}
	}
	v.rank(decisive, id)
	v.problems(f, id)
	if len(identities) > 0 {
		v.applyCAA(f, identities, id)
	}
	return v
}

// decisive leaves out silent IPv6 addresses where there is an IPv4 address: CAs try IPv6 first and fall back to IPv4
// when the connection cannot be made.
func decisive(list []Address) []Address {
	four := func(a Address) bool { return a.Address.Is4() }
	if !slices.ContainsFunc(list, four) {
		return list
	}
	return slices.DeleteFunc(slices.Clone(list), func(a Address) bool { return !four(a) && classify(a) == Unreachable })
}

func classify(a Address) Class {
	h, t := a.HTTP.Outcome, a.TLS.Outcome
	switch {
	case h == Skipped && t == Skipped:
		return Unprobed
	case t == Ours:
		return Direct
	case h == Ours && (t == Other || a.HTTP.Proxy != ""):
		return HTTPPasses
	case h == Ours:
		return Direct
	case t == Other:
		return Terminated
	case h == Other:
		return Elsewhere
	}
	return Unreachable
}

func worse(a, b Class) Class {
	order := []Class{Unprobed, Direct, HTTPPasses, Terminated, Elsewhere, Unreachable}
	if slices.Index(order, a) > slices.Index(order, b) {
		return a
	}
	return b
}

// rank sorts the types into those that should work and those that should fail. A type works when it does at every
// address, because a CA picks one. What was not probed is in neither list.
func (v *Verdict) rank(list []Address, id certs.Identifier) {
	probes := []struct {
		t   challenges.Type
		got func(Address) Outcome
	}{
		{challenges.TLSALPN01, func(a Address) Outcome { return a.TLS.Outcome }},
		{challenges.HTTP01, func(a Address) Outcome { return a.HTTP.Outcome }},
	}
	for _, p := range probes {
		seen := slices.ContainsFunc(list, func(a Address) bool { return p.got(a) != Skipped })
		failed := slices.ContainsFunc(list, func(a Address) bool { return p.got(a) != Ours })
		switch {
		case !challenges.Can(p.t, id) || seen && failed:
			v.Avoid = append(v.Avoid, p.t)
		case seen:
			v.Prefer = append(v.Prefer, p.t)
		}
	}
	if challenges.Can(challenges.DNS01, id) {
		v.Prefer = append(v.Prefer, challenges.DNS01)
	}
}

func (v *Verdict) say(format string, args ...any) {
	v.Problems = append(v.Problems, fmt.Sprintf(format, args...))
}

func (v *Verdict) problems(f *Findings, id certs.Identifier) {
	switch {
	case f.DNS.Bogus:
		v.Blocked = true
		v.say("DNSSEC of %s is broken: the resolver answers only without validation, and CAs validate", id.Base())
	case f.DNS.Error != "":
		v.say("DNS of %s: %s", id.Base(), f.DNS.Error)
	}
	for _, l := range f.Local {
		v.say("%s is not available on this machine: %s", l.Type, l.Error)
	}
	for _, a := range f.Addresses {
		v.describe(a)
	}
	if len(v.Prefer) == 0 && len(f.Addresses) > 0 {
		v.say("no challenge type is expected to work")
	}
}

// describe tells what is wrong at one address.
func (v *Verdict) describe(a Address) {
	if why := a.HTTP.Trouble(); why != "" {
		v.say("http-01 at %s: %s", a.Address, why)
	}
	if why := a.TLS.Trouble(); why != "" {
		v.say("tls-alpn-01 at %s: %s", a.Address, why)
	}
}

func (o Outcome) good() bool { return o == Ours || o == Skipped }

// Trouble says what keeps http-01 from working at the address, "" if nothing does or it was not probed.
func (h *HTTP) Trouble() string {
	if h.Outcome.good() {
		return ""
	}
	return h.words()
}

// Trouble says what keeps tls-alpn-01 from working at the address, "" if nothing does or it was not probed.
func (t *TLS) Trouble() string {
	if t.Outcome.good() {
		return ""
	}
	return t.words()
}

func (h *HTTP) words() string {
	if h.Outcome.silent() {
		return h.Error
	}
	who := "another server"
	switch {
	case h.Proxy != "":
		who = h.Proxy
	case h.Server != "":
		who = "another server (" + h.Server + ")"
	}
	text := who + " answered"
	if h.Status != 0 {
		text += fmt.Sprintf(" with status %d", h.Status)
	}
	if len(h.Redirects) > 0 {
		text += " after a redirect to " + h.Redirects[len(h.Redirects)-1]
	}
	if h.Error != "" {
		text += ": " + h.Error
	}
	return text
}

func (t *TLS) words() string {
	if t.Outcome.silent() {
		return t.Error
	}
	text := "another TLS server answered"
	if len(t.Names) > 0 {
		text += " with a certificate for " + strings.Join(t.Names, ", ")
	}
	if t.Error != "" {
		text += ": " + t.Error
	}
	return text
}

func (v *Verdict) applyCAA(f *Findings, identities []string, id certs.Identifier) {
	policy := judgeCAA(f.DNS.CAA, identities, id.IsWildcard())
	if !policy.allowed {
		v.Blocked = true
		v.say("the CAA records of %s do not allow this CA (%s)", f.DNS.Zone, strings.Join(identities, ", "))
		return
	}
	if v.Methods = policy.methods; v.Methods == nil {
		return
	}
	for _, t := range []challenges.Type{challenges.TLSALPN01, challenges.HTTP01, challenges.DNS01} {
		if slices.Contains(policy.methods, t) || slices.Contains(v.Avoid, t) {
			continue
		}
		v.Avoid = append(v.Avoid, t)
		v.Prefer = slices.DeleteFunc(v.Prefer, func(p challenges.Type) bool { return p == t })
		v.say("the CAA records of %s do not allow %s", f.DNS.Zone, t)
	}
}
