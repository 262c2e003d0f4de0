package apache

import (
	"cmp"
	"context"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// RouteChallenges plans the edits by which the virtual hosts that answer for names without TLS forward their http-01
// challenges, whatever else they do: proxy, redirect or refuse. The modules for it are enabled where that is missing. It
// changes nothing. A virtual host that forwards them already, to the same address, stays as it is.
func RouteChallenges(ctx context.Context, cfg Config, routes []installers.ChallengeRoute) (*webserver.Routes, error) {
	e := &editor{cfg: cfg.withDefaults()}
	c, err := e.Read(ctx)
	if err != nil {
		return nil, err
	}
	m := c.model
	p := &planner{cfg: e.cfg, m: m, files: newLayout(e.cfg.Layout, m.main.path, "", m.includedDirs()), edits: map[*source][]change.Edit{}}
	if p.enable, err = p.files.resolve("proxy_http", m.modules, m.root, nil); err != nil {
		return nil, err
	}
	files, err := p.moduleLinks()
	if err != nil {
		return nil, err
	}
	router := &webserver.Router[*vhost]{
		Server: "Apache", Sites: p.plainVhosts, Dials: m.plainDials, Add: p.routeThrough,
		Text: func(v *vhost) ([]byte, int, int) { return v.d.src.text, v.d.end, v.d.close },
		Edit: func(v *vhost, e change.Edit) { p.edit(v.d.src, e) },
	}
	made := &webserver.Routes{}
	if made.Doors, err = router.Plan(routes); err != nil {
		return nil, err
	}
	edited, err := p.editedFiles()
	if len(edited) > 0 {
		made.Files = append(files, edited...)
	}
	return made, err
}

// moduleLinks enable the modules that Apache does not load yet.
func (p *planner) moduleLinks() (files []change.File, err error) {
	for _, module := range p.enable {
		links, err := p.files.links(module)
		if err != nil {
			return nil, err
		}
		files = append(files, links...)
	}
	return files, nil
}

// plainDials are where a virtual host answers without TLS. For all addresses, loopback stands.
func (m *model) plainDials(v *vhost) (list []string) {
	for _, g := range m.groups {
		if !slices.Contains(g.vhosts, v) {
			continue
		}
		host, port := g.host, cmp.Or(g.port, httpPort)
		if host == "*" {
			host = "127.0.0.1"
		}
		list = append(list, net.JoinHostPort(host, strconv.Itoa(port)))
	}
	return list
}

// routeThrough adds the lines of a route to a virtual host. Rules of its own come first only when they end a request; the
// last section for a path counts.
func (p *planner) routeThrough(v *vhost, r installers.ChallengeRoute) error {
	if v.err != nil {
		return v.err
	}
	upstream := "http://" + r.Upstream + installers.ChallengePath
	for _, d := range v.body {
		if (d.is("ProxyPass") || d.isSection("Location")) && strings.Contains(d.args, strings.TrimSuffix(installers.ChallengePath, "/")) {
			if strings.Contains(string(d.src.text[d.start:max(d.end, d.closeEnd)]), upstream) {
				return nil
			}
			return d.errorf("this already handles challenges: name a solver for it with --solver, --listen or --webroot")
		}
	}
	if len(v.own("RewriteEngine", "RewriteRule", "RewriteCond")) > 0 {
		p.routeLines(v, v.d.end, r, []string{`RewriteRule "^/\.well-known/acme-challenge/" - [END]`})
	}
	p.routeLines(v, v.d.close, r, []string{
		"<Location " + quoted(installers.ChallengePath) + ">",
		"    ProxyPass " + quoted(upstream),
		"    Require all granted",
		"</Location>",
	})
	return nil
}

func quoted(text string) string { return `"` + text + `"` }

func (p *planner) routeLines(v *vhost, pos int, r installers.ChallengeRoute, lines []string) {
	indent, nl := v.d.childIndent(), newline(v.d.src.text, pos)
	var b strings.Builder
	for _, line := range r.Marked(lines, false) {
		b.WriteString(indent + line + nl)
	}
	p.edit(v.d.src, change.Edit{Start: pos, End: pos, Text: b.String()})
}

// servesFiles reports whether the virtual host answers a challenge with a file below its root: nothing of it redirects,
// forwards or refuses such a path. What cannot be told counts as no.
func (v *vhost) servesFiles() bool { return !slices.ContainsFunc(v.body, mayTakeChallenges) }

// mayTakeChallenges reports a directive or section that may answer a challenge in the place of a file. A rule that speaks of
// challenges is one that spares them.
func mayTakeChallenges(d *directive) bool {
	prefixes := []string{"location", "redirect", "redirectpermanent", "redirecttemp", "proxypass", "alias", "scriptalias"}
	patterns := []string{"locationmatch", "redirectmatch", "proxypassmatch", "aliasmatch", "scriptaliasmatch"}
	name := strings.ToLower(d.name)
	if name == "rewriterule" {
		return !strings.Contains(d.args, "acme-challenge") && !strings.HasPrefix(strings.TrimSpace(d.args), "^/?$")
	}
	if slices.Contains(prefixes, name) {
		return slices.ContainsFunc(words(d.args), func(w string) bool {
			return strings.HasPrefix(w, "/") && strings.HasPrefix(installers.ChallengePath, w)
		})
	}
	return slices.Contains(patterns, name)
}
