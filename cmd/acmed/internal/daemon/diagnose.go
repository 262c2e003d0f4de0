package daemon

import (
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/preflight"
)

// Identify adds the processes that hold ports to a diagnosis, where the one who made it could not see them: a confined daemon
// sees no other process, but root who asks it does.
func Identify(d *control.Diagnosis) {
	for i := range d.Names {
		n := &d.Names[i]
		before := nameFindings(n)
		n.Report.Identify()
		for k, f := range nameFindings(n) {
			if at := slices.Index(d.Findings, before[k]); at >= 0 {
				d.Findings[at] = f
			}
		}
	}
}

// nameFindings advises about one name. What keeps a solver from working needs attention only when no other solver of the
// name works.
func nameFindings(n *control.NameDiagnosis) []control.Finding {
	r, lost := n.Report, n.Solver == ""
	var list []control.Finding
	say := func(attention bool, what, why, do string) {
		list = append(list, control.Finding{Attention: attention, What: n.Identifier + ": " + what, Why: why, Do: do})
	}
	switch {
	case r.DNS.Bogus:
		say(true, "DNSSEC validation fails", "the resolver answers only when it is told not to validate, and CAs validate",
			"compare the DS record at the registrar with the zone's DNSKEY; remove the DS record if the zone is not signed")
	case r.DNS.Silent:
		say(true, "the resolver does not answer", r.DNS.Error, "check the resolver that the message names, or set probe.resolver to another one")
	case r.DNS.Error != "":
		say(lost, "DNS does not lead to a server", r.DNS.Error, "publish an A or AAAA record of the server, or prove the name with a dns-01 solver")
	}
	for _, l := range r.Local {
		say(lost, fmt.Sprintf("%s is not available on this machine", l.Type), l.Error, localAdvice(&l))
	}
	if p := r.Persist; p != nil && len(p.Problems) > 0 {
		say(lost, "dns-persist-01 cannot validate the name", strings.Join(p.Problems, "; "), "publish: "+p.Publish)
	}
	if len(n.Fails) == 0 {
		return list
	}
	for _, a := range r.Addresses {
		if why := a.HTTP.Trouble(); why != "" {
			say(lost, fmt.Sprintf("http-01 does not reach acmed at %s", a.Address), why, httpAdvice(&a.HTTP))
		}
		if why := a.TLS.Trouble(); why != "" {
			say(lost, fmt.Sprintf("tls-alpn-01 does not reach acmed at %s", a.Address), why, tlsAdvice(&a.TLS))
		}
	}
	return list
}

// localAdvice says how to live with a port that is taken.
func localAdvice(l *preflight.Local) string {
	switch {
	case l.Holder == nil && l.Taken:
		return "find out which ('acmed doctor' as root names it), and let it pass challenges on: acmed snippet nginx, or what it is"
	case l.Holder == nil:
		return "let acmed listen there: CAP_NET_BIND_SERVICE, or the systemd socket units"
	}
	known := map[string]string{"nginx": "nginx", "apache2": "apache", "httpd": "apache", "haproxy": "haproxy", "caddy": "caddy", "varnishd": "varnish"}
	server, ok := known[strings.ToLower(l.Holder.Name)]
	switch {
	case !ok:
		return fmt.Sprintf("stop %s, or let it pass challenges on to another address", l.Holder)
	case l.Type == challenges.TLSALPN01 && (server == "nginx" || server == "haproxy"):
		return fmt.Sprintf("let it pass acme-tls/1 on: acmed snippet %s --mode tls-alpn", server)
	case l.Type == challenges.TLSALPN01:
		return fmt.Sprintf("%s cannot pass acme-tls/1 on; use http-01 or dns-01", server)
	}
	return fmt.Sprintf("let it pass challenges on: acmed snippet %s", server)
}

func httpAdvice(h *preflight.HTTP) string {
	switch {
	case h.Outcome == preflight.Timeout:
		return "open port 80 in the firewall and forward it to this machine, or prove the name with a dns-01 solver"
	case h.Outcome == preflight.Closed:
		return "forward port 80 of this address to this machine, or correct the record if the address is an old one"
	case h.Proxy != "":
		return fmt.Sprintf("let %s pass %s on to this machine unchanged, or answer there: acmed snippet SERVER --stateless", h.Proxy, "/.well-known/acme-challenge/")
	}
	return "let that server pass challenges on: acmed snippet SERVER; if it is not yours, correct the record"
}

func tlsAdvice(t *preflight.TLS) string {
	switch t.Outcome {
	case preflight.Timeout:
		return "open port 443 in the firewall and forward it to this machine, or use http-01 or dns-01"
	case preflight.Closed:
		return "forward port 443 of this address to this machine, or use http-01 or dns-01"
	}
	return "what terminates TLS in front cannot pass this challenge; use http-01 or dns-01, or route acme-tls/1 to acmed: acmed snippet nginx --mode tls-alpn"
}
