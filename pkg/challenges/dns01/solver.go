package dns01

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

// Solver answers dns-01 or dns-account-01 challenges through one provider. [New] makes one. It is safe for concurrent use.
type Solver struct {
	name       string
	kind       challenges.Type
	credential string // what the lock of a name is for
	file       string // with the credential
	provider   Provider
	journal    *Journal
	locks      *Locks
	now        func() time.Time
	retries    []time.Duration // pauses between attempts to set a record
	wait       propagation
	follow     *bool                    // CNAMEs; nil: those that exist at the name itself
	resolvers  func() ([]string, error) // the system's, asked for at the first use

	mu      sync.Mutex
	pending map[string]Record // presented and not yet removed, by key authorization and domain
}

var _ challenges.Solver = (*Solver)(nil)

// A provider's service that fails gets two more attempts: seconds apart for a hiccup, half a minute for a rate limit.
func defaultRetries() []time.Duration { return []time.Duration{2 * time.Second, 30 * time.Second} }

// undoTimeout bounds the removal after a failed Present, which must not depend on the context that may have failed it.
const undoTimeout = 2 * time.Minute

// undoAtCancel bounds it when the caller does not wait any longer; [Solver.CleanUp] or [Solver.Recover] does the rest.
const undoAtCancel = time.Second

// Type returns dns-01, or dns-account-01 with [Options.Account].
func (s *Solver) Type() challenges.Type { return s.kind }

// Present sets the TXT record and returns when every server that [Config.Propagation] asks has it. After an error the
// record has been removed again, or the error says that it could not be.
func (s *Solver) Present(ctx context.Context, c challenges.Challenge) error {
	r := recordOf(c)
	net, err := s.network()
	if err != nil {
		return err
	}
	if s.follow == nil || *s.follow {
		if r.FQDN, err = net.resolver.delegated(ctx, r.FQDN, s.follow != nil); err != nil {
			return fmt.Errorf("%s for %s: %w", s.kind, r.Domain, err)
		}
	}
	s.remember(r)
	if err := s.journal.add(Entry{Solver: s.name, Created: s.now(), Record: r}); err != nil {
		s.forget(r)
		return fmt.Errorf("%s for %s: %w", s.kind, r.Domain, err)
	}
	if err = s.set(ctx, r); err == nil {
		err = s.explain(ctx, r, net.wait(ctx, r))
	}
	if err == nil {
		return nil
	}
	err = fmt.Errorf("%s for %s: %w", s.kind, r.Domain, err)
	if _, nothing := permanence(err); nothing {
		s.forget(r)
		return errors.Join(err, s.journal.remove(s.name, r))
	}
	patience := undoTimeout
	if ctx.Err() != nil {
		patience = undoAtCancel
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return errors.Join(err, s.remove(undo, r))
}

// Try sets and removes a record of no challenge for an identifier, and returns what the provider has against it, at the
// first attempt. It does not wait until the record is visible. Programs of the operator are not run for it.
func (s *Solver) Try(ctx context.Context, id certs.Identifier) error {
	if _, ok := s.provider.(*execProvider); ok {
		return nil
	}
	token := rand.Text()
	r := recordOf(challenges.Challenge{Identifier: id, Type: s.kind, Token: token, KeyAuth: token + ".try", AccountURI: "try"})
	net, err := s.network()
	if err == nil && (s.follow == nil || *s.follow) {
		r.FQDN, err = net.resolver.delegated(ctx, r.FQDN, s.follow != nil)
	}
	if err != nil {
		return err
	}
	s.remember(r)
	if err := s.journal.add(Entry{Solver: s.name, Created: s.now(), Record: r}); err != nil {
		s.forget(r)
		return err
	}
	err = s.change(ctx, r, s.provider.Present)
	if _, nothing := permanence(err); nothing {
		s.forget(r)
		return errors.Join(err, s.journal.remove(s.name, r))
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
	defer cancel()
	return errors.Join(err, s.remove(undo, r))
}

// Credential is the file with the credential, "" if the section names none.
func (s *Solver) Credential() string { return s.file }

// CleanUp removes the record of the challenge, at the name where Present put it whatever the DNS says now. A record that
// the provider could not remove stays in the journal for [Solver.Recover].
func (s *Solver) CleanUp(ctx context.Context, c challenges.Challenge) error {
	r := recordOf(c)
	s.mu.Lock()
	p, ok := s.pending[key(r)]
	s.mu.Unlock()
	if !ok {
		e, found := s.journal.find(s.name, r)
		if !found {
			return nil
		}
		p = e.Record
	}
	return s.remove(ctx, p)
}

// explain adds to the error of a record that did not become visible what its provider knows about it.
func (s *Solver) explain(ctx context.Context, r Record, err error) error {
	p, ok := s.provider.(explainer)
	if err == nil || ctx.Err() != nil || !ok {
		return err
	}
	if why := p.Explain(ctx, r); why != nil {
		return advice.Tag(advice.DNSPropagation, fmt.Errorf("%w: %w", why, err))
	}
	return err
}

func (s *Solver) set(ctx context.Context, r Record) error {
	for attempt := 0; ; attempt++ {
		err := s.change(ctx, r, s.provider.Present)
		if err == nil || ctx.Err() != nil {
			return err
		}
		silent := isMessenger(err)
		err = notSet(fmt.Errorf("set the TXT record at %s: %w", r.FQDN, err))
		permanent, _ := permanence(err)
		switch {
		case permanent && attempt > 0: // an earlier attempt may have worked unnoticed
			return final(err)
		case permanent || attempt == len(s.retries) || silent && attempt > 0: // no rate limit makes a program fail
			return err
		}
		select {
		case <-time.After(s.retries[attempt]):
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// notSet says that the provider refused, where it was the provider that spoke.
func notSet(err error) error {
	if isMessenger(err) {
		return err
	}
	return advice.Tag(advice.DNSRefused, err)
}

// remove takes the record away and out of the journal.
func (s *Solver) remove(ctx context.Context, r Record) error {
	err := s.change(ctx, r, s.provider.CleanUp)
	if err == nil {
		err = s.journal.remove(s.name, r)
	}
	s.forget(r)
	if err != nil {
		return fmt.Errorf("remove the TXT record at %s with the value %s: %w", r.FQDN, r.Value, err)
	}
	return nil
}

func (s *Solver) change(ctx context.Context, r Record, do func(context.Context, Record) error) error {
	release, err := s.locks.acquire(ctx, lockKey{s.credential, r.FQDN})
	if err != nil {
		return err
	}
	defer release()
	return do(ctx, r)
}

// network returns the solver's view of the DNS, with the system's resolvers where none are configured.
func (s *Solver) network() (propagation, error) {
	view := s.wait
	if len(view.resolver.servers) > 0 {
		return view, nil
	}
	var err error
	view.resolver.servers, err = s.resolvers()
	return view, err
}

func key(r Record) string { return r.Domain + "\n" + r.KeyAuth }

func (s *Solver) remember(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending[key(r)] = r
}

func (s *Solver) forget(r Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, key(r))
}

func (s *Solver) isPending(r Record) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.pending[key(r)]
	return ok
}
