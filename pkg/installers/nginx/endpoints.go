package nginx

import (
	"slices"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// endpoints are where the bundle must be served: each name at each TLS socket of its block, or at the addresses that the
// operator gave.
func (p *planner) endpoints(m *model) ([]endpoint.Endpoint, error) {
	if len(p.cfg.Verify) > 0 {
		return endpoint.Given(p.cfg.Verify, p.names)
	}
	var list []endpoint.Endpoint
	for _, k := range p.picks {
		s := m.servers[k.Site.index]
		groups := m.tlsGroups(s)
		for _, g := range groups {
			if g.socket.port == 0 {
				continue
			}
			at := g.socket.dial()
			if g.has("proxy_protocol") {
				return nil, s.d.errorf("only a proxy can connect to %s (PROXY protocol): set \"verify\" to the address that clients use", g.socket)
			}
			if other := m.sockets[at]; other != nil && !slices.Contains(other.servers, s) {
				return nil, s.d.errorf("connections to %s go to another server block: set \"verify\" to the address that clients use", at)
			}
			list = append(list, namesAt(g, s, at.String(), p.names)...)
		}
		if len(groups) > 0 && len(list) == 0 {
			return nil, s.d.errorf("there is no address to verify the certificate at: set \"verify\" to the address that clients use")
		}
	}
	return list, nil
}

// namesAt are the names for which s is chosen at a socket.
func namesAt(g *group, s *server, addr string, names []certs.Identifier) []endpoint.Endpoint {
	var list []endpoint.Endpoint
	for _, id := range names {
		if chosen, how := g.answer(id); chosen == s && (how == byName || g.meantFor(id)) {
			list = append(list, endpoint.Endpoint{Addr: addr, ServerName: endpoint.ProbeName(id)})
		}
	}
	return list
}
