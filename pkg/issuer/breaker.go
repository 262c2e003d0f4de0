package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
)

// breaker remembers that a CA failed, for all certificates of an account at once. While it is open no request is made; then
// one operation at a time probes, until one succeeds or the CA is found to fail still.
//
// An error of the network, of TLS, of the directory or of a nonce is the CA's own. One answer 500 to an order may be about
// that order, so it takes several certificates to open the breaker: a single one that the CA cannot cope with stops no other.
type breaker struct {
	mu      sync.Mutex // guards the fields below
	now     func() time.Time
	changed chan struct{}
	failed  map[stage][]string // what failed since it last succeeded, and for whom
	level   int                // how often in a row it opened; 0: closed
	since   time.Time          // when it opened last
	at      stage              // what failed then
	probing *operation
	asked   time.Time // when a person's probe failed last
	err     error     // why it opened
}

// stage is a kind of request, as in errors: "place the order".
type stage string

// The stages at which a failure is nobody's fault but the CA's.
const (
	stageConnect   stage = "connect" // no answer at all
	stageDirectory stage = "fetch the directory"
	stageNonce     stage = "fetch a nonce"
	stageAccount   stage = "look the account up"
	stageRegister  stage = "register the account"

	stageAlternate stage = "download an alternate chain" // which says nothing about the CA
)

const (
	failuresToOpen  = 3 // in a row; retries of one request are among them
	subjectsToOpen  = 3 // certificates for which one stage failed
	subjectsNoReply = 2 // certificates for which there was no answer
)

// pauses are how long a CA is left alone: a little less than a certificate waits after its own failures, so that those come
// when they may.
func pauses() []time.Duration {
	return []time.Duration{50 * time.Second, 9 * time.Minute, 90 * time.Minute, 20 * time.Hour}
}

// The shortest pauses near expiry: a part of what remains of the certificate, as in its own schedule.
const (
	urgentShare = 14
	urgentPause = 50 * time.Minute
)

// askedPause is how long after a person's probe the next one may go: a command may name thousands of certificates.
const askedPause = 10 * time.Second

// operation is what one caller wants of the CA.
type operation struct {
	subject string
	asked   bool      // by a person, who may know that the CA is back
	begun   time.Time // when it was asked for
	expires time.Time // of the certificate that is to be replaced; zero: there is none
	failed  bool      // by the CA's fault
	served  bool      // the CA answered something
}

func newBreaker() *breaker {
	return &breaker{changed: make(chan struct{}), failed: map[stage][]string{}}
}

// reset forgets every failure.
func (b *breaker) reset(now func() time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = now
	b.close()
}

func (b *breaker) close() {
	b.level, b.err, b.probing, b.asked = 0, nil, nil, time.Time{}
	clear(b.failed)
	b.tell()
}

// tell wakes those who wait for a probe.
func (b *breaker) tell() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// dueAt is when op may probe.
func (b *breaker) dueAt(op *operation) time.Time {
	if op != nil && op.asked && op.begun.After(b.asked) {
		return clock.Later(b.since, b.asked.Add(askedPause))
	}
	list := pauses()
	pause := list[min(b.level, len(list))-1]
	if op != nil && !op.expires.IsZero() {
		pause = min(pause, max(op.expires.Sub(b.now()).Abs()/urgentShare, urgentPause))
	}
	return b.since.Add(pause)
}

// refusal is the error while the breaker is open for op, nil otherwise.
func (b *breaker) refusal(op *operation) error {
	if b.level == 0 || op != nil && op == b.probing {
		return nil
	}
	at := b.dueAt(op)
	if now := b.now(); !now.Before(at) && !b.since.After(now) {
		return nil
	}
	return &certs.RateLimitError{At: at, Err: b.err, Unavailable: true}
}

