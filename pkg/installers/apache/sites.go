package apache

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// Site is one virtual host.
type Site struct {
	Names []string // those of its names that a certificate can have, as they are ordered
	Place string   // file:line
	TLS   bool     // it answers with TLS
	Root  string   // absolute directory from which it serves files; "" when it has none, or one that depends on the environment
}

// Sites lists the virtual hosts that have a name a public certificate can have, ordered by file and line. It asks Apache,
// reads the configuration, and changes nothing.
func Sites(ctx context.Context, cfg Config) ([]Site, error) {
	a := &Installer{cfg: cfg.withDefaults()}
	m, err := a.model(ctx, "")
	if err != nil {
		return nil, err
	}
	byPlace := func(a, b *vhost) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	}
	var sites []Site
	for _, v := range slices.SortedFunc(slices.Values(m.vhosts), byPlace) {
		site := Site{Place: fmt.Sprintf("%s:%d", v.file, v.line), TLS: m.tls(v), Root: m.documentRoot(v)}
		for _, name := range v.names {
			id, _, err := certs.ParseIdentifier(name)
			if err == nil && strings.Contains(id.Value, ".") && !v.catchAll && !slices.Contains(site.Names, id.Value) {
				site.Names = append(site.Names, id.Value)
			}
		}
		if len(site.Names) > 0 {
			sites = append(sites, site)
		}
	}
	return sites, nil
}

// documentRoot is the directory of the files that the virtual host serves, its own or the server's.
func (m *model) documentRoot(v *vhost) string {
	for _, body := range [][]*directive{v.body, m.global} {
		if list := named(body, "DocumentRoot"); len(list) > 0 {
			root := m.path(list[len(list)-1])
			if strings.Contains(root, "$") {
				return ""
			}
			return root
		}
	}
	return ""
}
