package nginx

import (
	"context"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// Site is one server block of the HTTP configuration.
type Site struct {
	Names []string // those of its names that a certificate can have, as they are ordered
	Place string   // file:line
	TLS   bool     // it answers with TLS on the configured port
	Root  string   // absolute directory from which it serves files; "" when it has none, or one that depends on the request
}

// Sites lists the server blocks that have a name a public certificate can have, in nginx's order. It reads the
// configuration and changes nothing.
func Sites(ctx context.Context, cfg Config) ([]Site, error) {
	n := &Installer{cfg: cfg.withDefaults()}
	p, info, err := n.planner(ctx, nil)
	if err != nil {
		return nil, err
	}
	var sites []Site
	for _, s := range p.m.servers {
		site := Site{Place: s.d.place(), Root: s.root(info.prefix)}
		for _, name := range s.names {
			id, _, err := certs.ParseIdentifier(strings.TrimPrefix(name, "."))
			if err == nil && strings.Contains(id.Value, ".") && !slices.Contains(site.Names, id.Value) {
				site.Names = append(site.Names, id.Value)
			}
		}
		site.TLS = slices.ContainsFunc(p.m.tlsGroups(s), func(g *group) bool { return g.socket.port == n.cfg.Listen })
		if len(site.Names) > 0 {
			sites = append(sites, site)
		}
	}
	return sites, nil
}

// root is the directory of the files that the block serves, where a root directive says so.
func (s *server) root(prefix string) string {
	d := s.last("root")
	if d == nil || len(d.args()) != 1 || strings.Contains(d.args()[0], "$") {
		return ""
	}
	return under(prefix, d.args()[0])
}
