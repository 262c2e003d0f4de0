package renewal

import (
	"cmp"
	"context"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// maxRounds bounds how often one job decides anew. The longest honest way is: ask ARI, obtain, activate, install.
const maxRounds = 8

// job is one run for one certificate.
type job struct {
	Certificate
	engine      *Engine
	set         *Set
	opts        Options
	begun       time.Time
	reservation bool           // only keeps other jobs away; see Engine.reserve
	clock       plan.Suspicion // why the clock was not believed when the job began

	record       *record      // nil until it was read
	fleet        *plan.Fleet  // as it was last consulted; nil on a single machine
	held         *fleet.Claim // on the certificate, while it is ordered or published
	released     *store.Held  // what kept a version waiting until this job
	ordered      bool         // a job places one order, whatever the state says afterwards
	looks        bool         // only finds out what would be decided: it asks nobody and keeps nothing
	unrecorded   bool         // something failed whose next try is not stored, because the clock is doubted
	result       Result       // written by the job alone, read after done is closed
	localFailure *localFailure
	next         []certs.NextKey // made ahead
	tlsa         dnsView
	chainsAgain  time.Time // when the CA is asked for missing chains
	progress     progress
	done         chan struct{}
}

func newJob(e *Engine, set *Set, c Certificate, opts Options) *job {
	return &job{
		Certificate: c, engine: e, set: set, opts: opts, begun: e.clock(), result: Result{Name: c.Spec.Name}, done: make(chan struct{}),
	}
}

// answers reports whether the result of an ended job that a Run had joined is what its options ask for.
func (j *job) answers(opts Options) bool {
	switch {
	case j.reservation, opts.aboutVersions(), opts.Targets != "", opts.NewKey && !j.opts.NewKey:
		return false
	case opts.Again && !j.opts.Again && !j.ordered:
		return false
	}
	return !opts.Force || j.opts.Force || j.result.Obtained
}

// run reads what is stored, does what an operator asked for, then decides and does the next missing thing until nothing
// is missing, and stores the outcome.
func (j *job) run(ctx context.Context) {
	err := j.open()
	defer j.letGo()
	if err == nil {
		if err := j.obey(ctx); err != nil { // an answer for the operator, and no failure of the certificate
			j.result.Refused = true
			j.result.Err, j.result.Next = err, j.engine.clock().Add(plan.Retries()[1])
		} else if err := j.steps(ctx); err != nil {
			j.fail(err)
		}
		err = j.finish()
		j.engine.noteStored(j.record.Lineage)
		j.engine.noteNumber(j.record.Lineage)
	}
	if err != nil {
		j.fail(err)
	}
	fields := []zap.Field{
		zap.String("certificate", j.Spec.Name), zap.String("reason", string(j.result.Reason)),
		zap.Bool("obtained", j.result.Obtained), zap.Duration("took", j.engine.clock().Sub(j.begun)),
	}
	if j.result.Err != nil {
		fields = append(fields, zap.String("code", string(advice.Of(j.result.Err))), zap.Error(j.result.Err))
	}
	j.engine.log.Debug("job ended", fields...)
}

func (j *job) open() (err error) {
	if j.record, err = j.engine.open(j.Spec.Name); err != nil {
		return err
	}
	for _, note := range j.engine.newNotes(j.record.Lineage) {
		j.engine.log.Warn("stored files were repaired", zap.String("certificate", j.Spec.Name), zap.String("what", note))
	}
	j.record.resume(&j.Certificate, j.opts.Again)
	return nil
}

// steps decides and applies until a plan is idle.
func (j *job) steps(ctx context.Context) error {
	opts := plan.Options{Force: j.opts.Force, Retry: j.opts.Retry, Again: j.opts.Retry}
	for range maxRounds {
		if err := j.review(ctx); err != nil {
			return err
		}
		j.fleet = j.consult(ctx)
		opts.Fleet = j.fleet
		p := j.decide(ctx, opts)
		j.keepReason(&p)
		if p.Idle() || p.Obtain && j.ordered {
			return nil
		}
		if err := j.apply(ctx, p, opts.Fleet); err != nil {
			return err
		}
		if j.unrecorded {
			j.result.Next = j.engine.clock().Add(plan.ClockCheck)
			return nil
		}
		serving := len(p.Install)+len(p.Verify) > 0
		opts = plan.Options{ // until those who are asked for had their try
			Retry: opts.Retry && !serving, Again: opts.Again && (serving || p.Obtain || p.Activate != ""),
		}
	}
	return nil
}

func (j *job) decide(ctx context.Context, opts plan.Options) plan.Plan {
	opts.Clock = j.clock
	p := plan.Decide(j.engine.clock(), &j.Spec, j.record.Lineage, opts)
	if j.record.needsClock(p) {
		if j.clock = j.engine.confirmClock(ctx, j.Spec.Issuers); j.clock.Reason != "" {
			opts.Clock = j.clock
			p = plan.Decide(j.engine.clock(), &j.Spec, j.record.Lineage, opts)
		}
	}
	return p
}

// keepReason keeps the first reason for the result that is worth a line: what was found in order is not.
func (j *job) keepReason(p *plan.Plan) {
	switch j.result.Reason {
	case "", plan.ReasonNothing, plan.ReasonDrift:
		j.result.Reason, j.result.Message = p.Reason, p.Message
	}
	j.result.Next, j.result.Follows = p.Next, p.Reason == plan.ReasonFollow
	j.result.Away = j.fleet != nil && j.fleet.Away != ""
}

// apply does the first thing that the plan asks for. A returned error ends the job; what is recorded with the time of the
// next try does not.
func (j *job) apply(ctx context.Context, p plan.Plan, f *plan.Fleet) error {
	switch {
	case p.Adopt:
		return j.adopt(ctx, f.Head)
	case p.Publish:
		return j.publish(ctx, f.Head)
	case p.Obtain:
		return j.obtain(ctx, p, f)
	case p.Activate != "":
		return j.activate(p.Activate)
	case len(p.Install)+len(p.Verify) > 0:
		return j.serve(ctx, p)
	case p.Hook:
		return j.runPost(ctx)
	case p.Remind > 0:
		j.remind(p)
	case !p.AskARI && len(p.Revoke) > 0:
		return j.revoke(ctx, p.Revoke[0])
	default:
		j.askARI(ctx)
	}
	return nil
}

// finish tells what is unsolved, stores the record and removes old versions.
func (j *job) finish() error {
	r := j.record
	if r.Current != nil {
		j.result.Version, j.result.NotAfter = r.Version, r.Current.Leaf.NotAfter
		if h := r.State.Held; h != nil && h.Version != r.Version {
			j.result.Held = h.Reason
		}
	}
	j.result.Next = clock.Earlier(clock.Earlier(j.result.Next, j.tlsa.again), j.chainsAgain)
	j.alertLimit()
	j.alertExpiry()
	if err := r.save(); err != nil {
		return err
	}
	if j.result.Obtained || len(r.State.Compromised) > 0 {
		if err := j.engine.store.Prune(j.Spec.Name, j.set.Keep); err != nil {
			j.engine.log.Warn("old versions could not be removed", zap.String("certificate", j.Spec.Name), zap.Error(err))
		}
	}
	return nil
}

// panicked records an internal error like an order that failed, so that the job is not begun again at once.
func (j *job) panicked(err error) {
	if j.record == nil {
		if openErr := j.open(); openErr != nil {
			j.fail(openErr)
			return
		}
	}
	if err := j.failOrder(err); err != nil {
		j.fail(err)
		return
	}
	j.result.Next = j.record.State.RetryAt
}

// stopped ends a job in the middle of something whose outcome is not known: the next start does it again.
func (j *job) stopped() error {
	if j.engine.base.Err() != nil {
		return ErrClosed
	}
	return nil
}

// step tells those who wait for the job what it does now.
func (j *job) step(phase certs.Phase, detail string) {
	j.progress.add(certs.Step{Phase: phase, Detail: detail})
}

// log remembers what happened, for "acmed log". It is stored with the rest of the record.
func (j *job) log(e store.LogEntry) {
	if j.record != nil {
		e.At = j.engine.clock()
		j.record.edit().Remember(e)
	}
}

// event logs and sends an event about this job's certificate. A notifier that fails is logged and otherwise ignored.
func (j *job) event(e notify.Event) {
	j.log(store.LogEntry{Event: string(e.Kind), Target: e.Target, Version: e.Version, Code: e.Code, Detail: cmp.Or(e.Error, e.Message)})
	if j.set.Notifier == nil {
		return
	}
	e.Time, e.Certificate, e.Names = j.engine.clock(), j.Spec.Name, j.Spec.Names()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.engine.base), 30*time.Second)
	defer cancel()
	if err := j.set.Notifier.Notify(ctx, e); err != nil {
		j.engine.log.Warn("notification failed", zap.String("certificate", e.Certificate), zap.Error(err))
	}
}
