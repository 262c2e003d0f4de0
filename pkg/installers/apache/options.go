package apache

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// headerLines adds Strict-Transport-Security, which belongs to answers over TLS only (RFC 6797 section 7.2).
func (p *planner) headerLines(v *vhost) ([]string, error) {
	if p.cfg.HSTS == 0 {
		return nil, nil
	}
	for _, d := range v.own("Header") {
		args := strings.ToLower(d.args)
		switch {
		case !strings.Contains(args, "strict-transport-security"):
		case slices.Contains(words(args), "unset"):
			return nil, d.errorf("this takes Strict-Transport-Security away: remove the line, or set \"hsts\" to 0")
		default:
			return nil, nil
		}
	}
	return []string{fmt.Sprintf(`Header always set Strict-Transport-Security "max-age=%d"`, int64(p.cfg.HSTS/time.Second))}, nil
}

// addRedirects adds, to the virtual hosts that answer for the names without TLS, a redirect to the same name with TLS.
// The target is the name as it is written here, never what the client sent, so nobody is sent elsewhere. What follows the
// name is what the client asked for, as it was asked. ACME validation stays where it is.
func (p *planner) addRedirects() error {
	if !p.cfg.Redirect {
		return nil
	}
	hosts := map[*vhost][]string{}
	for _, id := range p.names {
		if id.Type != certs.DNS || id.IsWildcard() {
			continue
		}
		for _, v := range p.plainVhosts(id) {
			if v.err != nil {
				return fmt.Errorf("redirect %q: %w", id.Value, v.err)
			}
			hosts[v] = append(hosts[v], id.Value)
		}
	}
	for _, v := range p.m.vhosts {
		names := hosts[v]
		if len(names) == 0 || p.redirects(v) != nil {
			continue
		}
		for _, d := range v.own("RewriteEngine") {
			if !strings.EqualFold(p.m.value(d), "on") {
				return d.errorf("this switches a redirect off: remove the line, or set \"redirect\" to false")
			}
		}
		p.edit(v.d.src, block(v.d, v.d.end, p.target.Certificate, p.redirectLines(names)))
	}
	return nil
}

// redirectLines come first in a virtual host, so that no rule of its own ends a request before them.
func (p *planner) redirectLines(names []string) []string {
	port := ""
	if p.cfg.Listen != webserver.DefaultPort {
		port = ":" + strconv.Itoa(p.cfg.Listen)
	}
	lines := []string{"RewriteEngine on"}
	for _, name := range names {
		lines = append(lines,
			`RewriteCond %{HTTP_HOST} "^`+regexp.QuoteMeta(name)+`\.?(:[0-9]+)?$" [NC]`,
			`RewriteCond %{REQUEST_URI} "!^/\.well-known/acme-challenge/"`,
			`RewriteCond %{THE_REQUEST} "^[^ ]+ (?:https?://[^/ ]+)?(/[^ ?]*)" [NC]`,
			`RewriteRule ^ https://`+name+port+`%1 [R=301,L,NE]`)
	}
	return lines
}

// plainVhosts are those that answer for a name without TLS on the port of plain HTTP.
func (p *planner) plainVhosts(id certs.Identifier) []*vhost {
	finder := picker{m: p.m, port: p.cfg.Listen}
	for _, wanted := range []func(g *group) bool{
		func(g *group) bool { return p.m.reaches(g, httpPort) },
		func(g *group) bool { return g.port != httpPort && g.port != 0 },
	} {
		l := finder.look(id, func(g *group, v *vhost) bool { return wanted(g) && !finder.secure(g, v) && !p.m.tls(v) })
		if len(l.named)+len(l.defaults) > 0 {
			return append(l.named, l.defaults...)
		}
	}
	return nil
}

// redirects is a directive of the operator's own that sends all requests of a virtual host to HTTPS, or nil.
func (p *planner) redirects(v *vhost) *directive {
	for _, d := range v.own("Redirect", "RedirectPermanent", "RedirectTemp", "RedirectMatch", "RewriteRule") {
		if p.toHTTPS(d) != "" && isGeneral(d) {
			return d
		}
	}
	return nil
}

