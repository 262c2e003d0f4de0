// Package dnsquery asks DNS servers. It accepts what real servers do: answers that are cut, lost packets, servers without
// EDNS0, and servers that do not answer SOA. It keeps no cache and no state.
package dnsquery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// UDPSize is the size of answers that passes every path unfragmented (DNS flag day 2020). What does not fit comes by TCP,
// which the library limits to 64 KiB.
const UDPSize = 1232

// Timeout is the default of one attempt. A resolver may need some seconds for a cold name.
const Timeout = 4 * time.Second

// ErrSilent marks an error of a server from which nothing came back.
var ErrSilent = errors.New("no answer")

// Question makes a question with EDNS0.
func Question(name string, qtype uint16, recurse bool) *dns.Msg {
	m := new(dns.Msg)
	m.SetQuestion(dns.Fqdn(name), qtype)
	m.RecursionDesired = recurse
	m.SetEdns0(UDPSize, false)
	return m
}

// Ask returns the answer of one server (host:port) to a question, whatever its code. It asks by UDP, once more after a loss
// and then without EDNS0, which some servers and firewalls drop, and by TCP when UDP fails or the answer was cut. A code
// that says that the server does not know EDNS0 (RFC 6891 section 7) makes it ask without. Timeout is of one attempt;
// 0: [Timeout]. The error wraps [ErrSilent] when no attempt was answered.
func Ask(ctx context.Context, server string, m *dns.Msg, timeout time.Duration) (*dns.Msg, error) {
	plain := m.Copy()
	plain.Extra = slices.DeleteFunc(plain.Extra, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeOPT })
	var last error
	for _, network := range []string{"udp", "udp", "tcp"} {
		in, err := understood(ctx, &dns.Client{Net: network, Timeout: cmp.Or(timeout, Timeout)}, server, m, plain)
		if err == nil && in.Truncated && network == "udp" {
			in, err = understood(ctx, &dns.Client{Net: "tcp", Timeout: cmp.Or(timeout, Timeout)}, server, m, plain)
		}
		if err == nil {
			return in, nil
		}
		if last, m = err, plain; ctx.Err() != nil {
			break
		}
	}
	q := plain.Question[0]
	return nil, fmt.Errorf("ask %s for %s %s: %w", server, q.Name, dns.TypeToString[q.Qtype], silent(last))
}

// understood asks once more without EDNS0 when the answer says that the server does not know it.
func understood(ctx context.Context, c *dns.Client, server string, m, plain *dns.Msg) (*dns.Msg, error) {
	in, err := exchange(ctx, c, server, m)
	if err == nil && noEDNS(in.Rcode) && m.IsEdns0() != nil {
		return exchange(ctx, c, server, plain)
	}
	return in, err
}

// noEDNS are the codes by which servers reject EDNS0, beside other things.
func noEDNS(code int) bool {
	return code == dns.RcodeFormatError || code == dns.RcodeNotImplemented || code == dns.RcodeBadVers
}

// silent marks the failures of the network.
func silent(err error) error {
	var network net.Error
	if errors.As(err, &network) || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%w: %w", ErrSilent, err)
	}
	return err
}

func exchange(ctx context.Context, c *dns.Client, server string, m *dns.Msg) (*dns.Msg, error) {
	in, _, err := c.ExchangeContext(ctx, m, server)
	if err != nil {
		return nil, err
	}
	if len(in.Question) == 0 && in.Response && in.Rcode != dns.RcodeSuccess && in.Rcode != dns.RcodeNameError {
		return in, nil // a server that did not understand the question need not repeat it
	}
	if !in.Response || len(in.Question) != 1 || in.Question[0].Qtype != m.Question[0].Qtype ||
		!strings.EqualFold(in.Question[0].Name, m.Question[0].Name) {
		return nil, errors.New("the answer is for another question")
	}
	return in, nil
}

// Code is the name of an answer's code.
func Code(code int) string {
	if text, ok := dns.RcodeToString[code]; ok {
		return text
	}
	return fmt.Sprintf("code %d", code)
}

// SystemServers are the resolvers of resolv.conf, as host:port.
func SystemServers() ([]string, error) {
	const path = "/etc/resolv.conf"
	conf, err := dns.ClientConfigFromFile(path)
	if err != nil {
		return nil, fmt.Errorf("find the resolvers of this machine: %w", err)
	}
	var list []string
	for _, s := range conf.Servers {
		list = append(list, net.JoinHostPort(s, conf.Port))
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("%s names no resolver", path)
	}
	return list, nil
}

// Lookup asks one question of a server of the caller's choice. It returns an answer of code NOERROR or NXDOMAIN.
type Lookup func(ctx context.Context, name string, qtype uint16) (*dns.Msg, error)

// Zone finds the zone that holds name: the closest ancestor with a SOA record of its own (RFC 1035 section 4.2). Where SOA
// is not answered or filtered, it is the closest with NS records of its own.
func Zone(ctx context.Context, name string, lookup Lookup) (string, error) {
	var first error
	for _, qtype := range []uint16{dns.TypeSOA, dns.TypeNS} {
		zone, err := apex(ctx, name, qtype, lookup)
		if err == nil && zone != "" {
			return zone, nil
		}
		first = cmp.Or(first, err)
		if ctx.Err() != nil {
			break
		}
	}
	return "", fmt.Errorf("find the zone of %s: %w", name, cmp.Or(first, errNoZone))
}

var errNoZone = errors.New("no SOA or NS record at it or at any parent")

func apex(ctx context.Context, name string, qtype uint16, lookup Lookup) (string, error) {
	for i, end := 0, false; !end; i, end = dns.NextLabel(name, i) {
		candidate := name[i:]
		m, err := lookup(ctx, candidate, qtype)
		if err != nil {
			return "", err
		}
		for _, rr := range m.Answer {
			_, soa := rr.(*dns.SOA)
			_, ns := rr.(*dns.NS)
			if (soa && qtype == dns.TypeSOA || ns && qtype == dns.TypeNS) && strings.EqualFold(rr.Header().Name, candidate) {
				return candidate, nil
			}
		}
	}
	return "", nil
}
