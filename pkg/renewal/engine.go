package renewal

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

// Issuer is one CA under one account.
type Issuer interface {
	// Obtain orders a certificate and returns it vetted, or returns one of the typed errors of package certs.
	Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error)
	// RenewalInfo asks for the CA's renewal window; the zero Window means that the CA gives none.
	RenewalInfo(ctx context.Context, leaf *x509.Certificate) (certs.Window, error)
}

// Certificate is one wanted certificate with the targets that serve it.
type Certificate struct {
	Spec    certs.Spec
	Targets map[string]installers.Installer // one for each ID in Spec.Targets
	Hooks   Hooks
	Clients Clients
}

// Hooks are what the operator wants to happen around a new version; either may be nil.
type Hooks struct {
	// Pre runs before a new version is ordered. Its error is that of the order: the CA is not asked.
	Pre func(ctx context.Context) error
	// Post runs when a new version is live and all targets serve it. Its error is a state of its own and tried again like
	// that of a target; the certificate stays.
	Post func(ctx context.Context, b *certs.Bundle) error
}

// Set is everything that a configuration says. The engine swaps it as a whole; a running job keeps the one it began with.
type Set struct {
	Certificates map[string]Certificate
	Issuers      map[string]Issuer
	Notifier     notify.Notifier
	// Forewarn looks for what will stand in the way of the next renewal, such as CAA records; nil: nothing does. It is
	// asked whenever a renewal window is, about twice a day.
	Forewarn func(ctx context.Context, want *certs.Spec) []string
	// ClockOffset asks a CA how far this machine's clock is ahead of its own, to settle doubts; nil: there is none to ask.
	ClockOffset func(ctx context.Context) (time.Duration, error)
	Concurrency int // jobs at a time; at least 1
	Keep        int // versions kept of each certificate besides the active one
}

// Options changes one job.
type Options struct {
	Force  bool // renew although it is not due, and do not wait for our own backoff
	NewKey bool // with Force: take a new private key even if the configuration reuses it (after a key compromise)
	Retry  bool // install and verify again although the last try failed a moment ago; costs the CA nothing

	Activate bool   // make the newest version live, and end a pin
	Anyway   bool   // with Activate: although clients would refuse it, or its notice is not over
	Pin      string // make this stored version live and keep it so

	Targets TargetChange // take the certificate's targets away or put them back

	doubt string // why the clock is not believed; "": it is
}

// aboutVersions reports whether an operator wants another version to be live.
func (o *Options) aboutVersions() bool { return o.Activate || o.Pin != "" }

// Result is what one job did.
type Result struct {
	Name     string
	Reason   Reason // of the first thing that was done, or why nothing was
	Message  string
	Obtained bool   // a new version was issued
	Changed  bool   // a version was issued, activated or installed
	Version  string // active version at the end
	NotAfter time.Time
	Next     time.Time // when the scheduler looks again
	Held     string    // why a newer version than the active one waits; "" when none does
	Waiting  error     // what a target asked for: to be called later; nothing has failed
	Err      error     // what failed; the certificate may be live nevertheless
}

// Engine carries out plans, one job at a time for each certificate.
type Engine struct {
	store *store.Store
	log   *zap.Logger
	clock func() time.Time
	ended func(Result)

	base   context.Context // ends when running jobs must stop; not the context of any caller
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu       sync.Mutex // guards what follows; never held while a job works
	set      *Set
	slots    chan struct{}
	jobs     map[string]*job
	troubles map[string]trouble // by certificate
	closed   bool
	doubts   string // why the clock is not believed

	confirming chan struct{} // has a place for the one who asks a CA for the time after the start
	confirmed  bool          // it was asked; guarded by confirming
}

// Config makes an [Engine].
type Config struct {
	Store *store.Store
	Log   *zap.Logger
	Clock func() time.Time // time.Now if nil
	Ended func(Result)     // told about every job that has ended; must not wait for anything; may be nil
}

