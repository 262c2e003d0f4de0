package setup

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/apache"
	"github.com/acmed/acmed/pkg/installers/nginx"
)

// The web servers.
const (
	Nginx  = "nginx"
	Apache = "apache"
)

// Server is a web server as the configuration describes it.
type Server struct {
	Kind     string         // Nginx or Apache
	Settings map[string]any // of its section under install; empty for that of the distribution
}

// Site is what one web server answers for under a set of names.
type Site struct {
	Server Server
	Names  []string
	Place  string            // file:line of the first block
	TLS    bool              // it answers with TLS already
	Roots  map[string]string // by name: the directory of the files that it serves for it, if it has one

	Certificates []string // the files with its certificates
}

// Settings reads KEY=VALUE pairs for a web server's section; values are YAML.
func Settings(pairs []string) (map[string]any, error) {
	settings := map[string]any{}
	for _, pair := range pairs {
		key, text, found := strings.Cut(pair, "=")
		if !found || key == "" {
			return nil, fmt.Errorf("%q is not KEY=VALUE", pair)
		}
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		settings[key] = value
	}
	return settings, nil
}

// httpd is Apache's program on most systems other than Debian.
const httpd = "/usr/sbin/httpd"

// Find lists the sites of the web servers of this machine, or of the one of the given kind. The settings belong to that
// one. A server that is not installed has none; one that cannot be read is in the error, beside what the others have.
func Find(ctx context.Context, kind string, settings map[string]any) ([]Site, error) {
	var sites []Site
	var errs []error
	for _, look := range []struct {
		kind, binary string
		sites        func(context.Context, map[string]any) ([]block, error)
	}{
		{Nginx, "/usr/sbin/nginx", nginxSites},
		{Apache, "/usr/sbin/apache2ctl", apacheSites},
		{Apache, httpd, apacheSites},
	} {
		if kind != "" && kind != look.kind {
			continue
		}
		own := settings["binary"] != nil
		if _, err := os.Stat(look.binary); err != nil && !own || slices.ContainsFunc(sites, func(s Site) bool { return s.Server.Kind == look.kind }) {
			continue
		}
		settings := settings
		if look.binary == httpd && !own && settings["layout"] == nil {
			settings = withHTTPD(settings)
		}
		blocks, err := look.sites(ctx, settings)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", look.kind, err))
		}
		sites = append(sites, merge(Server{Kind: look.kind, Settings: settings}, blocks)...)
	}
	return sites, errors.Join(errs...)
}

// withHTTPD adds where Apache is on systems other than Debian.
func withHTTPD(settings map[string]any) map[string]any {
	all := map[string]any{"binary": httpd}
	if _, err := os.Stat("/etc/httpd"); err == nil {
		all = map[string]any{"layout": "rhel"}
	}
	maps.Copy(all, settings)
	return all
}

// block is one server block or virtual host.
type block struct {
	names       []string
	place, root string
	tls         bool
	certificate string
}

func nginxSites(ctx context.Context, settings map[string]any) ([]block, error) {
	var cfg nginx.Config
	if err := decode(settings, &cfg, cfg.Validate); err != nil {
		return nil, err
	}
	sites, err := nginx.Sites(ctx, cfg)
	var list []block
	for _, s := range sites {
		list = append(list, block{s.Names, s.Place, s.Root, s.TLS, s.Certificate})
	}
	return list, err
}

func apacheSites(ctx context.Context, settings map[string]any) ([]block, error) {
	var cfg apache.Config
	if err := decode(settings, &cfg, cfg.Validate); err != nil {
		return nil, err
	}
	sites, err := apache.Sites(ctx, cfg)
	var list []block
	for _, s := range sites {
		list = append(list, block{s.Names, s.Place, s.Root, s.TLS, s.Certificate})
	}
	return list, err
}

