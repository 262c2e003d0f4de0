package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

// The most names that CAs put into one certificate: 100 for all (Let's Encrypt, ZeroSSL, Google), 25 with Let's Encrypt's
// profiles tlsserver and shortlived.
const (
	maxNames        = 100
	maxProfileNames = 25
)

func (v *validator) certificate(path string, cert *Certificate) {
	v.check(path+".name", certs.CheckName(cert.Name))
	v.references(path+".issuers", "issuer", cert.Issuers, keys(v.issuers))
	v.references(path+".solvers", "solver", cert.Solvers, keys(v.solvers))
	v.names(path, cert)
	v.keyTypes(path+".key_type", cert.KeyType)
	v.text(path+".profile", cert.Profile)
	v.text(path+".preferred_chain", cert.PreferredChain)
	v.duration(path+".lifetime", cert.Lifetime)
	v.duration(path+".renew_before", cert.RenewBefore)
	v.window(path+".window", cert.Window)
	if cert.Lifetime > 0 && cert.RenewBefore >= cert.Lifetime {
		v.report(path+".renew_before", "%s is not less than the lifetime of %s, so the certificate would always be due", show(cert.RenewBefore), show(cert.Lifetime))
	}
	v.clients(path, cert)
	v.tlsa(path, cert)
	if cert.CSRFile != "" {
		v.ownCSR(path, cert)
	}
	v.installs(path, cert.Install)
	if cert.Hooks != nil {
		v.section(path+".hooks", cert.Hooks, cert.Hooks.Validate())
	}
}

func (v *validator) ownCSR(path string, cert *Certificate) {
	v.check(path+".csr_file", checkPath(cert.CSRFile))
	for _, f := range []struct {
		key string
		set bool
	}{{"key_type", len(cert.KeyType) > 0}, {"reuse_key", cert.ReuseKey}, {"next_key", cert.NextKey}, {"tlsa", cert.TLSA != nil}, {"must_staple", cert.MustStaple}} {
		if f.set {
			v.report(path+"."+f.key, "does not go together with csr_file, which decides about it")
		}
	}
}

func (v *validator) names(path string, cert *Certificate) {
	if n := len(cert.Names); n == 0 || n > maxNames {
		v.report(path+".names", "a certificate has 1 to %d names, this one has %s", maxNames, count(n))
	}
	ladder, complete := v.ladder(cert)
	var ids []certs.Identifier
	for i, name := range cert.Names[:min(len(cert.Names), maxProblems)] {
		at := fmt.Sprintf("%s.names[%d]", path, i)
		id, warnings, err := certs.ParseIdentifier(name)
		if err != nil {
			v.check(at, err)
			continue
		}
		for _, w := range warnings {
			v.warn(at, "%s", w)
		}
		if slices.Contains(ids, id) {
			v.warn(at, "%s is listed twice; it is ordered once", id)
			continue
		}
		ids = append(ids, id)
		v.issuable(at, id, cert)
		if complete {
			v.solvable(at, id, ladder)
		}
	}
	v.profile(path, cert, ids)
	v.redundant(path, cert, ids)
	v.ignored(path, cert)
}

// ladder returns the certificate's solvers; false means that one of them does not exist or has no type.
func (v *validator) ladder(cert *Certificate) (ladder []*Solver, complete bool) {
	for _, name := range v.c.solversOf(cert) {
		s, ok := v.solvers[name]
		if !ok || s.Type() == "" {
			return nil, false
		}
		ladder = append(ladder, s)
	}
	return ladder, true
}

// issuable checks that every issuer may certify the identifier: one that works only as long as the first CA does is a
// trap.
func (v *validator) issuable(path string, id certs.Identifier, cert *Certificate) {
	for _, name := range v.c.issuersOf(cert) {
		if is, ok := v.issuers[name]; ok && !is.Private {
			if err := certs.CheckPublic(id); err != nil {
				v.check(path, err)
				return
			}
		}
	}
}

// solvable checks that at least one solver can prove the identifier.
func (v *validator) solvable(path string, id certs.Identifier, ladder []*Solver) {
	names := make([]string, len(ladder))
	able := false
	for i, s := range ladder {
		names[i] = s.Name
		if challenges.Can(s.Type(), id) {
			if s.covers(id) {
				return
			}
			able = true
		}
	}
	list := strings.Join(names, ", ")
	switch {
	case able:
		v.report(path, "%s is in none of the zones of the solvers %s", id, list)
	case id.IsWildcard():
		v.report(path, "%s is a wildcard, which only a dns-01 solver can validate; the solvers are %s", id, list)
	default:
		v.report(path, "%s can be validated by http-01 or tls-alpn-01 only; the solvers are %s", id, list)
	}
}

// profile checks what Let's Encrypt documents about its profiles.
func (v *validator) profile(path string, cert *Certificate, ids []certs.Identifier) {
	if !slices.ContainsFunc(v.c.issuersOf(cert), isLetsEncrypt) {
		return
	}
	short := cert.Profile == "shortlived"
	if n := len(ids); n > maxProfileNames && (short || cert.Profile == "tlsserver") {
		v.report(path+".names", "Let's Encrypt allows %d names with the profile %s, this certificate has %d", maxProfileNames, cert.Profile, n)
	}
	public := func(id certs.Identifier) bool { return id.Type == certs.IP && certs.CheckPublic(id) == nil }
	if i := slices.IndexFunc(ids, public); i >= 0 && !short {
		v.report(path+".profile", "Let's Encrypt certifies addresses such as %s with profile: shortlived only", ids[i])
	}
}

func (v *validator) installs(path string, list []Install) {
	seen := map[string]bool{}
	for i := range list {
		at := fmt.Sprintf("%s.install[%d]", path, i)
		plugins := list[i].plugins()
		if len(plugins) != 1 {
			v.report(at, "an install entry has exactly one section, such as nginx or file; this one has %s", count(len(plugins)))
			continue
		}
		p := plugins[0]
		v.section(join(at, p.key), p.section, p.section.Validate())
		if id := list[i].ID(); seen[id] {
			v.report(at, "the target %s is listed twice", text.Short(id, text.Value))
		} else {
			seen[id] = true
		}
	}
}
