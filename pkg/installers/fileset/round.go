package fileset

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// task is one target in a round.
type task struct {
	*Set
	bundle *certs.Bundle
	finish func(error)

	files    []change.File
	before   *endpoint.Before // the clients that could connect before the change
	unread   error            // why the running server takes the files only when it is reloaded
	rejected error            // why it does not take them at all
}

const (
	// spacing is the least time between two reloads while the targets are sought that fail.
	spacing = time.Second
	// maxPasses bounds that search: where all fail, the rest need not be tried one by one.
	maxPasses = 32
)

// runRound installs all targets of a round.
func runRound(ctx context.Context, jobs []*installers.Job) {
	tasks := make([]*task, len(jobs))
	for i, j := range jobs {
		tasks[i] = j.Work.(*task)
		tasks[i].finish = j.Finish
	}
	run(ctx, tasks)
}

// run finishes the tasks. When they fail together, those that fail are found and left out, by halves if need be.
func run(ctx context.Context, tasks []*task) {
	passes := 0
	for queue := [][]*task{tasks}; len(queue) > 0; passes++ {
		begun := time.Now()
		again := try(ctx, queue[0], passes >= maxPasses)
		queue = append(queue[1:], again...)
		if len(again) > 0 && tasks[0].Server != nil {
			select {
			case <-time.After(spacing - time.Since(begun)):
			case <-ctx.Done():
			}
		}
	}
}

// try makes one change of the tasks, and returns groups of those that are to be tried again.
func try(ctx context.Context, tasks []*task, last bool) (again [][]*task) {
	tasks, later := ready(ctx, tasks)
	if len(later) > 0 {
		again = append(again, later)
	}
	for always := false; len(tasks) > 0; always = true {
		tested := false
		edit := together(tasks, always)
		edit.Test = func(ctx context.Context) error { // before the first file is written, and after the last
			if !tested {
				guard.Each(len(tasks), endpoint.ParallelProofs, func(i int) { tasks[i].before = endpoint.AskAll(ctx, tasks[i].Endpoints, tasks[i].same) })
			}
			tested = true
			return nil
		}
		results, err := edit.ApplyTogether(ctx, func(ctx context.Context) []error { return prove(ctx, tasks) })
		switch {
		case err != nil:
			if s := tasks[0].Server; s != nil {
				change.JournalsOf(s).Add(edit.Journal)
			}
			return append(again, failed(ctx, tasks, results, err, last)...)
		case tested:
			for i, t := range tasks {
				t.finish(results[i])
			}
			return again
		}
		tasks = unserved(ctx, tasks) // no file differs
	}
	return again
}

// ready settles what a crash left, and lists the files of each task. A target that was asked for twice is for later.
func ready(ctx context.Context, tasks []*task) (list, later []*task) {
	var broken map[string]error
	if s := tasks[0].Server; s != nil {
		broken = change.JournalsOf(s).Settle(ctx, tasks[0].Disk, func(ctx context.Context) error { return update(ctx, tasks) })
	}
	seen := map[string]bool{}
	for _, t := range tasks {
		if seen[t.Journal] {
			later = append(later, t)
			continue
		}
		seen[t.Journal] = true
		err := broken[t.Journal]
		if err == nil {
			t.files, err = t.list(ctx, t.bundle)
		}
		if err != nil {
			t.finish(err)
			continue
		}
		t.rejected = nil
		list = append(list, t)
	}
	return list, later
}

// together is the change that all tasks come to.
func together(tasks []*task, always bool) *change.Change {
	edit := &change.Change{Always: always, Journal: tasks[0].Journal, Files: tasks[0].files, Disk: tasks[0].Disk}
	for _, t := range tasks[1:] {
		edit.Others = append(edit.Others, change.Part{Journal: t.Journal, Files: t.files})
	}
	edit.Reload = func(ctx context.Context) error { return update(ctx, tasks) }
	return edit
}

// update makes the server read the files of the tasks. Those that it takes without a reload need none.
func update(ctx context.Context, tasks []*task) error {
	var errs []error
	reload := false
	for _, t := range tasks {
		var err error
		if t.Push == nil {
			reload = t.Server != nil
		} else if t.unread, err = t.Push(ctx); err != nil {
			t.rejected = err
			errs = append(errs, err)
		}
		reload = reload || t.unread != nil
	}
	if reload {
		if err := tasks[0].Server.Reload(ctx); err != nil {
			if tasks[0].unread != nil {
				err = fmt.Errorf("%w (%w)", err, tasks[0].unread)
			}
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// unserved finishes the tasks whose endpoints serve what they should, and returns the others.
func unserved(ctx context.Context, tasks []*task) (rest []*task) {
	stale := make([]error, len(tasks))
	guard.Each(len(tasks), endpoint.ParallelProofs, func(i int) { stale[i] = endpoint.Look(ctx, tasks[i].Endpoints, tasks[i].bundle) })
	for i, t := range tasks {
		if stale[i] != nil {
			rest = append(rest, t)
		} else {
			t.finish(nil)
		}
	}
	return rest
}

// prove makes the proofs of all tasks.
func prove(ctx context.Context, tasks []*task) []error {
	errs := make([]error, len(tasks))
	guard.Each(len(tasks), endpoint.ParallelProofs, func(i int) { errs[i] = tasks[i].prove(ctx) })
	return errs
}

func (t *task) prove(ctx context.Context) error {
	if len(t.Endpoints) == 0 {
		return nil
	}
	verify := func(wait time.Duration) error { return t.before.Verify(ctx, t.Endpoints, t.bundle, wait) }
	var err error
	if t.Probe != nil {
		err = t.Probe(ctx, verify)
	} else {
		err = verify(t.Limit())
	}
	if err == nil {
		err = t.before.Lost(ctx, t.bundle, 0)
	}
	if err == nil {
		err = t.check(ctx, t.bundle)
	}
	return err
}

// same reports whether nothing changes for clients: the issuer and the kind of key stay.
func (t *task) same(leaf *x509.Certificate) bool { return endpoint.SameForClients(leaf, t.bundle) }

// failed finishes those who caused the failure of a change that was put back, and lets the others try again without them.
func failed(ctx context.Context, tasks []*task, results []error, err error, last bool) [][]*task {
	away := (*change.UnreachableError)(nil)
	rest := tasks
	if !last && ctx.Err() == nil && !errors.As(err, &away) {
		rest = leaveOut(tasks, results, err)
		switch n := len(rest); {
		case n == 0:
			return nil
		case n < len(tasks):
			return [][]*task{rest}
		case n > 1:
			return [][]*task{rest[:n/2], rest[n/2:]}
		}
	}
	for _, t := range rest {
		t.finish(err)
	}
	return nil
}

// leaveOut finishes the tasks of which it is known that they failed, and returns the others.
func leaveOut(tasks []*task, results []error, err error) (rest []*task) {
	for i, t := range tasks {
		switch {
		case len(results) > 0 && results[i] != nil && errors.Is(err, change.ErrLeaveOut):
			t.finish(results[i])
		case len(results) > 0 && results[i] != nil:
			t.finish(errors.Join(results[i], err))
		case t.rejected != nil && len(tasks) > 1:
			t.finish(fmt.Errorf("reload: %w", t.rejected))
		default:
			rest = append(rest, t)
		}
	}
	return rest
}