// decode fills a plugin's section and validates it.
func decode(settings map[string]any, into any, validate func() error) error {
	d, err := mapstructure.NewDecoder(&mapstructure.DecoderConfig{
		Result: into, ErrorUnused: true, DecodeHook: mapstructure.StringToTimeDurationHookFunc(),
	})
	if err != nil {
		return err
	}
	if err := d.Decode(settings); err != nil {
		return err
	}
	return validate()
}

// merge makes sites of blocks: those that share a name belong together, as the plain and the TLS side of one site do.
func merge(server Server, blocks []block) []Site {
	var sites []Site
	for _, b := range blocks {
		site := Site{Server: server, Place: b.place, TLS: b.tls, Roots: map[string]string{}}
		site.add(b)
		if b.tls && b.certificate != "" {
			site.Certificates = []string{b.certificate}
		}
		rest := sites[:0]
		for _, old := range sites {
			if !old.sharesName(&site) {
				rest = append(rest, old)
				continue
			}
			old.join(&site)
			site = old
		}
		sites = append(rest, site)
	}
	return sites
}

func (s *Site) add(b block) {
	for _, name := range b.names {
		if !slices.Contains(s.Names, name) {
			s.Names = append(s.Names, name)
		}
		// What answers plain HTTP is what a CA sees.
		if b.root != "" && (s.Roots[name] == "" || !b.tls) {
			s.Roots[name] = b.root
		}
	}
}

func (s *Site) sharesName(other *Site) bool {
	return slices.ContainsFunc(s.Names, func(n string) bool { return slices.Contains(other.Names, n) })
}

// join takes the names of another site.
func (s *Site) join(other *Site) {
	for _, name := range other.Names {
		if !slices.Contains(s.Names, name) {
			s.Names = append(s.Names, name)
		}
		if !other.TLS {
			s.Roots[name] = cmp.Or(other.Roots[name], s.Roots[name])
		} else {
			s.Roots[name] = cmp.Or(s.Roots[name], other.Roots[name])
		}
	}
	s.TLS = s.TLS || other.TLS
	s.Certificates = append(s.Certificates, other.Certificates...)
}

// Serves returns the sites that have a name, itself or in a wildcard.
func Serves(sites []Site, name string) []Site {
	var list []Site
	for _, s := range sites {
		if _, ok := s.match(name); ok {
			list = append(list, s)
		}
	}
	return list
}

// match returns the name of the site that stands for a name.
func (s *Site) match(name string) (string, bool) {
	if slices.Contains(s.Names, name) {
		return name, true
	}
	if _, parent, found := strings.Cut(name, "."); found && slices.Contains(s.Names, "*."+parent) {
		return "*." + parent, true
	}
	return "", false
}

// Root is the directory of the files that the site serves for a name; "" when there is none.
func (s *Site) Root(name string) string {
	if as, ok := s.match(name); ok {
		return s.Roots[as]
	}
	return ""
}

// Public keeps the names for which a public CA issues certificates without dns-01.
func Public(names []string) []string {
	var list []string
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err == nil && id.Type == certs.DNS && !id.IsWildcard() && certs.CheckPublic(id) == nil {
			list = append(list, name)
		}
	}
	return list
}

// Webroots makes the solvers that write into the directories of web servers: one for each directory, for its names. They
// are called after the certificate.
func Webroots(certificate string, names []string, root func(name string) string) (solvers []Solver, without []string) {
	var order []string
	zones := map[string][]string{}
	for _, name := range names {
		dir := root(name)
		if dir == "" {
			without = append(without, name)
			continue
		}
		if zones[dir] == nil {
			order = append(order, dir)
		}
		zones[dir] = append(zones[dir], name)
	}
	for i, dir := range order {
		s := Solver{Name: certificate + "-webroot", HTTP01: &HTTP01{Webroot: dir}}
		if len(order) > 1 {
			s.Name, s.Zones = fmt.Sprintf("%s-webroot-%d", certificate, i+1), zones[dir]
		}
		solvers = append(solvers, s)
	}
	return solvers, without
}
