package apache

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// served is what a configuration as it stands makes of the names of one certificate.
type served struct {
	cfg    Config
	m      *model // with acmed's own lines in place
	target installers.Target
	names  []certs.Identifier
}

// endpoints are where the bundle must be served: each name at each address of its virtual host, or at the addresses that
// the operator gave. A name that no virtual host of the certificate answers with TLS is an error.
func (s *served) endpoints() ([]endpoint.Endpoint, error) {
	finder := picker{m: s.m, port: s.cfg.Listen}
	var list []endpoint.Endpoint
	var errs []error
	for _, id := range s.names {
		l := finder.look(id, finder.secure)
		vhosts := l.named
		if len(vhosts) == 0 {
			vhosts = l.defaults
		}
		if len(vhosts) == 0 {
			errs = append(errs, fmt.Errorf("no Apache virtual host answers for %q on port %d", id.Value, s.cfg.Listen))
		}
		for _, v := range vhosts {
			switch {
			case v.err != nil:
				errs = append(errs, v.err)
			case !s.m.tls(v) || !s.points(v):
				errs = append(errs, v.errorf("this virtual host answers for %q on port %d, and does not use the certificate %q", id.Value, s.cfg.Listen, s.target.Certificate))
			}
			found, err := s.addresses(id, v)
			errs = append(errs, err)
			list = append(list, found...)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if len(s.cfg.Verify) > 0 {
		return endpoint.Given(s.cfg.Verify, s.names)
	}
	return list, nil
}

// points reports whether a virtual host names the lineage's files.
func (s *served) points(v *vhost) bool {
	return slices.ContainsFunc(v.own("SSLCertificateFile"), func(d *directive) bool { return s.m.path(d) == s.target.FullChain })
}

// addresses are where one virtual host answers for an identifier. An address that leads to another one is left out when there
// are others.
func (s *served) addresses(id certs.Identifier, v *vhost) ([]endpoint.Endpoint, error) {
	if len(s.cfg.Verify) > 0 {
		return nil, nil
	}
	var list []endpoint.Endpoint
	var elsewhere error
	for _, g := range s.m.groups {
		if chosen, _ := g.choose(id); chosen != v || !s.m.reaches(g, s.cfg.Listen) {
			continue
		}
		for _, host := range s.dial(g) {
			if other := s.m.at(host, s.cfg.Listen); other != nil && other != g {
				if chosen, _ := other.choose(id); chosen != v {
					elsewhere = v.errorf("connections to %s go to another virtual host: set \"verify\" to the address that clients use", host)
					continue
				}
			}
			e := endpoint.Endpoint{Addr: net.JoinHostPort(host, strconv.Itoa(s.cfg.Listen)), ServerName: endpoint.ProbeName(id)}
			if !slices.Contains(list, e) {
				list = append(list, e)
			}
		}
	}
	if len(list) == 0 {
		return nil, elsewhere
	}
	return list, nil
}

// dial are addresses of this machine at which a group answers: loopback where Apache listens on all.
func (s *served) dial(g *group) []string {
	if g.host != "*" {
		return []string{g.host}
	}
	var hosts []string
	for _, l := range s.m.listens() {
		if l.port == s.cfg.Listen && l.host != "" {
			hosts = append(hosts, l.host)
		}
	}
	if len(hosts) == 0 {
		return []string{"127.0.0.1"}
	}
	return hosts
}

// at is the group that connections to an address go to: the one of the very address, or else one of all addresses.
func (m *model) at(host string, port int) *group {
	for _, exact := range []bool{true, false} {
		for _, g := range m.groups {
			if m.reaches(g, port) && (exact && sameIP(g.host, host) || !exact && g.host == "*") {
				return g
			}
		}
	}
	return nil
}

// unharmed makes sure that every name which the virtual hosts on the TLS port had before is still answered by the same
// one, except the names of the certificate.
func (s *served) unharmed(before *model) error {
	var errs []error
	for _, g := range before.groups {
		if g.port != s.cfg.Listen || len(g.vhosts) == 0 {
			continue
		}
		now := s.m.group(g.host, g.port)
		if now == nil {
			return fmt.Errorf("%s:%d has no virtual host any more", g.host, g.port)
		}
		if was, is := g.vhosts[0], now.vhosts[0]; was.identity(before) != is.identity(s.m) {
			errs = append(errs, is.errorf("this virtual host would come before %s:%d and answer for all unknown names in its place", was.file, was.line))
		}
		for _, v := range g.vhosts {
			for _, name := range v.names {
				was, _ := g.answer(name)
				is, _ := now.answer(name)
				if was.identity(before) != is.identity(s.m) && !s.covers(name) {
					errs = append(errs, is.errorf("this virtual host would take %q away from %s:%d", name, was.file, was.line))
				}
			}
		}
	}
	return errors.Join(errs...)
}

func (s *served) covers(name string) bool {
	return slices.ContainsFunc(s.names, func(id certs.Identifier) bool { return strings.EqualFold(id.Value, name) })
}

func (m *model) group(host string, port int) *group {
	for _, g := range m.groups {
		if g.host == host && g.port == port {
			return g
		}
	}
	return nil
}

// identity tells a virtual host from others however many lines are added to its file: the file, and how many virtual
// hosts come before it there.
func (v *vhost) identity(m *model) string {
	n := 0
	for _, other := range m.vhosts {
		if other.file == v.file && other.line < v.line {
			n++
		}
	}
	return v.file + "#" + strconv.Itoa(n)
}
