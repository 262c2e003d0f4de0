package nginx

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// redirectVariable holds what a request asked for. Only the rewrite module's own directives are safe within "if", and
// one variable in one pattern says it all: scheme, host and path.
const redirectVariable = "$acmed_redirect"

// addRedirects adds, to the blocks that answer for the names without TLS, a redirect to the same name with TLS. The
// target is the name as it is written here, never what the client sent, so nobody is sent elsewhere. ACME validation
// stays where it is.
func (p *planner) addRedirects(lines map[*server][]string) {
	hosts := map[*server][]string{}
	finder := picker{m: p.m, port: p.cfg.Listen}
	for _, id := range p.names {
		if id.Type != certs.DNS || id.IsWildcard() {
			continue
		}
		for _, s := range finder.plainServers(id) {
			if p.redirects(s) == nil {
				hosts[s] = append(hosts[s], id.Value)
			}
		}
	}
	port := ""
	if p.cfg.Listen != webserver.DefaultPort {
		port = ":" + strconv.Itoa(p.cfg.Listen)
	}
	for s, names := range hosts {
		lines[s] = append(lines[s], "set "+redirectVariable+` "$scheme://$host$uri";`)
		for _, name := range names {
			lines[s] = append(lines[s], fmt.Sprintf(`if (%s ~ "^http://%s/(?!\.well-known/acme-challenge/)") { return 301 https://%s%s$request_uri; }`,
				redirectVariable, strings.ReplaceAll(name, ".", `\.`), name, port))
		}
	}
}

// plainServers are the blocks that answer for a name without TLS on the port of plain HTTP.
func (p *picker) plainServers(id certs.Identifier) []*server {
	for _, wanted := range []func(int) bool{
		func(port int) bool { return port == 80 },
		func(port int) bool { return port != 80 && port != p.port },
	} {
		if l := p.look(id, false, wanted); len(l.named)+len(l.defaults) > 0 {
			return append(l.named, l.defaults...)
		}
	}
	return nil
}

// redirects is a directive of the operator's own that sends requests of this block to HTTPS, or nil.
func (p *planner) redirects(s *server) *directive {
	for _, d := range p.native(s.body) {
		if toHTTPS(d) != "" {
			return d
		}
		isRoot := d.isBlock("location") && slices.Contains(d.args(), "/")
		if (d.isBlock("if") || isRoot) && slices.ContainsFunc(d.children, func(c *directive) bool { return toHTTPS(c) != "" }) {
			return d
		}
	}
	return nil
}

// toHTTPS is the target of a redirect to HTTPS, or "".
func toHTTPS(d *directive) string {
	if !d.is("return") && !d.is("rewrite") {
		return ""
	}
	for _, a := range d.args() {
		if strings.HasPrefix(a, "https://") {
			return a
		}
	}
	return ""
}

// loop is a redirect to HTTPS that would answer a request over HTTPS with the same redirect again, or nil.
func (p *planner) loop(s *server) *directive {
	d := p.redirects(s)
	if d == nil || d.isBlock("if") && askedForScheme(d) {
		return nil
	}
	targets := []string{toHTTPS(d)}
	for _, c := range d.children {
		targets = append(targets, toHTTPS(c))
	}
	for _, target := range targets {
		host, _, _ := strings.Cut(strings.TrimPrefix(target, "https://"), "/")
		if i := strings.IndexAny(host, "$:"); i > 0 {
			host = host[:i]
		}
		if target != "" && (strings.HasPrefix(host, "$") || slices.Contains(s.names, host)) {
			return d
		}
	}
	return nil
}

// trustsProxy is a condition among ds, or in their locations, that sends all requests to HTTPS which do not have a proxy's word
// that they came by it, or nil.
func (p *planner) trustsProxy(h *httpBlock, ds []*directive) *directive {
	words := []string{"forwarded_proto"}
	for _, m := range h.body {
		if m.isBlock("map") && strings.Contains(strings.Join(m.args(), " "), words[0]) {
			words = append(words, m.args()[len(m.args())-1])
		}
	}
	for _, d := range ds {
		condition := strings.Join(d.args(), " ")
		about := func(word string) bool { return strings.Contains(condition, word) }
		isNot := strings.Contains(condition, "!=") || strings.Contains(condition, "!~")
		if d.isBlock("if") && isNot && slices.ContainsFunc(words, about) && slices.ContainsFunc(d.children, func(c *directive) bool { return toHTTPS(c) != "" }) {
			return d
		}
		if d.isBlock("location") {
			if inner := p.trustsProxy(h, d.children); inner != nil {
				return inner
			}
		}
	}
	return nil
}

// askedForScheme reports whether a condition is about how the request came in.
func askedForScheme(d *directive) bool {
	condition := strings.Join(d.args(), " ")
	return slices.ContainsFunc([]string{"scheme", "https", "server_port", "forwarded_proto", "ssl"}, func(s string) bool {
		return strings.Contains(condition, s)
	})
}
