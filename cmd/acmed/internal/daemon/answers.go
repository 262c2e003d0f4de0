package daemon

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/issuer"
)

// The CA's question about a name comes to any node, whichever placed the order. For http-01 every node answers with the
// thumbprint of the account, which it knows. For tls-alpn-01 it asks the store when it does not know the answer.

// holder is a responder that can be open all the time.
type holder interface {
	Hold(ctx context.Context) error
}

// held lists the responders that a fleet keeps open: those of solvers that are configured and used. The built-in ones on :80
// and :443 are not, because a web server that starts later could not.
func (b *builder) held(c *config.Config) []holder {
	used := map[string]bool{}
	for i := range c.Certificates {
		for _, name := range c.Spec(&c.Certificates[i]).Solvers {
			used[name] = true
		}
	}
	var list []holder
	for i := range c.Solvers {
		s := &c.Solvers[i]
		switch {
		case !used[s.Name]:
		case s.HTTP01 != nil && s.HTTP01.Webroot+s.HTTP01.ChallengeDir == "" && !s.HTTP01.Stateless:
			list = append(list, b.plainResponder(s.Name, s.HTTP01))
		case s.TLSALPN01 != nil:
			list = append(list, b.secureResponder(s.Name, s.TLSALPN01.Listen))
		}
	}
	return list
}

// hold opens what answers for other nodes. An address that is taken is logged: then the CA has to come to another node.
// The caller holds d.mu.
func (d *Daemon) hold(ctx context.Context) {
	for _, r := range d.builder.held(d.config) {
		if err := r.Hold(ctx); err != nil {
			d.log.Warn("this node cannot answer challenges of other nodes", zap.Error(err))
		}
	}
}

// answerHTTP is the kind of shared thumbprints: of orders at another than a certificate's first issuer.
const answerHTTP = "http-01"

// thumbprintFor is that of the account which may have an order for a host: at the first issuer of the certificate, unless the
// node that works on it told of another one.
func (m *member) thumbprintFor(ctx context.Context, host string) string {
	id, _, err := certs.ParseIdentifier(host)
	if err != nil {
		return ""
	}
	issuers, working := m.issuersOf(id)
	if len(issuers) > 1 && working && m.lookups.take(time.Now()) {
		if thumb, err := m.ledger.Answer(ctx, answerHTTP, id.Value); err == nil && thumb != "" {
			return thumb
		}
	}
	if len(issuers) == 0 {
		return ""
	}
	if thumb := m.thumbprint(issuers[0]); thumb != "" {
		return thumb
	}
	return m.askThumbprint(ctx, issuers[0])
}

// issuersOf are those of the certificate with an identifier, of one that a node works on if there are several. While a
// configuration is rolled out, another node may have an order for an identifier that is not configured here: then they are
// those of a certificate that some node works on, or of any.
func (m *member) issuersOf(id certs.Identifier) (issuers []string, working bool) {
	names := m.engine.Holders(id)
	for _, name := range names {
		cert, _ := m.engine.Certificate(name)
		if issuers = cert.Spec.Issuers; m.claimed(name) {
			return issuers, true
		}
	}
	if len(names) > 0 {
		return issuers, false
	}
	for _, c := range m.ledger.Claims() {
		if strings.HasPrefix(c.Name, "@") { // no certificate
			continue
		}
		cert, ok := m.engine.Certificate(c.Name)
		if !ok {
			cert, _ = m.engine.Any()
		}
		issuers, working = cert.Spec.Issuers, true
	}
	if !working { // the watch may come later than the CA
		cert, _ := m.engine.Any()
		issuers = cert.Spec.Issuers
	}
	return issuers, working
}

func (m *member) claimed(name string) bool {
	_, ok := m.ledger.Claimed(name)
	return ok
}

// askThumbprint asks the store: this node has just started, or the account was made a moment ago.
func (m *member) askThumbprint(ctx context.Context, name string) string {
	conf, ok := m.issuer(name)
	if !ok || !m.lookups.take(time.Now()) {
		return ""
	}
	a, err := m.ledger.Account(ctx, conf.Directory, conf.Email)
	if err != nil || a == nil {
		return ""
	}
	return a.Thumbprint
}

// thumbprint is that of the fleet's account; while the store is away, that of the copy which is here.
func (m *member) thumbprint(name string) string {
	conf, ok := m.issuer(name)
	if !ok {
		return ""
	}
	if thumb := m.ledger.Thumbprint(conf.Directory, conf.Email); thumb != "" {
		return thumb
	}
	a, err := m.state.Account(conf.Directory, conf.Email)
	if err != nil || a == nil {
		return ""
	}
	thumb, err := issuer.Thumbprint(a.Key.Public())
	if err != nil {
		return ""
	}
	return thumb
}

