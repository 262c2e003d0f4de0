package renewal

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/store"
)

// maxRounds bounds how often one job decides anew. The longest honest way is: ask ARI, obtain, activate, install.
const maxRounds = 8

// ariPatience is how long a CA may take to answer for its renewal window, which is only ever a hint.
const ariPatience = 15 * time.Second

// job is one run for one certificate.
type job struct {
	engine  *Engine
	set     *Set
	want    certs.Spec
	to      map[string]installers.Installer
	hooks   Hooks
	clients Clients
	opts    Options
	begun   time.Time
	doubt   string // why the clock was not believed when the job began
	result  Result // written by the job alone, read after done is closed
	done    chan struct{}
	trouble *trouble // nil unless the machine kept the job from its work
	errand  bool     // only keeps other jobs away; see Engine.reserve

	mu        sync.Mutex
	steps     []certs.Step
	listeners []listener
}

type listener struct {
	ctx  context.Context
	tell func(certs.Step)
}

func newJob(e *Engine, set *Set, c Certificate, opts Options) *job {
	return &job{
		engine: e, set: set, want: c.Spec, to: c.Targets, hooks: c.Hooks, clients: c.Clients, opts: opts, begun: e.clock(),
		result: Result{Name: c.Spec.Name}, done: make(chan struct{}),
	}
}

// answers reports whether the result of an ended job that a Run had joined is what its options ask for.
func (j *job) answers(opts Options) bool {
	switch {
	case j.errand, opts.aboutVersions(), opts.Targets != "", opts.NewKey && !j.opts.NewKey:
		return false
	}
	return !opts.Force || j.opts.Force || j.result.Obtained
}

// listen tells progress about every step so far and every further one while ctx lasts.
func (j *job) listen(ctx context.Context, progress func(certs.Step)) {
	if progress == nil {
		return
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, s := range j.steps {
		progress(s)
	}
	j.listeners = append(j.listeners, listener{ctx, progress})
}

func (j *job) tell(s certs.Step) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.steps = append(j.steps, s)
	for _, l := range j.listeners {
		if l.ctx.Err() == nil {
			l.tell(s)
		}
	}
}

// run decides and does the next missing thing until nothing is missing.
func (j *job) run(ctx context.Context) {
	if err := j.obey(ctx); err != nil {
		j.fail(err)
		j.finish(nil)
		return
	}
	opts := j.opts
	var lineage *store.Lineage
	for range maxRounds {
		var err error
		if lineage, err = j.load(); err != nil {
			j.fail(err)
			break
		}
		opts.doubt = j.doubt
		plan := Decide(j.engine.clock(), j.want, lineage, opts)
		if needsClock(j.engine.clock(), plan, lineage) {
			if doubt := j.engine.confirmClock(ctx); doubt != "" {
				j.doubt, opts.doubt = doubt, doubt
				plan = Decide(j.engine.clock(), j.want, lineage, opts)
			}
		}
		if j.result.Reason == "" || j.result.Reason == ReasonNothing {
			j.result.Reason, j.result.Message = plan.Reason, plan.Message
		}
		j.result.Next = plan.Next
		if plan.Idle() {
			break
		}
		if err := j.apply(ctx, plan, lineage); err != nil {
			j.fail(err)
			break
		}
		opts = Options{Retry: opts.Retry && len(plan.Install)+len(plan.Verify) == 0} // until the targets had their try
	}
	j.describe(lineage)
	if err := j.alert(lineage); err != nil {
		j.fail(err)
	}
	j.finish(lineage)
}

// describe notes which version is live at the end.
func (j *job) describe(lineage *store.Lineage) {
	if lineage == nil || lineage.Current == nil {
		return
	}
	j.result.Version, j.result.NotAfter = lineage.Version, lineage.Current.Leaf.NotAfter
	if h := lineage.State.Held; h != nil && h.Version != lineage.Version {
		j.result.Held = h.Reason
	}
}

// apply does the first thing that the plan asks for. A returned error ends the job; errors that were stored with the
// time of the next try do not.
func (j *job) apply(ctx context.Context, plan Plan, lineage *store.Lineage) error {
	switch {
	case plan.Obtain:
		return j.obtain(ctx, lineage)
	case plan.Activate != "":
		return j.goLive(lineage, plan.Activate)
	case len(plan.Install)+len(plan.Verify) > 0:
		return j.deliver(ctx, plan, lineage)
	case plan.Hook:
		return j.postHook(ctx, lineage)
	case plan.Remind > 0:
		return j.remind(lineage, plan)
	default:
		return j.askARI(ctx, lineage)
	}
}

// obtain orders a new version and stores it. The attempt is on disk before the CA hears of it, so that a crash loop or a
// full disk cannot become a request loop.
func (j *job) obtain(ctx context.Context, lineage *store.Lineage) error {
	st := &lineage.State
	j.condemn(lineage)
	if err := j.recordAttempt(st); err != nil {
		return err
	}
	if err := j.preHook(ctx); err != nil {
		return j.recordOrderFailure(lineage, err)
	}
	bundle, err := j.order(ctx, lineage)
	if err != nil {
		return j.recordOrderFailure(lineage, err)
	}
	j.tell(certs.Step{Phase: certs.PhaseStore})
	now := j.engine.clock()
	version, err := j.engine.store.AddVersion(j.want.Name, bundle, now)
	if err != nil {
		return fmt.Errorf("store the new certificate: %w", err)
	}
	j.result.Obtained, j.result.Changed = true, true
	return j.recordIssued(lineage, bundle, version, now)
}

// askARI fetches the CA's renewal window and draws the renewal time in it, once for each window. No answer is no news.
func (j *job) askARI(ctx context.Context, lineage *store.Lineage) error {
	ctx, cancel := context.WithTimeout(ctx, ariPatience)
	defer cancel()
	leaf := lineage.Current.Leaf
	if j.set.Forewarn != nil {
		lineage.State.Warnings = j.set.Forewarn(ctx, &j.want)
	}
	window, err := j.renewalInfo(ctx, lineage.Current.Issuer, leaf)
	return j.recordWindow(lineage, leaf, window, err)
}

func (j *job) renewalInfo(ctx context.Context, issuer string, leaf *x509.Certificate) (certs.Window, error) {
	i, ok := j.set.Issuers[issuer]
	if !ok {
		return certs.Window{}, fmt.Errorf("issuer %q is not configured", issuer)
	}
	return i.RenewalInfo(ctx, leaf)
}