// NewEngine returns an engine without certificates; [Engine.Swap] gives it some.
func NewEngine(c Config) *Engine {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Ended == nil {
		c.Ended = func(Result) {}
	}
	base, cancel := context.WithCancel(context.Background())
	e := &Engine{store: c.Store, log: c.Log, clock: c.Clock, ended: c.Ended, base: base, cancel: cancel, jobs: map[string]*job{}, troubles: map[string]trouble{}, confirming: make(chan struct{}, 1)}
	e.Swap(&Set{})
	return e
}

// Swap makes set the one that new jobs use.
func (e *Engine) Swap(set *Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set = set
	e.slots = make(chan struct{}, max(set.Concurrency, 1))
}

// Names lists the configured certificates, in no order.
func (e *Engine) Names() []string {
	set := e.current()
	names := make([]string, 0, len(set.Certificates))
	for name := range set.Certificates {
		names = append(names, name)
	}
	return names
}

// Certificate returns the wish for one certificate.
func (e *Engine) Certificate(name string) (Certificate, bool) {
	c, ok := e.current().Certificates[name]
	return c, ok
}

func (e *Engine) current() *Set {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.set
}

// doubt makes jobs wait with ordinary renewals for as long as reason is not empty.
func (e *Engine) doubt(reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.doubts = reason
}

func (e *Engine) doubted() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.doubts
}

// clockOffset asks a CA how far this machine's clock is ahead.
func (e *Engine) clockOffset(ctx context.Context) (time.Duration, error) {
	ask := e.current().ClockOffset
	if ask == nil {
		return 0, errors.New("there is no CA to ask for the time")
	}
	ctx, cancel := context.WithTimeout(ctx, ariPatience)
	defer cancel()
	return ask(ctx)
}

// ErrClosed says that the engine is stopping and takes no new job.
var ErrClosed = errors.New("acmed is stopping")

// Run brings one certificate to where it should be and says what it did. If a job for it is running, Run joins it: it
// shares its progress, told from the beginning, and its result; a forced Run begins a job of its own when the one it
// joined turned out to do nothing or kept a key that must go, and one about versions always does. When ctx ends, Run
// returns and the job goes on.
func (e *Engine) Run(ctx context.Context, name string, opts Options, progress func(certs.Step)) Result {
	for {
		j, mine, err := e.join(name, opts)
		if err != nil {
			return Result{Name: name, Err: err}
		}
		j.listen(ctx, progress)
		select {
		case <-ctx.Done():
			return Result{Name: name, Err: context.Cause(ctx)}
		case <-j.done:
		}
		if mine || j.answers(opts) {
			return j.result
		}
	}
}

// join returns the running job for a name, or begins one.
func (e *Engine) join(name string, opts Options) (j *job, mine bool, err error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if j, ok := e.jobs[name]; ok {
		return j, false, nil
	}
	if e.closed {
		return nil, false, ErrClosed
	}
	c, ok := e.set.Certificates[name]
	if !ok {
		return nil, false, fmt.Errorf("certificate %q is not in the configuration", name)
	}
	j = newJob(e, e.set, c, opts)
	j.doubt = e.doubts
	e.jobs[name] = j
	e.wg.Go(func() { e.work(j, e.slots) })
	return j, true, nil
}

// work runs a job in one of the slots and keeps a panic inside it.
func (e *Engine) work(j *job, slots chan struct{}) {
	defer func() {
		if r := recover(); r != nil {
			j.result.Err = fmt.Errorf("internal error: %v", r)
			e.log.Error("job panicked", zap.String("certificate", j.want.Name), zap.Any("panic", r), zap.Stack("stack"))
			j.recordFailure(j.result.Err)
		}
		e.leave(j)
		e.ended(j.result)
		close(j.done)
	}()
	select {
	case slots <- struct{}{}:
		defer func() { <-slots }()
		j.run(e.base)
	case <-e.base.Done():
		j.result.Err = ErrClosed
	}
}

// Close takes no new jobs and waits for the running ones. When ctx ends first they are cancelled, clean up after
// themselves and are then waited for.
func (e *Engine) Close(ctx context.Context) {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	stop := context.AfterFunc(ctx, e.cancel)
	defer stop()
	e.wg.Wait()
	e.cancel()
}

// spread returns a number in [0, 1) for jitter.
func spread() float64 { return rand.Float64() } //nolint:gosec // spreads load, hides nothing
