package installers

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pause is the least time between the beginnings of two rounds that test or reload one server, so that however many targets
// ask, it is tested and reloaded no more often than that.
const pause = time.Second

// Job is one call of [Server.Together] in its round.
type Job struct {
	Work any // what it was called with

	ctx  context.Context
	lead chan struct{} // closed when it must lead the next round
	done chan struct{} // closed by Finish
	once sync.Once
	err  error
}

// Finish ends the job; only the first call counts.
func (j *Job) Finish(err error) {
	j.once.Do(func() {
		j.err = err
		close(j.done)
	})
}

// Finished reports whether Finish was called.
func (j *Job) Finished() bool {
	select {
	case <-j.done:
		return true
	default:
		return false
	}
}

// rounds collects the jobs of one server.
type rounds struct {
	mu    sync.Mutex
	busy  bool   // somebody leads a round, or is about to
	queue []*Job // who waits for the next round
	began time.Time
	used  bool // the server was tested or reloaded since
}

// use notes that the server is tested or reloaded.
func (r *rounds) use() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.used = true
}

// Together does what several callers want of the server in one round: those who call while a round runs share the next
// one. The first of them leads it: run gets all jobs of the round, edits the configuration under the server's lock and
// finishes every job; one that it leaves has failed. A round begins at once when none tested or reloaded the server in the
// last second.
//
// The context of a round ends when those of all of its jobs have. A caller whose ctx ends before its round begins is not
// in it; afterwards it waits for the end, so that nothing is left half done when Together returns.
func (s *Server) Together(ctx context.Context, work any, run func(context.Context, []*Job)) error {
	j := &Job{Work: work, ctx: ctx, lead: make(chan struct{}), done: make(chan struct{})}
	if s.rounds.join(j) {
		close(j.lead)
	}
	if err := Wait(ctx, func() error { return s.await(ctx, j) }); err != nil {
		return err
	}
	if !j.Finished() {
		s.leadRound(j, run)
	}
	<-j.done
	return j.err
}

// await waits until the job leads or is done.
func (s *Server) await(ctx context.Context, j *Job) error {
	select {
	case <-j.lead:
	case <-j.done:
	case <-ctx.Done():
		if s.rounds.leave(j) {
			return fmt.Errorf("wait for another edit of %s: %w", s.name, context.Cause(ctx))
		}
		select {
		case <-j.lead:
		case <-j.done:
		}
	}
	return nil
}

// leadRound runs one round and hands over to the next.
func (s *Server) leadRound(j *Job, run func(context.Context, []*Job)) {
	defer s.rounds.next()
	unlock, err := s.turn(j.ctx)
	if err != nil {
		s.rounds.drop(j)
		j.Finish(err)
		return
	}
	defer unlock()
	jobs := s.rounds.take()
	defer func() {
		for _, one := range jobs {
			one.Finish(errors.New("internal error: the round ended without a result"))
		}
	}()
	ctx, cancel := joined(j.ctx, jobs)
	defer cancel(nil)
	run(ctx, jobs)
}

// turn waits until a round may begin.
func (s *Server) turn(ctx context.Context) (unlock func(), err error) {
	s.rounds.mu.Lock()
	wait := pause - time.Since(s.rounds.began)
	s.rounds.mu.Unlock()
	if timer := time.NewTimer(wait); wait > 0 {
		defer timer.Stop()
		if err := Wait(ctx, func() error {
			select {
			case <-timer.C:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}); err != nil {
			return nil, fmt.Errorf("wait for another edit of %s: %w", s.name, err)
		}
	}
	return s.Lock(ctx)
}

// joined ends when the contexts of all jobs have ended.
func joined(ctx context.Context, jobs []*Job) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	var left atomic.Int32
	left.Store(int32(len(jobs)))
	for _, j := range jobs {
		stop := context.AfterFunc(j.ctx, func() {
			if left.Add(-1) == 0 {
				cancel(context.Cause(j.ctx))
			}
		})
		context.AfterFunc(ctx, func() { stop() })
	}
	return ctx, cancel
}

// join adds a job, and reports whether it must lead.
func (r *rounds) join(j *Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = append(r.queue, j)
	lead := !r.busy
	r.busy = true
	return lead
}

// leave takes a job back that is in no round yet and leads none. It reports whether there was one.
func (r *rounds) leave(j *Job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.Index(r.queue, j)
	select {
	case <-j.lead:
		return false
	default:
	}
	if i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
	return i >= 0
}

// drop takes the leader out.
func (r *rounds) drop(j *Job) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.queue = slices.DeleteFunc(r.queue, func(other *Job) bool { return other == j })
}

// take begins a round with all who wait.
func (r *rounds) take() []*Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	jobs := r.queue
	r.queue, r.began, r.used = nil, time.Now(), false
	return jobs
}

// next lets the first of those who wait lead.
func (r *rounds) next() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.used {
		r.began = time.Time{}
	}
	if r.busy = len(r.queue) > 0; r.busy {
		close(r.queue[0].lead)
	}
}

type waitKey struct{}

// WithWait makes around be called where a target comes to a server that others may be waiting for, so that a caller whose
// places are scarce can give its own away. Around must not wait for one itself: it may hold up the others.
func WithWait(ctx context.Context, around func(wait func() error) error) context.Context {
	return context.WithValue(ctx, waitKey{}, around)
}

// Wait calls wait, in what [WithWait] put around it.
func Wait(ctx context.Context, wait func() error) error {
	if around, ok := ctx.Value(waitKey{}).(func(func() error) error); ok {
		return around(wait)
	}
	return wait()
}
