package dns01

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// tlsaProvider is a provider that writes other records than TXT, which only rfc2136 is. Those of acmed-dns cannot: lego's
// challenge.Provider is Present and CleanUp of one TXT record, none of its providers writes TLSA records, and their clients of
// the services are internal to lego.
type tlsaProvider interface {
	Add(ctx context.Context, rr dns.RR) error
	Remove(ctx context.Context, rr dns.RR) error
}

// NewObserver returns a solver without a provider, that only looks: at TLSA records which somebody else publishes.
func NewObserver(now func() time.Time) *Solver {
	return &Solver{
		now: now, resolvers: systemResolvers, locks: &Locks{},
		wait: propagation{kind: Authoritative, port: "53", timeout: defaultPropagationTimeout, interval: defaultPollInterval, grace: defaultGrace},
	}
}

// LookTLSA lists the records with selector 1 and matching type 1 that every authoritative server that answers has at a name,
// at least one of them, and the longest time for which resolvers remember them. CNAMEs are followed as for TXT records. It
// is an error when the answers are not signed, the parent zone does not name the keys, or no resolver has validated that the
// parent does.
func (s *Solver) LookTLSA(ctx context.Context, name string) (list []certs.TLSA, ttl time.Duration, err error) {
	net, fqdn, err := s.tlsaName(ctx, name)
	if err != nil {
		return nil, 0, err
	}
	sets, err := net.signed(ctx, fqdn, s.now())
	if err != nil {
		return nil, 0, fmt.Errorf("look at the TLSA records of %s: %w", name, err)
	}
	for n, set := range sets {
		var here []certs.TLSA
		for _, rr := range set {
			if t, ok := rr.(*dns.TLSA); ok && t.Selector == 1 && t.MatchingType == 1 {
				here = append(here, certs.TLSA{Name: name, Usage: t.Usage, Digest: strings.ToLower(t.Certificate)})
			}
			ttl = max(ttl, time.Duration(rr.Header().Ttl)*time.Second)
		}
		if n == 0 {
			list = here
			continue
		}
		list = slices.DeleteFunc(list, func(r certs.TLSA) bool { return !slices.Contains(here, r) })
	}
	return list, ttl, nil
}

// AddTLSA adds a record beside those of its name.
func (s *Solver) AddTLSA(ctx context.Context, r certs.TLSA, ttl time.Duration) error {
	p, ok := s.provider.(tlsaProvider)
	if !ok {
		return fmt.Errorf("publish the record %s TLSA %s; acmed cannot write TLSA records here", r.Name, r.Data())
	}
	return s.changeTLSA(ctx, r, ttl, p.Add)
}

// RemoveTLSA removes a record and no other. Where acmed cannot write, one that is still there is an error.
func (s *Solver) RemoveTLSA(ctx context.Context, r certs.TLSA) error {
	p, ok := s.provider.(tlsaProvider)
	if ok {
		return s.changeTLSA(ctx, r, 0, p.Remove)
	}
	there, _, err := s.LookTLSA(ctx, r.Name)
	if err == nil && slices.Contains(there, r) {
		err = fmt.Errorf("remove the record %s TLSA %s, whose key is not in use any more", r.Name, r.Data())
	}
	return err
}

func (s *Solver) changeTLSA(ctx context.Context, r certs.TLSA, ttl time.Duration, change func(context.Context, dns.RR) error) error {
	_, fqdn, err := s.tlsaName(ctx, r.Name)
	if err != nil {
		return err
	}
	release, err := s.locks.acquire(ctx, lockKey{s.credential, fqdn})
	if err != nil {
		return err
	}
	defer release()
	err = change(ctx, &dns.TLSA{
		Hdr:   dns.RR_Header{Name: fqdn, Rrtype: dns.TypeTLSA, Class: dns.ClassINET, Ttl: uint32(ttl / time.Second)}, //nolint:gosec // at most a day
		Usage: r.Usage, Selector: 1, MatchingType: 1, Certificate: r.Digest,
	})
	if err != nil {
		return advice.Tag(advice.DNSRefused, fmt.Errorf("change the record %s TLSA %s: %w", r.Name, r.Data(), err))
	}
	return nil
}

