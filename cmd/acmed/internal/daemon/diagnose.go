package daemon

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/preflight"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/apache"
	"github.com/acmed/acmed/pkg/installers/nginx"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// Identify adds the processes that hold ports to a diagnosis, where the one who made it could not see them: a confined daemon
// sees no other process, but root who asks it does.
func Identify(ctx context.Context, d *control.Diagnosis) {
	served := sync.OnceValue(func() map[string]string { return servedDirectories(ctx, nil) })
	for i := range d.Names {
		n := &d.Names[i]
		before := nameFindings(n)
		n.Report.Identify()
		if n.Report.Webroot != "" && n.Report.Served == "" && len(n.Fails) > 0 {
			n.Report.Served = served()[n.Identifier]
		}
		for k, f := range nameFindings(n) {
			if at := slices.Index(d.Findings, before[k]); at >= 0 {
				d.Findings[at] = f
			}
		}
	}
}

// servedDirectories asks the configuration of the web servers of these targets, and of those that the distribution put here,
// which directory they serve for which name.
func servedDirectories(ctx context.Context, certificates []config.Certificate) map[string]string {
	n, a := []nginx.Config{{}}, []apache.Config{{}}
	for i := range certificates {
		for _, in := range certificates[i].Install {
			if in.Nginx != nil {
				n = append(n, *in.Nginx)
			}
			if in.Apache != nil {
				a = append(a, *in.Apache)
			}
		}
	}
	served := map[string]string{}
	note := func(sites []webserver.Site, _ error) { // a server that is not here, or not to be read, serves nothing
		for _, s := range sites {
			for _, name := range s.Names {
				served[name] = cmp.Or(s.Root, served[name])
			}
		}
	}
	for i := range n {
		note(nginx.Sites(ctx, n[i]))
	}
	for i := range a {
		note(apache.Sites(ctx, a[i]))
	}
	return served
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
		say(true, "DNSSEC validation fails", "the resolver answers only with DNSSEC validation turned off, and CAs validate",
			"compare the DS record at the registrar with the zone's DNSKEY; remove the DS record if the zone is not signed")
	case r.DNS.Silent:
		say(true, "the resolver does not answer", r.DNS.Error, "check the resolver that the message names, or set probe.resolver to another one")
	case r.DNS.Error != "":
		say(lost, "DNS does not lead to a server", r.DNS.Error, "publish an A or AAAA record of the server, or validate the name with a dns-01 solver")
	}
	for _, l := range r.Local {
		say(lost || l.Solver != "", localProblem(&l), l.Error, localAdvice(&l))
	}
	if r.Persist != nil && len(r.Persist.Problems) > 0 {
		say(lost, "dns-persist-01 cannot validate the name", strings.Join(r.Persist.Problems, "; "), "publish: "+r.Persist.Publish)
	}
	if len(n.Fails) == 0 {
		return list
	}
	for _, a := range r.Addresses {
		if why := a.HTTP.Trouble(); why != "" {
			say(lost, fmt.Sprintf("http-01 does not reach acmed at %s", a.Address), why, httpAdvice(n, &a))
		}
		if why := a.TLS.Trouble(); why != "" {
			say(lost, fmt.Sprintf("tls-alpn-01 does not reach acmed at %s", a.Address), why, tlsAdvice(&a.TLS))
		}
	}
	return list
}

func localProblem(l *preflight.Local) string {
	switch {
	case l.Solver != "":
		return fmt.Sprintf("the solver %s does not work", l.Solver)
	case l.Path != "":
		return fmt.Sprintf("http-01 cannot use the directory %s", l.Path)
	}
	return fmt.Sprintf("%s is not available on this machine", l.Type)
}

// localAdvice says how to live with a port that is taken.
func localAdvice(l *preflight.Local) string {
	switch {
	case l.Solver != "":
		return fmt.Sprintf("check %s; the service says above what it has against it", cmp.Or(l.Path, "the settings of the solver"))
	case l.Path != "":
		return fmt.Sprintf("create %s or correct the path in the solver; acmed must be able to write into it (owner, mode, ReadWritePaths= of the unit)", l.Path)
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

func httpAdvice(n *control.NameDiagnosis, a *preflight.Address) string {
	h := &a.HTTP
	switch {
	case h.Outcome == preflight.Closed && a.OfThisMachine():
		return stoppedAdvice(n)
	case h.Outcome == preflight.Timeout:
		return "open port 80 in the firewall and forward it to this machine, or validate the name with a dns-01 solver"
	case h.Outcome == preflight.Closed:
		return "forward port 80 of this address to this machine, or correct the record if the address is an old one"
	case h.Proxy != "":
		return fmt.Sprintf("let %s pass %s on to this machine unchanged, or answer there: acmed snippet SERVER --stateless", h.Proxy, "/.well-known/acme-challenge/")
	case n.Report.Webroot != "":
		return webrootAdvice(n.Report, h)
	}
	return "let that server pass challenges on: acmed snippet SERVER; if it is not yours, correct the record"
}

// stoppedAdvice is for a port of this machine on which nothing listens.
func stoppedAdvice(n *control.NameDiagnosis) string {
	if n.Report.Webroot+n.Server == "" {
		return "the address is this machine's, and nothing listens on port 80: is a packet filter in the way?"
	}
	return fmt.Sprintf("the address is this machine's, and %s is not running there: start it (systemctl start %s)",
		cmp.Or(n.Server, "the web server"), unitOf(n.Server))
}

// webrootAdvice is for a web server that did not serve the file which acmed wrote.
func webrootAdvice(r *preflight.Report, h *preflight.HTTP) string {
	switch {
	case r.Served != "" && r.Served != r.Webroot:
		return fmt.Sprintf("the solver writes into %s, and the web server serves %s for this name by its configuration; make both the same", r.Webroot, r.Served)
	case h.Status == http.StatusForbidden:
		return fmt.Sprintf("let the web server read %s: each directory on the way needs the mode o+x or its group", r.Webroot)
	}
	return fmt.Sprintf("compare %s with the directory that the web server serves for this name (root, alias or DocumentRoot in its configuration)", r.Webroot)
}

// unitOf is what the service of a server is usually called.
func unitOf(server string) string {
	switch server {
	case "apache":
		return "apache2, or httpd"
	case "":
		return "nginx, or what it is"
	}
	return server
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
