package nginx

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers/webserver"
)

// Sites lists the server blocks of the HTTP configuration that have a name a public certificate can have, in nginx's
// order. It reads the configuration and changes nothing.
func Sites(ctx context.Context, cfg Config) ([]webserver.Site, error) {
	e := &editor{cfg: cfg.withDefaults()}
	c, err := e.Read(ctx)
	if err != nil {
		return nil, err
	}
	var sites []webserver.Site
	for _, s := range c.m.servers {
		site := webserver.Site{Names: webserver.PublicNames(s.names), Place: s.d.place(), Root: s.root(c.build.prefix)}
		site.TLS = slices.ContainsFunc(c.m.tlsGroups(s), func(g *group) bool { return g.socket.port == e.cfg.Listen })
		if d := s.last("ssl_certificate"); d != nil && len(d.args()) == 1 && !strings.Contains(d.args()[0], "$") {
			site.Certificate = under(filepath.Dir(c.build.config), d.args()[0])
		}
		if len(site.Names) > 0 {
			sites = append(sites, site)
		}
	}
	return sites, nil
}

// root is the directory of the files that the block serves, where a root directive says so, and answers challenges from.
func (s *server) root(prefix string) string {
	d := s.last("root")
	if d == nil || !s.servesFiles() || len(d.args()) != 1 || strings.Contains(d.args()[0], "$") {
		return ""
	}
	return under(prefix, d.args()[0])
}
