package nginx

import (
	"context"
	"regexp"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// RouteChallenges plans the edits by which the server blocks that answer for names without TLS forward their http-01
// challenges, whatever else they do: proxy, redirect or refuse. It changes nothing. A block that forwards them already,
// to the same address, stays as it is.
func RouteChallenges(ctx context.Context, cfg Config, routes []installers.ChallengeRoute) (*webserver.Routes, error) {
	e := &editor{cfg: cfg.withDefaults()}
	c, err := e.Read(ctx)
	if err != nil {
		return nil, err
	}
	p := e.planner(c, nil)
	p.edits, p.srcs = map[string][]change.Edit{}, map[string]*source{}
	finder := picker{m: p.m, port: e.cfg.Listen}
	router := &webserver.Router[*server]{
		Server: "nginx", Sites: finder.plainServers, Dials: (*server).plainDials, Add: p.routeThrough,
		Text: func(s *server) ([]byte, int, int) { return s.d.src.text, s.d.open, s.d.end },
		Edit: func(s *server, e change.Edit) { p.edit(s.d.src, e) },
	}
	made := &webserver.Routes{}
	if made.Doors, err = router.Plan(routes); err != nil {
		return nil, err
	}
	made.Files, err = p.editedFiles()
	return made, err
}

// plainDials are where the block answers without TLS.
func (s *server) plainDials() (list []string) {
	for _, l := range s.plainListens() {
		for _, socket := range l.sockets() {
			list = append(list, socket.dial().String())
		}
	}
	return list
}

// routeThrough adds the lines of a route to a block.
func (p *planner) routeThrough(s *server, r installers.ChallengeRoute) error {
	for _, d := range s.body {
		if !d.isBlock("location") || !slices.Contains(d.args(), installers.ChallengePath) {
			continue
		}
		if slices.ContainsFunc(d.children, func(c *directive) bool {
			return c.is("proxy_pass") && strings.HasPrefix(c.args()[0], "http://"+r.Upstream)
		}) {
			return nil
		}
		return d.errorf("this location already handles challenges: name a solver for it with --solver, --listen or --webroot")
	}
	lines := []string{
		"location ^~ " + installers.ChallengePath + " {",
		"    auth_basic off;",
		"    allow all;",
		"    proxy_pass http://" + r.Upstream + ";",
		"}",
	}
	if slices.ContainsFunc(s.body, func(d *directive) bool { return slices.Contains(earlyEnds(), d.name()) }) {
		lines = append([]string{`rewrite ^(/\.well-known/acme-challenge/.*)$ $1 break;`}, lines...)
	}
	pos, indent := p.anchor(s)
	text := s.d.src.text
	_, free := comment(text, pos)
	inline := !free || lineEnd(text, pos) == len(text)
	p.edit(s.d.src, insertAfter(text, pos, indent, r.Marked(lines, inline)))
	return nil
}

// earlyEnds are the directives of the rewrite module, which ends requests before a location is chosen.
func earlyEnds() []string { return []string{"if", "return", "rewrite", "set", "break"} }

// challengeSample stands for the path of a challenge where it is compared with patterns.
const challengeSample = installers.ChallengePath + "aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456789-_abcde"

// servesFiles reports whether the block answers a challenge with a file below its root: nothing of it redirects, passes on
// or refuses such a path. What cannot be told counts as no.
func (s *server) servesFiles() bool {
	var best *directive
	for _, d := range s.body {
		if slices.Contains([]string{"if", "return", "rewrite"}, d.name()) && !slices.Contains(d.args(), "("+redirectVariable) {
			return false
		}
		if !d.isBlock("location") {
			continue
		}
		switch pattern, isRegex, fits := d.fits(challengeSample); {
		case isRegex && fits:
			return false
		case fits && (best == nil || len(pattern) > len(best.args()[len(best.args())-1])):
			best = d
		}
	}
	return best == nil || !slices.ContainsFunc(best.children, func(c *directive) bool {
		return strings.HasSuffix(c.name(), "_pass") || slices.Contains([]string{"return", "rewrite", "if", "deny", "internal", "alias", "root", "location", "auth_basic"}, c.name())
	})
}

// fits reports whether a location is for a path. A regular expression that only nginx understands may be.
func (d *directive) fits(path string) (pattern string, isRegex, fits bool) {
	args := d.args()
	pattern = args[len(args)-1]
	if len(args) == 2 && (args[0] == "~" || args[0] == "~*") {
		re, err := regexp.Compile(pattern)
		return pattern, true, err != nil || re.MatchString(path)
	}
	return pattern, false, args[0] != "=" && strings.HasPrefix(path, pattern)
}
