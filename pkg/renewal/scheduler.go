package renewal

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"
	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// soonest is the least time between two runs of one certificate, whatever its plan says. It is what stands between a
// mistake in a plan and a busy loop.
const soonest = 30 * time.Second

// pokeDelay is how long after a change by another node a certificate is looked at: changes come in pairs, and this bounds
// how often.
const pokeDelay = 200 * time.Millisecond

// SchedulerConfig makes a [Scheduler].
type SchedulerConfig struct {
	Engine    *Engine
	Schedule  string           // cron expression of the sweep; see [plan.CheckSchedule]
	Splay     time.Duration    // every sweep comes up to this much later, drawn once at start
	Clock     func() time.Time // time.Now if nil
	Log       *zap.Logger      // silent if nil
	Beat      func()           // called whenever the scheduler goes round; may be nil
	BeatEvery time.Duration    // go round at least this often; 0: only when something is due
}

// Scheduler looks after all certificates: a sweep over everything at start and then by schedule, and in between only
// those whose plan named an earlier time. It keeps one timer and one time per certificate; what is due is on disk.
type Scheduler struct {
	SchedulerConfig
	share float64 // of the splay by which this machine comes later
	poked chan struct{}
	wg    guard.Group
	watch clockWatch // of Run alone

	mu       sync.Mutex
	schedule cron.Schedule
	offset   time.Duration

	sweep     time.Time            // next sweep over everything
	next      map[string]time.Time // next run of each certificate that is neither queued nor running
	queue     []string             // due, and waiting for a job to end; the most urgent first
	running   map[string]bool      // jobs that the scheduler began; true: to be run again afterwards
	beside    int                  // how many of them began beside the others
	again     map[string]bool      // certificates that another node changed while they were queued or running
	away      map[string]bool      // certificates that were looked at while the fleet's store could not be used
	attention map[string]bool      // certificates that need somebody's attention, as their last run saw it
	ends      map[string]time.Time // expiry of each certificate, as its last run saw it
	timer     time.Time            // what Run waits for
	round     time.Time            // when Run went round
	moved     time.Time            // when a job began or ended
}

// NewScheduler checks the schedule.
func NewScheduler(c SchedulerConfig) (*Scheduler, error) {
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Beat == nil {
		c.Beat = func() {}
	}
	s := &Scheduler{
		SchedulerConfig: c, next: map[string]time.Time{}, ends: map[string]time.Time{}, poked: make(chan struct{}, 1),
		running: map[string]bool{}, again: map[string]bool{}, away: map[string]bool{}, attention: map[string]bool{}, share: spread(),
	}
	if err := s.Reschedule(c.Schedule, c.Splay); err != nil {
		return nil, err
	}
	return s, nil
}

// Reschedule makes the sweeps follow another schedule, or another splay with the same draw. The one that was planned
// still comes at its time; call [Scheduler.Sweep] for one now. An expression that cannot be used changes nothing.
func (s *Scheduler) Reschedule(expr string, splay time.Duration) error {
	schedule, err := plan.ParseSchedule(expr)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.schedule, s.offset = schedule, time.Duration(s.share*float64(splay))
	return nil
}

// Run sweeps until ctx ends, then waits for the jobs that it began; [Engine.Close] bounds how long they take.
func (s *Scheduler) Run(ctx context.Context) {
	defer s.wg.Wait()
	poke := s.poke
	s.Engine.onWait.Store(&poke)
	follow := s.follow
	s.Engine.onEnd.Store(&follow)
	for ctx.Err() == nil {
		now := s.Clock()
		s.mu.Lock()
		stuck := s.stuck(now)
		s.round = now
		s.mu.Unlock()
		if !stuck {
			s.Beat()
		}
		s.watchClock(ctx)
		s.enqueue(s.Clock())
		s.start(ctx)
		s.sleep(ctx, s.wake().Sub(s.Clock()))
	}
}

// Sweep makes the scheduler look at every certificate now: after a reload, or when the clock was set.
func (s *Scheduler) Sweep() {
	s.mu.Lock()
	s.sweep = time.Time{}
	s.mu.Unlock()
	s.poke()
}

// Poke makes the scheduler look at one certificate now, because another node changed something about it. While a job for
// it runs, that comes after the job.
func (s *Scheduler) Poke(name string) {
	s.mu.Lock()
	s.soon(name)
	s.mu.Unlock()
	s.poke()
}

// Back makes the scheduler look again at what it looked at while the fleet's store could not be used.
func (s *Scheduler) Back() {
	s.mu.Lock()
	for name := range s.away {
		s.soon(name)
	}
	clear(s.away)
	s.mu.Unlock()
	s.poke()
}

// soon is Poke. The lock is held.
func (s *Scheduler) soon(name string) {
	if at, waits := s.next[name]; waits {
		s.next[name] = clock.Earlier(at, s.Clock().Add(pokeDelay))
	} else {
		s.again[name] = true
	}
}

func (s *Scheduler) poke() {
	select {
	case s.poked <- struct{}{}:
	default:
	}
}