// sharedHTTP is an http-01 responder that tells the others of an account which they would not answer for.
type sharedHTTP struct {
	*http01.Responder
	member *member
}

func (b *builder) sharedByHTTP(r *http01.Responder) challenges.Solver {
	if b.member == nil {
		return r
	}
	return sharedHTTP{r, b.member}
}

func (s sharedHTTP) foreign(c *challenges.Challenge) bool {
	issuers, _ := s.member.issuersOf(c.Identifier)
	return len(issuers) > 1 && s.member.thumbprint(issuers[0]) != c.Thumbprint
}

// Present shares the thumbprint of another account than the usual one, and presents the answer.
func (s sharedHTTP) Present(ctx context.Context, c challenges.Challenge) error {
	if s.foreign(&c) {
		if err := s.member.share(ctx, answerHTTP, c.Identifier, c.Thumbprint); err != nil {
			return err
		}
	}
	return s.Responder.Present(ctx, c)
}

// CleanUp takes the answer away.
func (s sharedHTTP) CleanUp(ctx context.Context, c challenges.Challenge) error {
	err := s.Responder.CleanUp(ctx, c)
	if s.foreign(&c) {
		s.member.unshare(ctx, answerHTTP, c.Identifier, c.Thumbprint)
	}
	return err
}

// share puts an answer into the store. Without the store it is given here alone.
func (m *member) share(ctx context.Context, kind string, id certs.Identifier, answer string) error {
	err := m.ledger.PutAnswer(ctx, kind, id.Value, answer)
	var away *certs.LedgerError
	if errors.As(err, &away) {
		m.log.Debug("an answer is given by this node alone", zap.Stringer("name", id), zap.Error(err))
		return nil
	}
	return err
}

// lock keeps the other nodes from changing a DNS record that this one changes. Without the store nobody is kept from it.
func (m *member) lock(ctx context.Context, name string) (release func(), err error) {
	release, err = m.ledger.Lock(ctx, "dns-"+name, "a DNS record")
	var away *certs.LedgerError
	if errors.As(err, &away) {
		return func() {}, nil
	}
	return release, err
}

func (m *member) unshare(ctx context.Context, kind string, id certs.Identifier, answer string) {
	if err := m.ledger.DropAnswer(ctx, kind, id.Value, answer); err != nil {
		m.log.Debug("a shared answer was not removed; it ends with the lease", zap.Stringer("name", id), zap.Error(err))
	}
}

// sharedALPN is a tls-alpn-01 responder whose answers all nodes can give.
type sharedALPN struct {
	*tlsalpn01.Responder
	member *member
}

func (b *builder) sharedByALPN(r *tlsalpn01.Responder) challenges.Solver {
	if b.member == nil {
		return r
	}
	return sharedALPN{r, b.member}
}

// Present shares the answer before it presents it here. Without the store it is presented here alone.
func (s sharedALPN) Present(ctx context.Context, c challenges.Challenge) error {
	if err := s.member.share(ctx, fleet.AnswerTLSALPN, c.Identifier, c.KeyAuth); err != nil {
		return err
	}
	return s.Responder.Present(ctx, c)
}

// CleanUp takes the answer away here and for the others.
func (s sharedALPN) CleanUp(ctx context.Context, c challenges.Challenge) error {
	err := s.Responder.CleanUp(ctx, c)
	s.member.unshare(ctx, fleet.AnswerTLSALPN, c.Identifier, c.KeyAuth)
	return err
}

// mostLookups is how many answers a second are asked for in the store.
const mostLookups = 50

// lookups bounds what strangers can make this node ask.
type lookups struct {
	mu    sync.Mutex
	begun time.Time
	used  int
}

func (l *lookups) take(now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.begun) >= time.Second {
		l.begun, l.used = now, 0
	}
	l.used++
	return l.used <= mostLookups
}

// lookUp returns the answer of another node for a name, "" if there is none. It asks for any name: another node may have a newer
// configuration, and the CA may come before the watch tells that a node works on it.
func (m *member) lookUp(ctx context.Context, identifier certs.Identifier) string {
	if !m.lookups.take(time.Now()) {
		return ""
	}
	answer, err := m.ledger.Answer(ctx, fleet.AnswerTLSALPN, identifier.Value)
	if err != nil {
		m.log.Debug("an answer cannot be looked up", zap.Stringer("name", identifier), zap.Error(err))
	}
	return answer
}
