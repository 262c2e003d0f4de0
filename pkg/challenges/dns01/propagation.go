package dns01

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/pkg/advice"
)

// Propagation names what is polled before the CA is told to validate.
type Propagation string

// The kinds of propagation check.
const (
	// Authoritative asks every authoritative server of the zone. It is the default.
	Authoritative Propagation = "authoritative"
	// Resolvers asks the configured resolvers only, for hosts that cannot reach the authoritative servers. A resolver may
	// hold the absence of the record in its cache for the zone's negative time to live.
	Resolvers Propagation = "resolvers"
	// NoPropagation trusts the provider: the CA is told at once.
	NoPropagation Propagation = "none"
)

// propagation waits for records to be visible.
type propagation struct {
	kind     Propagation
	resolver resolver
	port     string        // of authoritative servers
	timeout  time.Duration // in all
	interval time.Duration // longest pause between two rounds
}

// firstPause is the pause after the first round; most primaries have the record at once. It doubles up to the interval.
const firstPause = 100 * time.Millisecond

// wait returns nil when all servers have the record, and an error that names those which do not at the deadline.
func (p propagation) wait(ctx context.Context, r Record) error {
	if p.kind == NoPropagation {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var servers []server
	var last error
	for pause := firstPause; ; pause = min(2*pause, p.interval) {
		left, err := p.round(limited, servers, r)
		if err == nil {
			return nil
		}
		servers = left
		if last == nil || limited.Err() == nil { // an interrupted round says nothing about the servers
			last = err
		}
		select {
		case <-time.After(pause):
		case <-limited.Done():
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			return advice.Tag(advice.DNSPropagation, fmt.Errorf("the TXT record at %s was not visible everywhere after %s, so the CA was not told to validate: %w",
				r.FQDN, p.timeout, last))
		}
	}
}

// round asks the servers, which it finds first when there are none yet, and returns those that still lack the record
// together with the reasons.
func (p propagation) round(ctx context.Context, servers []server, r Record) ([]server, error) {
	if len(servers) == 0 {
		var err error
		if servers, err = p.servers(ctx, r.FQDN); err != nil {
			return nil, err
		}
	}
	var left []server
	var errs []error
	for i, a := range askAll(ctx, servers, r) {
		switch {
		case a.err != nil:
			errs = append(errs, a.err)
		case !a.has:
			errs = append(errs, fmt.Errorf("%s does not have it", servers[i]))
		default:
			continue
		}
		left = append(left, servers[i])
	}
	return left, errors.Join(errs...)
}

// absent reports whether every server answered and none has the record. It asks whatever the kind is.
func (p propagation) absent(ctx context.Context, r Record) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	servers, err := p.servers(ctx, r.FQDN)
	if err != nil {
		return false, err
	}
	for _, a := range askAll(ctx, servers, r) {
		if a.err != nil || a.has {
			return false, a.err
		}
	}
	return true, nil
}

func (p propagation) servers(ctx context.Context, fqdn string) ([]server, error) {
	if p.kind == Resolvers {
		var list []server
		for _, addr := range p.resolver.servers {
			list = append(list, server{name: "resolver", addr: addr, recurse: true})
		}
		return list, nil
	}
	zone, err := zoneOf(ctx, fqdn, p.resolver.lookup)
	if err != nil {
		return nil, err
	}
	return p.resolver.authorities(ctx, zone, p.port)
}

type sighting struct {
	has bool
	err error
}

// askAll asks all servers at once: one that is down must not delay the others.
func askAll(ctx context.Context, servers []server, r Record) []sighting {
	list := make([]sighting, len(servers))
	var wg sync.WaitGroup
	for i, s := range servers {
		wg.Go(func() { list[i] = s.sees(ctx, r) })
	}
	wg.Wait()
	return list
}

func (s server) sees(ctx context.Context, r Record) sighting {
	m, err := ask(ctx, s.addr, question(r.FQDN, dns.TypeTXT, s.recurse))
	if err != nil {
		return sighting{err: fmt.Errorf("%s: %w", s, err)}
	}
	switch m.Rcode {
	case dns.RcodeSuccess, dns.RcodeNameError:
		return sighting{has: holds(m, r)}
	}
	return sighting{err: fmt.Errorf("%s answers %s", s, rcode(m.Rcode))}
}

// holds looks for the record among whatever else the answer has.
func holds(m *dns.Msg, r Record) bool {
	for _, rr := range m.Answer {
		txt, ok := rr.(*dns.TXT)
		if ok && strings.EqualFold(txt.Hdr.Name, r.FQDN) && strings.Join(txt.Txt, "") == r.Value {
			return true
		}
	}
	return false
}
