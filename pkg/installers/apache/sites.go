package apache

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers/webserver"
)

// Sites lists the virtual hosts that have a name a public certificate can have, ordered by file and line. It asks Apache,
// reads the configuration, and changes nothing.
func Sites(ctx context.Context, cfg Config) ([]webserver.Site, error) {
	m, err := (&editor{cfg: cfg.withDefaults()}).Read(ctx)
	if err != nil {
		return nil, err
	}
	byPlace := func(a, b *vhost) int {
		if c := strings.Compare(a.file, b.file); c != 0 {
			return c
		}
		return a.line - b.line
	}
	var sites []webserver.Site
	for _, v := range slices.SortedFunc(slices.Values(m.vhosts), byPlace) {
		site := webserver.Site{
			Names: webserver.PublicNames(v.names), Place: fmt.Sprintf("%s:%d", v.file, v.line), TLS: m.tls(v),
		}
		if v.servesFiles() {
			site.Root = m.documentRoot(v)
		}
		if list := v.own("SSLCertificateFile"); len(list) > 0 {
			site.Certificate = m.path(list[len(list)-1])
		}
		if len(site.Names) > 0 && !v.catchAll {
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
