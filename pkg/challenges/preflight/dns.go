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

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// resolver asks recursive DNS servers, in order, until one answers.
type resolver struct {
	servers []string // host:port
	source  string   // where they are configured
	timeout time.Duration
	err     error // why there is no server
}

// newResolver takes the servers of resolv.conf when none is given.
func newResolver(server string, timeout time.Duration) *resolver {
	r := &resolver{servers: []string{server}, source: "probe.resolver", timeout: timeout}
	if server == "" {
		r.source = "/etc/resolv.conf"
		if r.servers, r.err = dnsquery.SystemServers(); r.err != nil {
			r.err = &silentError{r.err}
		}
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
	return nil, fmt.Errorf("%s %s: the resolver %s failed (SERVFAIL)", dns.TypeToString[qtype], name, strings.Join(r.servers, ", "))
}

// silentError says that no resolver answered, which says nothing about the name.
type silentError struct{ error }

func (e *silentError) Unwrap() error { return e.error }

// exchange asks the servers in turn.
func (r *resolver) exchange(ctx context.Context, name string, qtype uint16, unchecked bool) (*dns.Msg, error) {
	question := dnsquery.Question(name, qtype, true)
	question.IsEdns0().SetDo()
	question.CheckingDisabled = unchecked
	var errs []error
	silent := true
	for _, server := range r.servers {
		answer, err := dnsquery.Ask(ctx, server, question, min(r.timeout/3, dnsquery.Timeout))
		if err == nil && (answer.Rcode == dns.RcodeSuccess || answer.Rcode == dns.RcodeNameError || answer.Rcode == dns.RcodeServerFailure) {
			return answer, nil
		}
		if err == nil {
			err = fmt.Errorf("%s %s: the DNS server at %s says %s", dns.TypeToString[qtype], name, server, dnsquery.Code(answer.Rcode))
		}
		silent = silent && errors.Is(err, dnsquery.ErrSilent)
		if errs = append(errs, err); ctx.Err() != nil {
			break
		}
	}
	if silent {
		return nil, &silentError{fmt.Errorf("the resolver %s (%s) does not answer: %w", strings.Join(r.servers, ", "), r.source, errs[0])}
	}
	return nil, errors.Join(errs...)
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
				if alias := text.Short(strings.TrimSuffix(rr.Target, "."), text.Value); !slices.Contains(aliases, alias) {
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
				records = append(records, CAARecord{Critical: caa.Flag&128 != 0, Tag: text.Printable(caa.Tag), Value: text.Printable(caa.Value)})
			}
		}
		if len(records) > 0 {
			return records, zone, nil
		}
	}
	return nil, "", nil
}
