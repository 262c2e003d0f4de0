package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// resolver asks one recursive DNS server.
type resolver struct {
	server  string // host:port
	timeout time.Duration
	err     error // why there is no server
}

// newResolver takes the first server of resolv.conf when none is given.
func newResolver(server string, timeout time.Duration) *resolver {
	r := &resolver{server: server, timeout: timeout}
	if server != "" {
		return r
	}
	conf, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	switch {
	case err != nil:
		r.err = fmt.Errorf("find the DNS server of this machine: %w", err)
	case len(conf.Servers) == 0:
		r.err = errors.New("/etc/resolv.conf names no DNS server")
	default:
		r.server = net.JoinHostPort(conf.Servers[0], conf.Port)
	}
	return r
}

// errBogus means that the server answers only when it is told not to validate.
var errBogus = errors.New("DNSSEC validation fails")

// ask returns the answer to one question. NXDOMAIN and an empty answer are no errors.
func (r *resolver) ask(ctx context.Context, name string, qtype uint16) (*dns.Msg, error) {
	if r.err != nil {
		return nil, r.err
	}
	answer, err := r.exchange(ctx, name, qtype, false)
	if err != nil || answer.Rcode != dns.RcodeServerFailure {
		return answer, err
	}
	unchecked, err := r.exchange(ctx, name, qtype, true)
	if err == nil && unchecked.Rcode != dns.RcodeServerFailure {
		return nil, errBogus
	}
	return nil, fmt.Errorf("%s %s: the DNS server at %s failed (SERVFAIL)", dns.TypeToString[qtype], name, r.server)
}

// exchange asks over UDP, once more after a loss, and over TCP when the answer was cut.
func (r *resolver) exchange(ctx context.Context, name string, qtype uint16, unchecked bool) (*dns.Msg, error) {
	question := new(dns.Msg).SetQuestion(dns.Fqdn(name), qtype)
	question.SetEdns0(1232, true) // the size that passes everywhere (DNS flag day 2020)
	question.CheckingDisabled = unchecked
	var last error
	for _, network := range []string{"udp", "udp", "tcp"} {
		client := &dns.Client{Net: network, Timeout: r.timeout / 2}
		answer, _, err := client.ExchangeContext(ctx, question, r.server)
		switch {
		case err != nil:
			last = err
		case answer.Truncated && network != "tcp":
			last = errors.New("the answer was cut")
		case answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError && answer.Rcode != dns.RcodeServerFailure:
			return nil, fmt.Errorf("%s %s: the DNS server at %s says %s", dns.TypeToString[qtype], name, r.server, dns.RcodeToString[answer.Rcode])
		default:
			return answer, nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("%s %s: the DNS server at %s does not answer: %w", dns.TypeToString[qtype], name, r.server, last)
}

// maxAddresses bounds the probes of one name.
const maxAddresses = 16

// addresses looks up A and AAAA records, with the aliases on the way to them.
func (r *resolver) addresses(ctx context.Context, name string) (list []netip.Addr, aliases []string, err error) {
	exists := false
	for _, qtype := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := r.ask(ctx, name, qtype)
		if err != nil {
			return nil, nil, err
		}
		exists = exists || answer.Rcode == dns.RcodeSuccess
		for _, rr := range answer.Answer {
			switch rr := rr.(type) {
			case *dns.A:
				list = appendAddr(list, rr.A)
			case *dns.AAAA:
				list = appendAddr(list, rr.AAAA)
			case *dns.CNAME:
				if alias := printable(strings.TrimSuffix(rr.Target, ".")); !slices.Contains(aliases, alias) {
					aliases = append(aliases, alias)
				}
			}
		}
	}
	switch {
	case !exists:
		return nil, aliases, errors.New("the name does not exist (NXDOMAIN)")
	case len(list) == 0:
		return nil, aliases, errors.New("the name has no address (neither A nor AAAA)")
	}
	return list[:min(len(list), maxAddresses)], aliases, nil
}

func appendAddr(list []netip.Addr, ip net.IP) []netip.Addr {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok || slices.Contains(list, addr.Unmap()) {
		return list
	}
	return append(list, addr.Unmap())
}

// caa finds the records that apply to a name: its own, or those of the closest parent that has some (RFC 8659
// section 3).
func (r *resolver) caa(ctx context.Context, name string) (records []CAARecord, zone string, err error) {
	for zone = name; zone != ""; _, zone, _ = strings.Cut(zone, ".") {
		answer, err := r.ask(ctx, zone, dns.TypeCAA)
		if err != nil {
			return nil, "", err
		}
		for _, rr := range answer.Answer {
			if caa, ok := rr.(*dns.CAA); ok {
				records = append(records, CAARecord{Critical: caa.Flag&128 != 0, Tag: clean(caa.Tag), Value: clean(caa.Value)})
			}
		}
		if len(records) > 0 {
			return records, zone, nil
		}
	}
	return nil, "", nil
}