// toHTTPS is the target of a redirect to HTTPS, or "".
func (p *planner) toHTTPS(d *directive) string {
	for _, w := range words(d.args) {
		if w = p.m.expand(w); strings.HasPrefix(strings.ToLower(w), "https://") {
			return w
		}
	}
	return ""
}

// isGeneral reports whether a redirect is for all paths.
func isGeneral(d *directive) bool {
	for _, w := range words(d.args) {
		if strings.HasPrefix(strings.ToLower(w), "https://") {
			return false
		}
		if slices.Contains([]string{"/", "^", "^/", ".*", "^.*$", "(.*)", "^(.*)$", "^/(.*)", "^/(.*)$", "^/?(.*)", "^/?(.*)$", "/(.*)", "^/.*$", ".?"}, w) {
			return true
		}
	}
	return false
}

// loop is a redirect to HTTPS that would answer a request over HTTPS with the same redirect again, or nil.
func (p *planner) loop(v *vhost) *directive {
	for i, d := range v.body {
		if !slices.ContainsFunc([]string{"Redirect", "RedirectPermanent", "RedirectTemp", "RedirectMatch", "RewriteRule"}, d.is) {
			continue
		}
		target := p.toHTTPS(d)
		if target == "" || !isGeneral(d) || d.is("RewriteRule") && p.askedForScheme(v.body[:i]) {
			continue
		}
		host, _, _ := strings.Cut(target[len("https://"):], "/")
		host, _, _ = strings.Cut(strings.ToLower(host), ":")
		if strings.ContainsAny(host, "%$") || slices.Contains(v.names, host) {
			return d
		}
	}
	return nil
}

// trustsProxy is a redirect to HTTPS for all requests that do not have a proxy's word that they came by it, or nil.
func (p *planner) trustsProxy(v *vhost) *directive {
	for i, d := range v.body {
		switch {
		case d.is("RewriteRule") && p.toHTTPS(d) != "" && isGeneral(d):
			if p.dependsOnProxy(p.conditions(v.body[:i])) {
				return d
			}
		case d.isSection("If") && aboutProxy(d.args) && (strings.Contains(d.args, "!=") || strings.Contains(d.args, "!~")):
			for _, c := range d.children {
				if p.toHTTPS(c) != "" {
					return c
				}
			}
		}
	}
	return nil
}

// dependsOnProxy reports whether conditions hold for requests without a proxy's word, however they came in.
func (p *planner) dependsOnProxy(conditions []*directive) bool {
	isAboutProxy := func(c *directive) bool { return aboutProxy(c.args) && strings.HasPrefix(p.pattern(c), "!") }
	return slices.ContainsFunc(conditions, isAboutProxy) && !slices.ContainsFunc(conditions, p.isAboutConnection)
}

// conditions are the RewriteCond directives at the end of a list.
func (p *planner) conditions(before []*directive) (list []*directive) {
	for _, d := range slices.Backward(before) {
		if !d.is("RewriteCond") {
			break
		}
		list = append(list, d)
	}
	return list
}

// aboutProxy reports whether a condition is about what a proxy says, or an environment variable that it may set.
func aboutProxy(args string) bool {
	args = strings.ToUpper(args)
	return strings.Contains(args, "X-FORWARDED-PROTO") || strings.Contains(args, "X-FORWARDED-SSL") || strings.Contains(args, "ENV:HTTPS")
}

// pattern is what a RewriteCond compares with.
func (p *planner) pattern(d *directive) string {
	if list := words(d.args); len(list) > 1 {
		return p.m.expand(list[1])
	}
	return ""
}

// isAboutConnection reports whether a condition must hold and is about how the request came in.
func (p *planner) isAboutConnection(d *directive) bool {
	list := words(strings.ToUpper(d.args))
	isOr := len(list) > 2 && strings.Contains(list[2], "OR")
	return len(list) > 0 && !isOr && !aboutProxy(list[0]) && slices.ContainsFunc([]string{"HTTPS", "SERVER_PORT", "REQUEST_SCHEME"}, func(s string) bool {
		return strings.Contains(list[0], s)
	})
}

// askedForScheme reports whether the conditions at the end of a list are about how the request came in.
func (p *planner) askedForScheme(before []*directive) bool {
	return slices.ContainsFunc(p.conditions(before), func(d *directive) bool { return aboutProxy(p.m.value(d)) || p.isAboutConnection(d) })
}
