package nginx

import (
	"slices"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// endpoints are where the bundle must be served: each name at each TLS socket of its block, or at the addresses that the
// operator gave. A socket at which it cannot be proved is left out when another one proves the name.
func (p *planner) endpoints(m *model) ([]endpoint.Endpoint, error) {
	if len(p.cfg.Verify) > 0 {
		return endpoint.Given(p.cfg.Verify, p.names)
	}
	var list []endpoint.Endpoint
	for _, k := range p.picks {
		s := m.servers[k.Site.index]
		proved := map[certs.Identifier]bool{}
		reasons := map[certs.Identifier]error{}
		groups := m.tlsGroups(s)
		for _, g := range groups {
			reason := m.unprovable(g, s)
			for _, id := range p.names {
				switch {
				case !m.meant(g, s, id):
				case reason != nil:
					reasons[id] = reason
				default:
					proved[id] = true
					list = append(list, endpoint.Endpoint{Addr: g.socket.dial().String(), ServerName: endpoint.ProbeName(id)})
				}
			}
		}
		for _, id := range p.names {
			if !proved[id] && reasons[id] != nil {
				return nil, reasons[id]
			}
		}
		if len(groups) > 0 && len(list) == 0 {
			return nil, s.d.errorf("there is no address to verify the certificate at: set \"verify\" to the address that clients use")
		}
	}
	return list, nil
}

// unprovable is why a block cannot be looked at through one of its sockets, or nil.
func (m *model) unprovable(g *group, s *server) error {
	at := g.socket.dial()
	switch other := m.sockets[at]; {
	case g.socket.port == 0:
		return s.d.errorf("only programs of this machine can connect to %s: set \"verify\" to the address that clients use", g.socket)
	case g.has("proxy_protocol"):
		return s.d.errorf("only a proxy can connect to %s (PROXY protocol): set \"verify\" to the address that clients use", g.socket)
	case other != nil && !slices.Contains(other.servers, s):
		return s.d.errorf("connections to %s go to another server block: set \"verify\" to the address that clients use", at)
	}
	return nil
}

// meant reports whether s is chosen for a name at a socket, and not only because nothing else is there.
func (m *model) meant(g *group, s *server, id certs.Identifier) bool {
	chosen, how := m.answer(g, id)
	return chosen == s && (how == byName || g.meantFor(id))
}
