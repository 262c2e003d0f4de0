package renewal

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/store"
)

// Engine carries out plans, one job at a time for each certificate.
type Engine struct {
	store *store.Store
	fleet *fleet.Ledger // nil on a single machine
	log   *zap.Logger
	clock func() time.Time
	ended func(Result)

	base   context.Context // ends when running jobs must stop; not the context of any caller
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu            sync.Mutex // guards what follows; never held while a job works
	set           *Set
	holders       map[certs.Identifier][]string // certificates with a name; nil until somebody asks
	slots         chan struct{}
	beside        chan struct{}    // slots of jobs that take what another node obtained
	numbers       map[string]int64 // of the fleet's version that is active, by certificate
	jobs          map[string]*job
	closed        bool
	clocks        clocks
	localFailures map[string]localFailure // by certificate
	outages       caOutages
	repairs       map[string][]string // notes of the store, by certificate
	logged        map[string][]string // notes of the store that were logged, by certificate

	waiting atomic.Int32           // jobs that gave their slots away and go on
	onWait  atomic.Pointer[func()] // called when one more does
	onEnd   atomic.Pointer[func(Result)]

	confirming chan struct{} // has a place for the one who asks a CA for the time after the start
	confirmed  bool          // it was asked; guarded by confirming
}

// Config makes an [Engine].
type Config struct {
	Store *store.Store
	Fleet *fleet.Ledger // what the nodes share; nil on a single machine
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
	e := &Engine{
		store: c.Store, fleet: c.Fleet, log: c.Log, clock: func() time.Time { return c.Clock().Round(0) }, ended: c.Ended,
		base: base, cancel: cancel, jobs: map[string]*job{}, numbers: map[string]int64{}, localFailures: map[string]localFailure{}, logged: map[string][]string{}, repairs: map[string][]string{},
		confirming: make(chan struct{}, 1), outages: caOutages{map[string]failedOrders{}, map[string]time.Time{}},
	}
	e.Swap(&Set{})
	return e
}

// Swap makes set the one that new jobs use.
func (e *Engine) Swap(set *Set) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.set, e.holders = set, nil
	e.slots, e.beside = make(chan struct{}, max(set.Concurrency, 1)), make(chan struct{}, max(set.Concurrency, 1))
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

// Any returns one of the certificates, if there is one.
func (e *Engine) Any() (Certificate, bool) {
	for _, c := range e.current().Certificates {
		return c, true
	}
	return Certificate{}, false
}

// Holders lists the certificates with a name among theirs.
func (e *Engine) Holders(id certs.Identifier) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.holders == nil {
		e.holders = make(map[certs.Identifier][]string, len(e.set.Certificates))
		for name := range e.set.Certificates {
			for _, id := range e.set.Certificates[name].Spec.Identifiers {
				e.holders[id] = append(e.holders[id], name)
			}
		}
	}
	return e.holders[id]
}

func (e *Engine) current() *Set {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.set
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
		stop := j.progress.follow(progress)
		select {
		case <-ctx.Done():
			stop()
			return Result{Name: name, Err: context.Cause(ctx)}
		case <-j.done:
			stop()
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
	j.clock = e.clocks.suspicion(c.Spec.Issuers)
	e.jobs[name] = j
	slots := e.slots
	if opts.beside {
		slots = e.beside
	}
	e.wg.Go(func() { e.work(j, slots) })
	return j, true, nil
}

// work runs a job in one of the slots and keeps a panic inside it.
func (e *Engine) work(j *job, slots chan struct{}) {
	defer func() {
		if r := recover(); r != nil {
			e.log.Error("job panicked", zap.String("certificate", j.Spec.Name), zap.Any("panic", r), zap.Stack("stack"))
			j.panicked(fmt.Errorf("internal error: %v", r))
		}
		e.removeJob(j)
		e.ended(j.result)
		if told := e.onEnd.Load(); told != nil {
			(*told)(j.result)
		}
		close(j.done)
	}()
	select {
	case slots <- struct{}{}:
		p := &place{engine: e, slots: slots}
		defer p.end()
		j.run(p.with(e.base))
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

// newNotes returns what the store repaired, unless a job logged it before.
func (e *Engine) newNotes(have *store.Lineage) []string {
	if len(have.Notes) == 0 {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	before := e.logged[have.Name]
	e.logged[have.Name] = have.Notes
	return slices.DeleteFunc(slices.Clone(have.Notes), func(note string) bool { return slices.Contains(before, note) })
}
