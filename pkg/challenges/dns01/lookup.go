package dns01

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// resolver asks recursive resolvers, in order, until one gives a usable answer.
type resolver struct {
	servers []string // host:port
}

// systemResolvers are those of resolv.conf.
func systemResolvers() ([]string, error) {
	list, err := dnsquery.SystemServers()
	if err != nil {
		return nil, fmt.Errorf("%w; set resolvers of the solver", err)
	}
	return list, nil
}

// lookup returns an answer of code NOERROR or NXDOMAIN. All else is an error of the resolvers, never of the name.
func (r resolver) lookup(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	var errs []error
	for _, server := range r.servers {
		m, err := dnsquery.Ask(ctx, server, dnsquery.Question(name, qtype, true), 0)
		if err == nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
			return m, nil
		}
		if err == nil {
			err = fmt.Errorf("resolver %s answers %s to %s %s", server, dnsquery.Code(m.Rcode), name, dns.TypeToString[qtype])
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, errors.Join(errs...)
}

// maxHops bounds a delegation. Resolvers of CAs follow about as many; in practice there is one hop.
const maxHops = 8

// delegated follows CNAMEs from name to the name that must hold the record. Unless always, a CNAME that a wildcard of the
// zone makes up is none: it leads to whatever the wildcard is for, often to a zone of somebody else, and the record that is
// set takes its place (RFC 4592 section 2.2.1).
func (r resolver) delegated(ctx context.Context, name string, always bool) (string, error) {
	chain := []string{name}
	for {
		target, err := r.cname(ctx, name)
		if err == nil && target != "" && !always {
			var wild bool
			if wild, err = r.fromWildcard(ctx, name, target); wild {
				return name, nil
			}
		}
		if err != nil {
			return "", err
		}
		if target == "" {
			return name, nil
		}
		chain = append(chain, target)
		path := strings.Join(chain, " -> ")
		switch {
		case slices.Contains(chain[:len(chain)-1], target):
			return "", fmt.Errorf("the CNAME delegation is a loop: %s", path)
		case len(chain) > maxHops+1:
			return "", fmt.Errorf("the CNAME delegation has more than %d hops: %s", maxHops, path)
		}
		name = target
	}
}

// fromWildcard reports whether a name that cannot exist has the same CNAME as its sibling. A DNAME also makes CNAMEs up,
// but each with a target of its own.
func (r resolver) fromWildcard(ctx context.Context, name, target string) (bool, error) {
	_, parent, _ := strings.Cut(name, ".")
	sibling := "_" + strings.ToLower(rand.Text()) + "." + parent
	if len(sibling) > dnsquery.MaxName {
		return false, nil
	}
	also, err := r.cname(ctx, sibling)
	return also == target, err
}

// cname returns the target of a name, or "" when it is no alias.
func (r resolver) cname(ctx context.Context, name string) (string, error) {
	m, err := r.lookup(ctx, name, dns.TypeCNAME)
	if err != nil {
		return "", err
	}
	return aliasIn(m, name)
}

func aliasIn(m *dns.Msg, name string) (string, error) {
	for _, rr := range m.Answer {
		alias, ok := rr.(*dns.CNAME)
		if !ok || !strings.EqualFold(alias.Hdr.Name, name) {
			continue
		}
		target := strings.ToLower(alias.Target)
		if !dnsquery.PlainName(target) {
			return "", fmt.Errorf("%s is an alias of %.300q, which is no host name", name, target)
		}
		return target, nil
	}
	return "", nil
}

// The bounds on the servers of one zone. The root has 13 names with two addresses each, and few zones have more.
const (
	maxServers   = 16
	maxAddresses = 8
)

// server is one name server at one address.
type server struct {
	name    string
	addr    string // host:port; "" when it has none that this host can reach
	recurse bool
	err     error // why it has no address
}

func (s server) String() string {
	if s.addr == "" {
		return strings.TrimSuffix(s.name, ".")
	}
	return fmt.Sprintf("%s (%s)", strings.TrimSuffix(s.name, "."), s.addr)
}

// authorities lists the authoritative servers of a zone at every address that this host has a route to. A server without
// such an address is listed once, with the reason.
func (r resolver) authorities(ctx context.Context, zone, port string) ([]server, error) {
	m, err := r.lookup(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, rr := range m.Answer {
		if ns, ok := rr.(*dns.NS); ok && strings.EqualFold(ns.Hdr.Name, zone) && len(names) < maxServers {
			names = append(names, strings.ToLower(ns.Ns))
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("zone %s has no name server", zone)
	}
	found := make([][]server, len(names))
	var wg guard.Group
	for i, name := range names {
		wg.Go(func() { found[i] = r.addresses(ctx, name, port) })
	}
	wg.Wait()
	return slices.Concat(found...), nil
}

func (r resolver) addresses(ctx context.Context, name, port string) []server {
	var list []server
	var errs []error
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m, err := r.lookup(ctx, name, qtype)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, rr := range m.Answer {
			s := server{name: name, addr: net.JoinHostPort(addressOf(rr), port)}
			if ordinary(addressOf(rr)) && len(list) < maxAddresses && routed(ctx, s.addr) {
				list = append(list, s)
			}
		}
	}
	if len(list) == 0 {
		errs = append(errs, fmt.Errorf("name server %s has no address that this host can reach", name))
		return []server{{name: name, err: errors.Join(errs...)}}
	}
	return list
}

func addressOf(rr dns.RR) string {
	switch a := rr.(type) {
	case *dns.A:
		return a.A.String()
	case *dns.AAAA:
		return a.AAAA.String()
	}
	return ""
}

// ordinary reports whether a server can have an address: one for special uses, which the kernel may take for this machine, was
// put into the record by somebody who wants acmed to connect there.
func ordinary(address string) bool {
	addr, err := netip.ParseAddr(address)
	addr = addr.Unmap()
	return err == nil && (certs.PublicAddr(addr) || addr.IsPrivate() || addr.IsLoopback())
}

// routed reports whether there is a route to a UDP address. It sends nothing. Hosts without IPv6 skip IPv6 servers so.
func routed(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}