func (s *Solver) tlsaName(ctx context.Context, name string) (net propagation, fqdn string, err error) {
	if net, err = s.network(); err != nil {
		return net, "", err
	}
	if s.follow == nil || *s.follow {
		name, err = net.resolver.delegated(ctx, name, s.follow != nil)
	}
	return net, name, err
}

// parentKeys are the DS records of a zone, from a resolver that has validated them up to one of its trust anchors, as the AD
// bit of its answer says (RFC 4035 section 3.2.3). acmed has no trust anchors.
func (r resolver) parentKeys(ctx context.Context, zone string) ([]dns.RR, error) {
	var errs []error
	for _, server := range r.servers {
		m, err := dnsquery.Ask(ctx, server, dnsquery.SignedQuestion(zone, dns.TypeDS, true), 0)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case err != nil:
		case m.Rcode != dns.RcodeSuccess:
			err = fmt.Errorf("resolver %s answers %s to %s DS", server, dnsquery.Code(m.Rcode), zone)
		case m.AuthenticatedData || !slices.ContainsFunc(m.Answer, func(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeDS }):
			return m.Answer, nil
		default:
			err = fmt.Errorf("resolver %s does not validate DNSSEC, or has no trust anchor above %s (no AD bit); set resolvers of the solver to one that does", server, zone)
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

// signed asks every authoritative server for the TLSA records of a name, and returns the sets of those that answer.
func (p propagation) signed(ctx context.Context, fqdn string, now time.Time) ([][]dns.RR, error) {
	zone, err := dnsquery.Zone(ctx, fqdn, p.resolver.lookup)
	if err != nil {
		return nil, err
	}
	ds, err := p.resolver.parentKeys(ctx, zone)
	if err != nil {
		return nil, err
	}
	servers, err := p.servers(ctx, fqdn)
	if err != nil {
		return nil, err
	}
	sets, errs := make([][]dns.RR, len(servers)), make([]error, len(servers))
	answered := make([]bool, len(servers))
	var wg guard.Group
	for i, s := range servers {
		wg.Go(func() { sets[i], answered[i], errs[i] = s.signed(ctx, zone, fqdn, ds, now) })
	}
	wg.Wait()
	var good [][]dns.RR
	var wrong []error
	for i := range servers {
		switch {
		case answered[i] && errs[i] != nil:
			wrong = append(wrong, errs[i])
		case answered[i]:
			good = append(good, sets[i])
		}
	}
	switch {
	case len(wrong) > 0:
		return nil, errors.Join(wrong...)
	case len(good) == 0:
		return nil, fmt.Errorf("no name server of the zone answers: %w", errors.Join(errs...))
	}
	return good, nil
}

// signed is what one server has. One that does not answer for the zone has no say.
func (s server) signed(ctx context.Context, zone, fqdn string, ds []dns.RR, now time.Time) (set []dns.RR, answered bool, err error) {
	if s.addr == "" {
		return nil, false, s.err
	}
	var answers [2]*dns.Msg
	for i, q := range []*dns.Msg{dnsquery.SignedQuestion(zone, dns.TypeDNSKEY, s.recurse), dnsquery.SignedQuestion(fqdn, dns.TypeTLSA, s.recurse)} {
		in, err := dnsquery.Ask(ctx, s.addr, q, 0)
		m, seen := s.answer(in, err)
		if seen.err != nil {
			return nil, false, seen.err
		}
		answers[i] = m
	}
	keys, err := dnsquery.ZoneKeys(answers[0], zone, ds, now)
	if err == nil {
		set, err = dnsquery.Signed(answers[1], fqdn, dns.TypeTLSA, keys, now)
	}
	if err != nil {
		return nil, true, fmt.Errorf("%s: %w", s, err)
	}
	return set, true, nil
}
