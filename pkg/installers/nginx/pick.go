package nginx

import (
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// pick is a server block that answers for names of the certificate.
type pick = webserver.Pick[*server]

// picker finds the server blocks for the names of one certificate.
type picker struct {
	m    *model
	port int // where TLS is served
}

// pickOne prefers a block that answers for the name with TLS, then one that answers without, then the default servers.
func (p *picker) pickOne(id certs.Identifier) ([]*pick, error) {
	looks := []look{
		p.look(id, true, func(port int) bool { return port == p.port }),
		p.look(id, false, func(port int) bool { return port == 80 }),
		p.look(id, false, func(port int) bool { return port != 80 && port != p.port }),
	}
	for _, l := range looks {
		if len(l.named) > 0 {
			return p.picks(id, l.named, l.tls, false)
		}
		if l.regex != nil {
			return nil, l.regex.d.errorf("a regular expression in this server block may match %q, which only nginx can tell: "+
				"write the name itself into server_name", id.Value)
		}
	}
	for _, l := range looks {
		if len(l.defaults) > 0 {
			return p.picks(id, l.defaults, l.tls, true)
		}
	}
	if other := p.look(id, true, func(port int) bool { return port != p.port }); len(other.named) > 0 {
		s := other.named[0]
		return nil, s.d.errorf("this server block answers for %q with TLS, and not on port %d: set \"listen\" to its port", id.Value, p.port)
	}
	remedy := "list the names that nginx serves under \"names\""
	if !id.IsWildcard() {
		remedy = "add it to a server_name, or " + remedy
	}
	return nil, &webserver.NoSiteError{Name: id.Value, Site: "nginx server block", Remedy: remedy}
}

// look is which blocks answer for one name at the sockets of one kind.
type look struct {
	tls      bool
	named    []*server
	defaults []*server
	regex    *server
}

func (p *picker) look(id certs.Identifier, tls bool, wanted func(port int) bool) look {
	l := look{tls: tls}
	for _, g := range p.m.groups {
		if g.socket.port == 0 || !wanted(g.socket.port) {
			continue
		}
		s, how := p.m.answer(g, id)
		if s == nil || g.tls(s) != tls {
			continue
		}
		switch {
		case how == byName:
			l.named = webserver.AppendNew(l.named, s)
		case how == byRegex:
			l.regex = s
		case g.meantFor(id):
			l.defaults = webserver.AppendNew(l.defaults, s)
		}
	}
	return l
}

// meantFor reports whether the operator meant the default server of the socket to answer for an identifier that it does
// not name: it was made the default or is the only one, and it names no host of its own. For an IP address there is no
// other way to answer, so there the names do not count.
func (g *group) meantFor(id certs.Identifier) bool {
	s, chosen := g.defaultServer()
	return chosen && (id.Type == certs.IP || !slices.ContainsFunc(s.names, func(n string) bool { return strings.Contains(n, ".") }))
}

// answer chooses a block for an identifier. A client that connects to an IP address sends no name (RFC 6066 section 3),
// so TLS is answered by the default server of a socket with that address, or of one with all addresses if there is none;
// nil when the socket has another one.
func (m *model) answer(g *group, id certs.Identifier) (*server, match) {
	if id.Type != certs.IP {
		return g.choose(id.Value)
	}
	at := g.socket
	if at.host != id.Value && (!at.isAny() || at.is6() != strings.Contains(id.Value, ":") || m.sockets[socket{id.Value, at.port}] != nil) {
		return nil, byDefault
	}
	return g.fallback(), byDefault
}

func (p *picker) picks(id certs.Identifier, servers []*server, tls, isDefault bool) ([]*pick, error) {
	if !tls && !samePort(servers) {
		return nil, servers[0].d.errorf("this server block and %s answer for %q on different ports: give the one that is meant \"listen %d ssl\"",
			servers[1].d.place(), id.Value, p.port)
	}
	return webserver.NewPicks(id, servers, tls, isDefault), nil
}

// samePort reports whether the plain listens that would get a TLS twin have one port in common.
func samePort(servers []*server) bool {
	if len(servers) == 1 {
		return true
	}
	port := 0
	for _, s := range servers {
		for _, l := range s.plainListens() {
			if port != 0 && l.port != port {
				return false
			}
			port = l.port
		}
	}
	return true
}

// plainListens are the listen directives that get a TLS twin: those on port 80, or else all that speak no TLS.
func (s *server) plainListens() []listen {
	var on80, others []listen
	for _, l := range s.listens {
		switch {
		case l.isUnix() || l.has("ssl") || l.has("quic") || s.sslOn():
		case l.hasPort(80):
			on80 = append(on80, l)
		default:
			others = append(others, l)
		}
	}
	if len(on80) > 0 {
		return on80
	}
	return others
}