// begin lets an operation begin, waits for the outcome of another one's probe, or refuses.
func (b *breaker) begin(ctx context.Context, op *operation) error {
	for {
		b.mu.Lock()
		err, free, changed := b.refusal(op), b.probing == nil, b.changed
		if err == nil && b.level > 0 && free {
			b.probing = op
		}
		wait := err == nil && b.level > 0 && !free
		b.mu.Unlock()
		if !wait {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// end ends an operation. A probe that met no failure of the CA closes the breaker, whatever became of it otherwise; one that
// was cancelled or failed for itself leaves the place to the next.
func (b *breaker) end(ctx context.Context, op *operation) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.probing != op:
	case op.served && !op.failed && ctx.Err() == nil:
		b.close()
	default:
		b.probing = nil
		b.tell()
	}
}

// allow refuses a request of an operation while the breaker is open for it. A nil operation is a person's.
func (b *breaker) allow(op *operation) error {
	if op == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.level > 0 && b.probing != op {
		if err := b.refusal(op); err != nil {
			return err
		}
		return &certs.RateLimitError{At: b.now().Add(minPause), Err: b.err, Unavailable: true}
	}
	return nil
}

// report notes the outcome of one request: nil, or the CA's failure, see failureOf.
func (b *breaker) report(op *operation, at stage, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var cut *connectionError
	if errors.As(err, &cut) {
		at = stageConnect
	} else {
		delete(b.failed, stageConnect) // it can be reached
	}
	if err == nil {
		b.succeeded(op, at)
		return
	}
	subject := ""
	if op != nil {
		subject, op.failed = op.subject, true
	}
	if b.level > 0 && (op == nil || op != b.probing) {
		return // under way since before it opened, or a person's
	}
	b.failed[at] = append(b.failed[at], subject)
	if !b.enough(at) {
		return
	}
	if b.level > 0 && op.asked { // the schedule of the others stays as it is
		b.asked, b.probing, b.err = b.now(), nil, err
		clear(b.failed)
		b.tell()
		return
	}
	b.level, b.since, b.at, b.probing, b.err = b.level+1, b.now(), at, nil, err
	clear(b.failed)
	b.tell()
}

func (b *breaker) succeeded(op *operation, at stage) {
	delete(b.failed, at)
	if op == nil {
		return
	}
	op.served = true
	if op == b.probing && (b.at == at || b.at == stageConnect) {
		b.close()
	}
}

// enough reports whether the CA itself fails at a stage. What fails in a probe has failed before.
func (b *breaker) enough(at stage) bool {
	list := slices.Sorted(slices.Values(b.failed[at]))
	hits, subjects := len(list), len(slices.Compact(list))
	if b.level > 0 {
		hits = failuresToOpen
	}
	switch at {
	case stageDirectory, stageNonce, stageAccount, stageRegister:
		return hits >= failuresToOpen
	case stageConnect:
		return hits >= failuresToOpen && subjects >= subjectsNoReply
	}
	return subjects >= subjectsToOpen
}

// probes reports whether op finds out whether the CA is back. It makes each request once.
func (l *link) probes(op *operation) bool {
	return op != nil && (l.orders.probed(op) || l.info.probed(op))
}

func (b *breaker) probed(op *operation) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.probing == op
}

// failureOf is what an error says against the CA: nil when it answered, if only to refuse.
func failureOf(err error) error {
	if p := problemOf(err); p != nil && (p.status < http.StatusInternalServerError || p.limited()) {
		return nil
	}
	return err
}

// stageOf makes a stage of what an error says was done: "start the validation of NAME" is one stage for all names.
func stageOf(what string) stage {
	what, _, _ = strings.Cut(what, " of ")
	return stage(what)
}

// link is one way to a CA: what decides whether it can be reached. Issuers with one account share it when they reach the CA
// in the same way.
type link struct {
	roots   *x509.CertPool
	via     string // proxy and hosts
	private bool
	orders  *breaker
	info    *breaker // renewal information, which CAs give from elsewhere
}

// way is how the issuer reaches its CA.
func (i *Issuer) way() *link {
	i.first.Do(func() { i.link = accountsOf(i.config.Store).of(&i.config).linkOf(&i.config) })
	return i.link
}

// linkOf finds the link for a configuration. Its failures are forgotten: a new issuer was configured anew.
func (a *account) linkOf(c *Config) *link {
	via := strings.Join(c.Hosts, " ")
	if c.Proxy != nil {
		via += " " + c.Proxy.String()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n := slices.IndexFunc(a.links, func(l *link) bool {
		return l.via == via && l.private == c.Private && (l.roots == c.Roots || l.roots != nil && c.Roots != nil && l.roots.Equal(c.Roots))
	})
	if n < 0 {
		a.links = append(a.links, &link{roots: c.Roots, via: via, private: c.Private, orders: newBreaker(), info: newBreaker()})
		n = len(a.links) - 1
	}
	a.links[n].orders.reset(c.Clock)
	a.links[n].info.reset(c.Clock)
	return a.links[n]
}

type operationKey struct{}

// begin makes everything that is done with the returned context one operation of the account. The returned end must be
// called.
func (i *Issuer) begin(ctx context.Context, b *breaker, op *operation) (_ context.Context, end func(), err error) {
	if err := b.begin(ctx, op); err != nil {
		var refused *certs.RateLimitError
		if errors.As(err, &refused) {
			return ctx, nil, err
		}
		return ctx, nil, i.ended(ctx)
	}
	ctx = context.WithValue(ctx, operationKey{}, op)
	return ctx, func() { b.end(ctx, op) }, nil
}

func operationOf(ctx context.Context) *operation {
	op, _ := ctx.Value(operationKey{}).(*operation)
	return op
}
