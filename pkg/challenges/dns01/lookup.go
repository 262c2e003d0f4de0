package dns01

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// The bounds of one question. A recursive resolver may need some seconds for a cold name, so a question gets five and the
// next resolver is asked then. 1232 bytes is the size that passes every path unfragmented (DNS flag day 2020); what does
// not fit comes by TCP, which the library limits to 64 KiB.
const (
	queryTimeout = 5 * time.Second
	udpSize      = 1232
)

// resolver asks recursive resolvers, in order, until one gives a usable answer.
type resolver struct {
	servers []string // host:port
}

// systemResolvers are those of resolv.conf.
func systemResolvers() ([]string, error) {
	const path = "/etc/resolv.conf"
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("no resolvers are configured and the system's cannot be read: %w", err)
	}
	var list []string
	for _, s := range conf.Servers {
		list = append(list, net.JoinHostPort(s, conf.Port))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no resolvers are configured and %s names none; set resolvers of the solver", path)
	}
	return list, nil
}

// lookup returns an answer of code NOERROR or NXDOMAIN. All else is an error of the resolvers, never of the name.
func (r resolver) lookup(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	var errs []error
	for _, server := range r.servers {
		m, err := ask(ctx, server, question(name, qtype, true))
		if err == nil && (m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError) {
			return m, nil
		}
		if err == nil {
			err = fmt.Errorf("resolver %s answers %s to %s %s", server, rcode(m.Rcode), name, dns.TypeToString[qtype])
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
	}
	return nil, errors.Join(errs...)
}

func question(name string, qtype uint16, recurse bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.RecursionDesired = recurse
	m.SetEdns0(udpSize, false)
	return m
}

// ask sends a question by UDP, and by TCP when the answer was cut. The answer is one to this question.
func ask(ctx context.Context, server string, m *dns.Msg) (*dns.Msg, error) {
	in, err := exchange(ctx, &dns.Client{Net: "udp", Timeout: queryTimeout}, server, m)
	if err == nil && in.Truncated {
		in, err = exchange(ctx, &dns.Client{Net: "tcp", Timeout: queryTimeout}, server, m)
	}
	if err != nil {
		q := m.Question[0]
		return nil, fmt.Errorf("ask %s for %s %s: %w", server, q.Name, dns.TypeToString[q.Qtype], err)
	}
	return in, nil
}

func exchange(ctx context.Context, c *dns.Client, server string, m *dns.Msg) (*dns.Msg, error) {
	in, _, err := c.ExchangeContext(ctx, m, server)
	if err != nil {
		return nil, err
	}
	if !in.Response || len(in.Question) != 1 || in.Question[0].Qtype != m.Question[0].Qtype ||
		!strings.EqualFold(in.Question[0].Name, m.Question[0].Name) {
		return nil, errors.New("the answer is for another question")
	}
	return in, nil
}

func rcode(code int) string {
	if text, ok := dns.RcodeToString[code]; ok {
		return text
	}
	return fmt.Sprintf("code %d", code)
}

// maxHops bounds a delegation. Resolvers of CAs follow about as many; in practice there is one hop.
const maxHops = 8

// delegated follows CNAMEs from name to the name that must hold the record.
func (r resolver) delegated(ctx context.Context, name string) (string, error) {
	chain := []string{name}
	for {
		target, err := r.cname(ctx, name)
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
		if !plainName(target) {
			return "", fmt.Errorf("%s is an alias of %.300q, which is no host name", name, target)
		}
		return target, nil
	}
	return "", nil
}

// plainName accepts letters, digits, hyphens and underscores in labels, with a final dot. Names reach the arguments of
// programs and the bodies of requests, so nothing else may pass.
func plainName(name string) bool {
	if len(name) < 2 || len(name) > 254 || !strings.HasSuffix(name, ".") || strings.Contains(name, "..") || name[0] == '.' {
		return false
	}
	return strings.IndexFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	}) < 0
}

// zoneOf finds the zone that holds name: the closest ancestor with a SOA record of its own (RFC 1035 section 4.2), asked
// through lookup so that a provider can ask its own server.
func zoneOf(ctx context.Context, name string, lookup func(ctx context.Context, name string, qtype uint16) (*dns.Msg, error)) (string, error) {
	for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
		candidate := name[i:]
		m, err := lookup(ctx, candidate, dns.TypeSOA)
		if err != nil {
			return "", fmt.Errorf("find the zone of %s: %w", name, err)
		}
		for _, rr := range m.Answer {
			if soa, ok := rr.(*dns.SOA); ok && strings.EqualFold(soa.Hdr.Name, candidate) {
				return candidate, nil
			}
		}
	}
	return "", fmt.Errorf("find the zone of %s: no SOA record at it or at any parent", name)
}

// The bounds on the servers of one zone. The root has 13 names with two addresses each, and few zones have more.
const (
	maxServers   = 16
	maxAddresses = 8
)

// server is one name server at one address.
type server struct {
	name    string
	addr    string // host:port
	recurse bool
}

func (s server) String() string {
	return fmt.Sprintf("%s (%s)", strings.TrimSuffix(s.name, "."), s.addr)
}

// authorities lists the authoritative servers of a zone at every address that this host has a route to.
func (r resolver) authorities(ctx context.Context, zone, port string) ([]server, error) {
	m, err := r.lookup(ctx, zone, dns.TypeNS)
	if err != nil {
		return nil, err
	}
	var list []server
	names := 0
	for _, rr := range m.Answer {
		ns, ok := rr.(*dns.NS)
		if !ok || !strings.EqualFold(ns.Hdr.Name, zone) {
			continue
		}
		if names++; names > maxServers {
			break
		}
		addrs, err := r.addresses(ctx, strings.ToLower(ns.Ns), port)
		if err != nil {
			return nil, err
		}
		list = append(list, addrs...)
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("zone %s has no name server", zone)
	}
	return list, nil
}

func (r resolver) addresses(ctx context.Context, name, port string) ([]server, error) {
	var list []server
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		m, err := r.lookup(ctx, name, qtype)
		if err != nil {
			return nil, err
		}
		for _, rr := range m.Answer {
			s := server{name: name, addr: net.JoinHostPort(addressOf(rr), port)}
			if addressOf(rr) != "" && len(list) < maxAddresses && routed(ctx, s.addr) {
				list = append(list, s)
			}
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("name server %s has no address that this host can reach", name)
	}
	return list, nil
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

// routed reports whether there is a route to a UDP address. It sends nothing. Hosts without IPv6 skip IPv6 servers so.
func routed(ctx context.Context, addr string) bool {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", addr)
	if err != nil {
		return false
	}
	_ = conn.Close() // nothing was sent
	return true
}
