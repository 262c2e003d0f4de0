package dns01

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
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
	grace    time.Duration // for servers that do not answer, once all that do have the record
}

// firstPause is the pause after the first round; most primaries have the record at once. It doubles up to the interval.
const firstPause = 100 * time.Millisecond

// defaultGrace is more than what a restart of a name server takes.
const defaultGrace = 15 * time.Second

// wait returns nil when all servers that answer have the record, at least one of them, and the others had their grace. The
// error names those which do not have it at the deadline.
func (p propagation) wait(ctx context.Context, r Record) error {
	if p.kind == NoPropagation {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var seen view
	var last error
	for pause := firstPause; ; pause = min(2*pause, p.interval) {
		start := time.Now()
		err := p.round(limited, &seen, r)
		if seen.settled(err, start, p.grace) {
			return nil
		}
		if last == nil || limited.Err() == nil { // an interrupted round says nothing about the servers
			last = err
		}
		select {
		case <-time.After(pause):
			continue
		case <-limited.Done():
		}
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !seen.agreed.IsZero():
			return nil
		}
		return advice.Tag(advice.DNSPropagation, fmt.Errorf("the TXT record at %s was not visible everywhere after %s, so the CA was not asked to validate: %w%s",
			r.FQDN, p.timeout, last, seen.hint(p.kind)))
	}
}

// settled takes the outcome of a round that began at start: all that answer have the record, and the others answered too or
// had their grace.
func (v *view) settled(err error, start time.Time, grace time.Duration) bool {
	switch {
	case err != nil:
		v.agreed = time.Time{}
		return false
	case v.agreed.IsZero():
		v.agreed = start
	}
	return !v.mayAnswer() || time.Since(v.agreed) >= grace
}

// view is what was seen of the servers of one zone.
type view struct {
	servers []server
	states  []sighting // of the same index
	agreed  time.Time  // since when all that answer have the record; zero: they do not
}

// round asks the servers that were not seen with the record, which it finds first when there are none yet. The error tells
// who lacks the record, or that nobody answers.
func (p propagation) round(ctx context.Context, v *view, r Record) error {
	if len(v.servers) == 0 {
		servers, err := p.servers(ctx, r.FQDN)
		if err != nil {
			return err
		}
		v.servers, v.states = servers, make([]sighting, len(servers))
	}
	v.ask(ctx, r)
	return v.judge()
}

// linger is how long the others are waited for once one server answered. They are asked again in the next round.
const linger = 3 * time.Second

// ask asks at all addresses at once: one that is down must not delay the others.
func (v *view) ask(ctx context.Context, r Record) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(time.Hour, cancel)
	defer late.Stop()
	var wg guard.Group
	for i, s := range v.servers {
		switch {
		case s.addr == "":
			v.states[i] = sighting{err: s.err}
		case !v.states[i].has:
			wg.Go(func() {
				if v.states[i] = s.sees(ctx, r); v.states[i].err == nil {
					late.Reset(linger)
				}
			})
		}
	}
	wg.Wait()
}

// judge lets those decide that answer.
func (v *view) judge() error {
	var lacking, silent []error
	answered := false
	for i, state := range v.states {
		switch {
		case state.err != nil:
			silent = append(silent, state.err)
		case !state.has:
			lacking = append(lacking, fmt.Errorf("%s does not have it", v.servers[i]))
		}
		answered = answered || state.err == nil
	}
	switch {
	case len(lacking) > 0:
		return errors.Join(lacking...)
	case !answered:
		return fmt.Errorf("no name server of the zone answers: %w", errors.Join(silent...))
	}
	return nil
}

// mayAnswer reports whether there is a server from which nothing came yet, at any of its addresses.
func (v *view) mayAnswer() bool {
	answered := map[string]bool{}
	for i, s := range v.servers {
		if v.states[i].err == nil {
			answered[s.name] = true
		}
	}
	return slices.ContainsFunc(v.servers, func(s server) bool { return s.addr != "" && !answered[s.name] })
}

// hint names the way out for hosts that do not reach the name servers.
func (v *view) hint(kind Propagation) string {
	unseen := slices.ContainsFunc(v.states, func(s sighting) bool { return s.err != nil })
	if kind == Resolvers || len(v.servers) > 0 && !unseen {
		return ""
	}
	return "; if this host cannot reach the name servers of the zone, set propagation: resolvers"
}

// absent reports whether no server that answers has the record, and at least one answers. It asks whatever the kind is.
func (p propagation) absent(ctx context.Context, r Record) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var v view
	err := p.round(ctx, &v, r)
	answered := slices.ContainsFunc(v.states, func(s sighting) bool { return s.err == nil })
	has := slices.ContainsFunc(v.states, func(s sighting) bool { return s.has })
	if !answered {
		return false, err
	}
	return !has, nil
}

func (p propagation) servers(ctx context.Context, fqdn string) ([]server, error) {
	if p.kind == Resolvers {
		var list []server
		for _, addr := range p.resolver.servers {
			list = append(list, server{name: "resolver " + addr, addr: addr, recurse: true})
		}
		return list, nil
	}
	zone, err := dnsquery.Zone(ctx, fqdn, p.resolver.lookup)
	if err != nil {
		return nil, err
	}
	return p.resolver.authorities(ctx, zone, p.port)
}

// sighting is what one server says at one address. An error means that it says nothing about the zone.
type sighting struct {
	has bool
	err error
}

func (s server) sees(ctx context.Context, r Record) sighting {
	m, seen := s.txt(ctx, r.FQDN)
	if seen.err == nil {
		seen.has = slices.Contains(texts(m, r.FQDN), r.Value)
	}
	return seen
}

// answer tells an answer about the zone from one that says nothing about it.
func (s server) answer(m *dns.Msg, err error) (*dns.Msg, sighting) {
	switch {
	case err != nil:
		return nil, sighting{err: fmt.Errorf("%s: %w", s, err)}
	case m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError:
		return nil, sighting{err: fmt.Errorf("%s answers %s", s, dnsquery.Code(m.Rcode))}
	case !s.recurse && !m.Authoritative && len(m.Answer) == 0 && slices.ContainsFunc(m.Ns, isNS):
		return nil, sighting{err: fmt.Errorf("%s does not have the zone", s)}
	}
	return m, sighting{}
}

func isNS(rr dns.RR) bool { return rr.Header().Rrtype == dns.TypeNS }
