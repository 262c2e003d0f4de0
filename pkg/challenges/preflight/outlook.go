package preflight

import (
	"context"
	"fmt"
	"slices"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
)

// Outlook says what to expect of each rung of a ladder for one identifier.
type Outlook struct {
	Report *Report
	Works  map[string]bool // rungs that should work, by name
	Fails  map[string]bool // rungs that should fail; about those in neither set nothing is known
}

// Look probes one identifier with the rungs of a ladder that are fit for it. Where several rungs answer the same type of
// challenge, a later one is only probed after the earlier ones failed. The solvers in c are not used; when ctx ends, the
// outlook is what was found so far.
func Look(ctx context.Context, c Config, id certs.Identifier, ladder challenges.Ladder) *Outlook {
	ladder = ladder.For(id)
	o := &Outlook{Works: map[string]bool{}, Fails: map[string]bool{}}
	for {
		plain, secure := o.remaining(ladder, challenges.HTTP01), o.remaining(ladder, challenges.TLSALPN01)
		if o.Report != nil && plain == nil && secure == nil {
			return o
		}
		c.HTTP, c.TLSALPN = solverOf(plain), solverOf(secure)
		r := Run(ctx, c, id)
		if o.Report == nil {
			o.Report = r
			o.expect(ladder, challenges.DNS01, &r.Verdict)
			o.expect(ladder, challenges.DNSAccount01, &r.Verdict)
			o.readPersist(ctx, c, id, ladder)
		}
		if ctx.Err() != nil || len(r.Addresses) == 0 {
			return o
		}
		for _, rung := range []*challenges.Rung{plain, secure} {
			if rung != nil {
				o.expect(challenges.Ladder{*rung}, rung.Solver.Type(), &r.Verdict)
			}
		}
	}
}

// remaining is the next rung of a type to probe, nil when one works or all failed.
func (o *Outlook) remaining(ladder challenges.Ladder, t challenges.Type) *challenges.Rung {
	for i := range ladder {
		switch name := ladder[i].Name; {
		case ladder[i].Solver.Type() != t || o.Fails[name]:
		case o.Works[name]:
			return nil
		default:
			return &ladder[i]
		}
	}
	return nil
}

func solverOf(r *challenges.Rung) challenges.Solver {
	if r == nil {
		return nil
	}
	return r.Solver
}

// readPersist looks for the record of dns-persist-01 where a rung needs it.
func (o *Outlook) readPersist(ctx context.Context, c Config, id certs.Identifier, ladder challenges.Ladder) {
	v := &o.Report.Verdict
	for _, r := range ladder {
		s, ok := r.Solver.(*dnspersist01.Solver)
		if !ok {
			continue
		}
		o.Works[r.Name] = v.allows(challenges.DNSPersist01)
		if issuers := slices.Concat(c.PersistIssuers, c.CAAIdentities); c.AccountURI != "" && len(issuers) > 0 {
			found := s.Find(ctx, dnspersist01.Want{Identifier: id, Issuers: issuers, AccountURI: c.AccountURI})
			o.Report.Persist = &found
			o.Works[r.Name] = o.Works[r.Name] && len(found.Problems) == 0
			for _, p := range found.Problems {
				v.say("dns-persist-01: %s", p)
			}
		}
		o.Fails[r.Name] = !o.Works[r.Name]
	}
}

func (o *Outlook) expect(ladder challenges.Ladder, t challenges.Type, v *Verdict) {
	works := !v.Blocked && slices.Contains(v.Prefer, t)
	if t == challenges.DNSAccount01 { // which the CA asks for as for dns-01
		works = v.allows(t)
	}
	for _, r := range ladder {
		if r.Solver.Type() == t {
			o.Works[r.Name], o.Fails[r.Name] = works, !works
		}
	}
}

func (v *Verdict) allows(t challenges.Type) bool {
	return !v.Blocked && (v.Methods == nil || slices.Contains(v.Methods, t))
}

// Hopeless reports whether no rung is expected to prove the identifier.
func (o *Outlook) Hopeless() bool {
	for _, works := range o.Works {
		if works {
			return false
		}
	}
	return true
}

// Advice is the code of what stands in the way, "" if nothing does.
func (r *Report) Advice() advice.Code {
	switch {
	case r.DNS.Bogus:
		return advice.DNSSECBroken
	case r.Blocked:
		return advice.CAAForbids
	case r.DNS.Silent:
		return advice.ResolverSilent
	case len(r.Addresses) == 0 && r.DNS.Error != "":
		return advice.NameNotResolved
	case r.localAdvice() != "":
		return r.localAdvice()
	case r.Proxy != "":
		return advice.ProxyInFront
	case r.Class == HTTPPasses || r.Class == Terminated || r.Class == Elsewhere:
		return advice.WrongAnswer
	case r.Class == Unreachable:
		return advice.PortClosed
	}
	return ""
}

// localAdvice is the code of what is wrong with this machine.
func (r *Report) localAdvice() advice.Code {
	switch {
	case slices.ContainsFunc(r.Local, func(l Local) bool { return l.Taken }):
		return advice.PortTaken
	case slices.ContainsFunc(r.Local, func(l Local) bool { return l.Solver == "" && l.Path != "" }):
		return advice.WebrootUnusable
	}
	return ""
}

// Summary says in a few words why not every type of challenge works, "" if all that were probed do.
func (r *Report) Summary() string {
	front := "another server"
	if r.Proxy != "" {
		front = r.Proxy
	}
	switch {
	case r.DNS.Bogus:
		return "DNSSEC is broken"
	case r.Blocked:
		return "CAA records forbid this CA"
	case len(r.Addresses) == 0 && r.DNS.Error != "":
		return r.DNS.Error
	case len(r.Local) > 0:
		return r.Local[0].Error
	case r.Class == HTTPPasses || r.Class == Terminated:
		return fmt.Sprintf("TLS is terminated in front by %s", front)
	case r.Class == Elsewhere:
		return fmt.Sprintf("%s answers on port 80", front)
	case r.Class == Unreachable:
		return "nothing answers at its address"
	case len(r.Problems) > 0:
		return r.Problems[0]
	}
	return ""
}
