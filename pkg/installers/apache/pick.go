package apache

import (
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// httpPort is where clients look for a site without TLS.
const httpPort = 80

// pick is a virtual host that answers for names of the certificate. One that has no TLS gets a twin on the TLS port.
type pick = webserver.Pick[*vhost]

// picker finds the virtual hosts for the names of one certificate.
type picker struct {
	m    *model
	port int // where TLS is served
}

// pickAll finds the virtual hosts for the names, and leaves out the names that have none.
func pickAll(m *model, cfg *Config, names []certs.Identifier) (webserver.Picks[*vhost], error) {
	finder := picker{m: m, port: cfg.Listen}
	return webserver.PickAll(names, len(cfg.Names) > 0, finder.pickOne)
}

// pickOne prefers a virtual host that has the name: on the TLS port, then on port 80, then on another port. After them
// come those that answer for every name that nobody has.
func (p *picker) pickOne(id certs.Identifier) ([]*pick, error) {
	looks := []look{
		p.look(id, p.secure),
		p.look(id, func(g *group, v *vhost) bool { return !p.secure(g, v) && p.m.reaches(g, httpPort) }),
		p.look(id, func(g *group, v *vhost) bool {
			return !p.m.tls(v) && !p.secure(g, v) && g.port != httpPort && g.port != 0
		}),
	}
	for i, l := range looks {
		if len(l.named) > 0 {
			return p.picks(id, l.named, i == 0, false)
		}
	}
	for i, l := range looks {
		if len(l.defaults) > 0 {
			return p.picks(id, l.defaults, i == 0, true)
		}
	}
	other := p.look(id, func(g *group, v *vhost) bool { return p.m.tls(v) && g.port != p.port })
	if len(other.named) > 0 {
		return nil, other.named[0].errorf("this virtual host answers for %q with TLS, and not on port %d: set \"listen\" to its port", id.Value, p.port)
	}
	return nil, &webserver.NoSiteError{
		Name: id.Value, Site: "Apache virtual host", Remedy: "add it to a ServerName or ServerAlias, or list the names that Apache serves under \"names\"",
	}
}

// secure reports whether a virtual host is where TLS is served: on the TLS port, or on all ports and with TLS.
func (p *picker) secure(g *group, v *vhost) bool {
	return g.port == p.port || p.m.reaches(g, p.port) && p.m.tls(v)
}

// reaches reports whether connections to a port arrive at a group with the address: one for all ports gets those that no
// group of the same host has for itself.
func (m *model) reaches(g *group, port int) bool {
	return g.port == port || g.port == 0 && m.group(g.host, port) == nil
}

// look is which virtual hosts answer for one name.
type look struct{ named, defaults []*vhost }

func (p *picker) look(id certs.Identifier, wanted func(*group, *vhost) bool) look {
	var l look
	for _, g := range p.m.groups {
		v, byName := g.choose(id)
		switch {
		case v == nil || !wanted(g, v) || g.host == "*" && p.hasOwnAddress(id, wanted):
		case byName:
			l.named = webserver.AppendNew(l.named, v)
		case id.Type == certs.IP || v.catchAll && !id.IsWildcard():
			l.defaults = webserver.AppendNew(l.defaults, v)
		}
	}
	return l
}

// hasOwnAddress reports whether connections to an IP address go to virtual hosts for this very address.
func (p *picker) hasOwnAddress(id certs.Identifier, wanted func(*group, *vhost) bool) bool {
	return id.Type == certs.IP && slices.ContainsFunc(p.m.groups, func(g *group) bool {
		return sameIP(g.host, id.Value) && len(g.vhosts) > 0 && wanted(g, g.vhosts[0])
	})
}

func (p *picker) picks(id certs.Identifier, vhosts []*vhost, tls, isDefault bool) ([]*pick, error) {
	for _, v := range vhosts {
		if v.err != nil {
			return nil, fmt.Errorf("the virtual host of %q: %w", id.Value, v.err)
		}
	}
	return webserver.NewPicks(id, vhosts, tls, isDefault), nil
}

// choose is the virtual host that answers for an identifier, as ap_update_vhost_from_headers chooses: the first one with
// a name or a wildcard that fits, or else the first one. For a wildcard identifier it is one with this very wildcard. A
// client that connects to an IP address sends no name (RFC 6066 section 3); nil when the group has another address.
func (g *group) choose(id certs.Identifier) (v *vhost, byName bool) {
	if len(g.vhosts) == 0 || id.Type == certs.IP && g.host != "*" && !sameIP(g.host, id.Value) {
		return nil, false
	}
	if id.Type == certs.IP {
		return g.vhosts[0], false
	}
	return g.answer(id.Value)
}

func (g *group) answer(name string) (v *vhost, byName bool) {
	for _, v := range g.vhosts {
		if slices.ContainsFunc(v.names, func(n string) bool { return n == name || !strings.HasPrefix(name, "*.") && wildcard(n, name) }) {
			return v, true
		}
	}
	return g.vhosts[0], false
}

// wildcard matches "*" against any characters, dots included, and "?" against one (ap_strcasecmp_match).
func wildcard(pattern, name string) bool {
	if !strings.ContainsAny(pattern, "*?") || strings.ContainsAny(pattern, `[]\/`) {
		return false
	}
	ok, err := path.Match(pattern, name)
	return err == nil && ok
}

func sameIP(a, b string) bool {
	ip, err := netip.ParseAddr(a)
	other, err2 := netip.ParseAddr(b)
	return err == nil && err2 == nil && ip.Unmap() == other.Unmap()
}