// enqueue adds what is due to the queue, sorted so that what is missing comes first, and then what expires first: when
// many are due at once, the ones that would hurt do not wait. What is due while it runs comes again afterwards.
func (s *Scheduler) enqueue(now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	before := len(s.queue)
	if !now.Before(s.sweep) {
		s.sweep = s.schedule.Next(now.Add(-s.offset)).Add(s.offset)
		s.next, s.queue, before = map[string]time.Time{}, s.Engine.Names(), 0 // certificates that left the configuration drop out here
	} else {
		for name, at := range s.next {
			if !now.Before(at) {
				s.queue = append(s.queue, name)
				delete(s.next, name)
			}
		}
	}
	if len(s.queue) == before {
		return
	}
	s.queue = slices.DeleteFunc(s.queue, func(name string) bool {
		_, running := s.running[name]
		if running {
			s.running[name] = true
		}
		return running
	})
	slices.SortFunc(s.queue, func(a, b string) int { return cmp.Or(s.ends[a].Compare(s.ends[b]), strings.Compare(a, b)) })
}

// start begins jobs for the first in the queue, at most as many at a time as the engine's set says. Those that only wait
// for others do not count. As many again take what other nodes obtained, so that they do not wait behind orders.
func (s *Scheduler) start(ctx context.Context) {
	most := max(s.Engine.current().Concurrency, 1)
	s.mu.Lock()
	defer s.mu.Unlock()
	for ctx.Err() == nil {
		i := 0
		opts := Options{beside: len(s.running)-s.beside >= most+int(s.Engine.waiting.Load())}
		switch {
		case opts.beside && s.beside >= most:
			return
		case opts.beside:
			i = slices.IndexFunc(s.queue, s.Engine.behind)
		}
		if i < 0 || i >= len(s.queue) {
			return
		}
		name := s.queue[i]
		copy(s.queue[1:i+1], s.queue[:i])
		s.queue = s.queue[1:]
		s.running[name], s.moved = false, s.Clock()
		if opts.beside {
			s.beside++
		}
		s.wg.Go(guard.Logged(s.Log, "scheduler", func() {
			s.done(name, opts.beside, s.Engine.Run(context.WithoutCancel(ctx), name, opts, nil))
			s.start(ctx)
		}))
	}
}

func (s *Scheduler) done(name string, beside bool, r Result) {
	now := s.Clock()
	at := r.again(now)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running[name] { // with what may be an earlier configuration
		at = now.Add(soonest)
	}
	if s.again[name] {
		delete(s.again, name)
		at = now.Add(pokeDelay)
	}
	s.next[name], s.ends[name], s.moved = at, r.NotAfter, now
	if s.away[name] = r.Away; !r.Away {
		delete(s.away, name)
	} else if s.Engine.fleet.Usable() == nil { // it came back while the job ran
		at = now.Add(soonest)
	}
	if beside {
		s.beside--
	}
	delete(s.running, name)
	delete(s.attention, name)
	if r.needsAttention() {
		s.attention[name] = true
	}
	if len(s.queue) == 0 && len(s.running) == 0 || at.Before(s.timer) {
		s.poke()
	}
}

// follow takes up when a job wants to be looked at again that an operator or another caller began.
func (s *Scheduler) follow(r Result) {
	now := s.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ours := s.running[r.Name]; ours || r.Next.IsZero() {
		return
	}
	at := r.again(now)
	s.next[r.Name] = clock.Earlier(s.next[r.Name], at)
	if at.Before(s.timer) {
		s.poke()
	}
}

// again is when a certificate is looked at again. Its turn after another node is not put off: the nodes come within seconds.
func (r *Result) again(now time.Time) time.Time {
	if r.Follows {
		return clock.Later(r.Next, now.Add(pokeDelay))
	}
	return clock.Later(r.Next, now.Add(soonest))
}

// needsAttention reports whether somebody should look at the certificate.
func (r *Result) needsAttention() bool {
	return r.Err != nil || slices.Contains([]plan.Reason{
		plan.ReasonClock, plan.ReasonDamaged, plan.ReasonBackoff, plan.ReasonIssueLimit, plan.ReasonHeld,
	}, r.Reason)
}

// Summary is the state of all certificates in three figures.
type Summary struct {
	Certificates int
	Attention    int       // failed at their last run, or wait for somebody
	Next         time.Time // when anything is looked at again
}

// Summary looks at nothing but what the last runs left in memory.
func (s *Scheduler) Summary() Summary {
	known := s.Engine.current().Certificates
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := Summary{Certificates: len(known), Next: s.sweep}
	for name := range s.attention {
		if _, ok := known[name]; ok {
			sum.Attention++
		}
	}
	for _, next := range s.next {
		sum.Next = clock.Earlier(sum.Next, next)
	}
	return sum
}

// wake is the next moment at which anything may be due.
func (s *Scheduler) wake() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := s.sweep
	for _, next := range s.next {
		at = clock.Earlier(at, next)
	}
	if s.BeatEvery > 0 {
		at = clock.Earlier(at, s.Clock().Add(s.BeatEvery))
	}
	if !s.watch.askAt.IsZero() {
		at = clock.Earlier(at, s.Clock().Add(plan.ClockCheck))
	}
	s.timer = at
	return at
}

func (s *Scheduler) sleep(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-s.poked:
	case <-timer.C:
	}
}
