package webserver

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// task is one target in a round.
type task[C Configuration] struct {
	*Installer[C]
	bundle *certs.Bundle
	job    *installers.Job

	plan      *Plan[C]
	files     []change.File // of the plan, with the edits of the targets before
	reason    error         // why it cannot be served; the server reads the renewed files all the same
	endpoints []endpoint.Endpoint
	before    *endpoint.Before
	conflicts int
}

// attempts is how often a plan is made again because somebody edited a file between reading and writing it. An operator
// at work saves every few seconds, not every few milliseconds.
const attempts = 3

// spacing is the least time between two tests of a round: when an edit failed and the others are tried without it, or when
// edits cannot be made together.
const spacing = time.Second

// maxPasses bounds the search for those whose edit fails: where all do, the rest need not be tried one by one.
const maxPasses = 32

// runRound installs all targets of a round. What cannot be done together is done one after the other.
func runRound[C Configuration](ctx context.Context, jobs []*installers.Job) {
	var tasks []*task[C]
	for _, j := range jobs {
		t := j.Work.(*task[C])
		t.job = j
		tasks = append(tasks, t)
	}
	server := tasks[0].target.Server
	var tested time.Time
	passes := 0
	for queue := [][]*task[C]{tasks}; len(queue) > 0; passes++ {
		p := &pass[C]{server: server, tasks: queue[0], spacing: spacing - time.Since(tested), last: passes > maxPasses}
		queue = append(queue[1:], p.run(ctx)...)
		if p.tested {
			tested = time.Now()
		}
	}
}

// pass is one try to install some targets together.
type pass[C Configuration] struct {
	server  *installers.Server
	tasks   []*task[C]
	spacing time.Duration // wait so long before the first test
	tested  bool
	cured   bool // the test before the edit failed for what the edit mends
	edited  bool // the test after the edit was begun
	asked   bool // the test for its own sake was made
	unsound error
	last    bool // what fails now is not tried again
	later   []*task[C]
	after   C    // the configuration with all edits
	known   bool // after is
}

// run finishes tasks, and returns groups of those that are to be tried again.
func (p *pass[C]) run(ctx context.Context) (again [][]*task[C]) {
	p.recover(ctx)
	if len(p.tasks) == 0 {
		return nil
	}
	c, err := p.tasks[0].read(ctx)
	if err != nil {
		p.finish(err)
		return nil
	}
	p.after = c
	for _, t := range p.tasks {
		t.plan, t.reason, t.endpoints, t.files = nil, nil, nil, nil
		t.plan, t.reason = t.editor.Plan(ctx, c, t.bundle)
	}
	p.merge(c)
	p.dropHopeless(ctx, c)
	if len(p.tasks) > 0 {
		again = p.try(ctx)
	}
	if len(p.later) > 0 {
		again = append(again, p.later)
	}
	return again
}

// recover settles what a crash left.
func (p *pass[C]) recover(ctx context.Context) {
	failed := change.JournalsOf(p.server).Settle(ctx, nil, p.server.Reload)
	seen := map[string]bool{}
	p.keep(func(t *task[C]) bool {
		if seen[t.target.Journal] {
			p.later = append(p.later, t) // the same target, asked for twice
			return false
		}
		seen[t.target.Journal] = true
		err := failed[t.target.Journal]
		if err != nil {
			t.job.Finish(err)
		}
		return err == nil
	})
}

// keep drops the tasks that are not wanted any more.
func (p *pass[C]) keep(wanted func(*task[C]) bool) {
	var list []*task[C]
	for _, t := range p.tasks {
		if wanted(t) {
			list = append(list, t)
		}
	}
	p.tasks = list
}

func (p *pass[C]) finish(err error) {
	for _, t := range p.tasks {
		t.job.Finish(err)
	}
}

// merge puts the edits together, and looks at what they make of the configuration where that can be known before.
func (p *pass[C]) merge(c C) {
	for {
		m := newMerger()
		p.keep(func(t *task[C]) bool {
			if t.reason != nil {
				return true
			}
			var ok bool
			if t.files, ok = m.add(t.plan.Files); !ok {
				p.later = append(p.later, t)
			}
			return ok
		})
		if p.foresee(c, m.result()) {
			return
		}
	}
}

// foresee reports whether the edits can stay as they are merged; otherwise some task got a reason.
func (p *pass[C]) foresee(c C, files []change.File) bool {
	f, ok := p.tasks[0].editor.(Foreseer[C])
	if !ok && len(files) > 0 {
		return true
	}
	if len(files) > 0 {
		var err error
		if p.after, err = f.Foresee(c, files); err != nil {
			return p.blame(err)
		}
	}
	p.known = true
	sound := true
	for _, t := range p.tasks {
		if t.reason == nil {
			if t.endpoints, t.reason = t.plan.Check(p.after); t.reason != nil && len(t.files) > 0 {
				sound = false
			}
		}
	}
	return sound
}

// blame gives the last task with an edit the reason if it is alone, and else leaves the half of them for later.
func (p *pass[C]) blame(err error) bool {
	edits := p.editing()
	if len(edits) == 1 {
		edits[0].reason = err
		return false
	}
	rest := edits[len(edits)/2:]
	p.later = append(p.later, rest...)
	p.keep(func(t *task[C]) bool { return !contains(rest, t) })
	return false
}

func contains[T comparable](list []T, v T) bool {
	for _, one := range list {
		if one == v {
			return true
		}
	}
	return false
}

// editing are the tasks that change a file.
func (p *pass[C]) editing() []*task[C] {
	var list []*task[C]
	for _, t := range p.tasks {
		if t.reason == nil && len(t.files) > 0 {
			list = append(list, t)
		}
	}
	return list
}

// dropHopeless finishes tasks that cannot be served and for which nothing of the server was ever changed. The sites of the
// others must not keep an old certificate because a name cannot be served any more.
func (p *pass[C]) dropHopeless(ctx context.Context, c C) {
	p.keep(func(t *task[C]) bool {
		if t.reason == nil {
			return true
		}
		broken := (*installers.BrokenServerError)(nil)
		installed, err := change.Originals(ctx, t.target.Journal)
		if errors.As(t.reason, &broken) || err != nil || len(installed) == 0 && !c.Names(t.target.FullChain) {
			if unsound := p.soundness(ctx); unsound != nil {
				t.reason = unsound
			}
			t.job.Finish(errors.Join(t.reason, err))
			return false
		}
		return true
	})
}

// soundness is the better reason why nothing can be planned: the server cannot read its configuration either.
func (p *pass[C]) soundness(ctx context.Context) error {
	if !p.asked && ctx.Err() == nil {
		p.asked = true
		if err := p.server.Test(ctx); err != nil && ctx.Err() == nil {
			p.unsound = &installers.BrokenServerError{Err: err}
		}
	}
	return p.unsound
}

// try makes the edits.
func (p *pass[C]) try(ctx context.Context) (again [][]*task[C]) {
	edits := p.editing()
	ordered := append(edits, without(p.tasks, edits)...) // the change's own journal is one that edits
	edit := change.Change{Always: true, Test: p.test, Reload: p.reload}
	for i, t := range ordered {
		if i == 0 {
			edit.Journal, edit.Files = t.target.Journal, t.files
		} else {
			edit.Others = append(edit.Others, change.Part{Journal: t.target.Journal, Files: t.files})
		}
	}
	results, err := edit.ApplyTogether(ctx, func(ctx context.Context) []error { return prove(ctx, ordered) })
	if err != nil {
		change.JournalsOf(p.server).Add(edit.Journal)
		return p.failed(ctx, ordered, edits, results, err)
	}
	if p.known {
		remember(p.server, p.after)
	}
	for i, t := range ordered {
		t.finish(results[i])
	}
	return nil
}

func without[T comparable](list, some []T) []T {
	var rest []T
	for _, one := range list {
		if !contains(some, one) {
			rest = append(rest, one)
		}
	}
	return rest
}

// finish ends a task with what came of the change, and with why it could not be served.
func (t *task[C]) finish(err error) {
	if locked := (*endpoint.LockedOutError)(nil); errors.As(err, &locked) {
		err = &installers.RefusedEditError{Err: err}
	}
	t.job.Finish(errors.Join(t.reason, err))
}

// failed decides who caused the failure of a change that was put back, and lets the others try again without them.
func (p *pass[C]) failed(ctx context.Context, all, edits []*task[C], results []error, err error) [][]*task[C] {
	conflict := (*installers.ConflictError)(nil)
	switch {
	case ctx.Err() != nil, p.isBroken(err), p.last:
		for _, t := range all {
			t.job.Finish(err)
		}
		return nil
	case len(results) == len(all) && errors.Join(results...) != nil:
		return group(p.leaveOut(all, results, err))
	case errors.As(err, &conflict):
		return group(p.retry(all, err))
	case len(edits) == 0:
		for _, t := range all {
			t.finish(err)
		}
		return nil
	case len(edits) == 1:
		edits[0].finish(err)
		return group(without(all, edits))
	}
	if guilty := named(edits, err); guilty != nil {
		guilty.finish(err)
		return group(without(all, []*task[C]{guilty}))
	}
	half := edits[len(edits)/2:]
	return [][]*task[C]{without(all, half), half}
}

// leaveOut finishes the tasks that failed, and returns the others.
func (p *pass[C]) leaveOut(all []*task[C], results []error, err error) (rest []*task[C]) {
	for i, t := range all {
		conflict := (*installers.ConflictError)(nil)
		switch {
		case results[i] == nil:
			rest = append(rest, t)
		case errors.As(results[i], &conflict):
			rest = append(rest, p.retry([]*task[C]{t}, results[i])...)
		default:
			t.finish(errors.Join(results[i], unless(err, change.ErrLeaveOut)))
		}
	}
	return rest
}

// isBroken reports whether the server was broken before anything was edited.
func (p *pass[C]) isBroken(err error) bool {
	broken := (*installers.BrokenServerError)(nil)
	return errors.As(err, &broken) && !p.cured
}

func group[T any](list []T) [][]T {
	if len(list) == 0 {
		return nil
	}
	return [][]T{list}
}

// unless is nil where err is only the sign of a failure that is told otherwise.
func unless(err, sign error) error {
	if errors.Is(err, sign) {
		return nil
	}
	return err
}

// retry are the tasks that are planned again after somebody edited a file.
func (p *pass[C]) retry(all []*task[C], err error) (again []*task[C]) {
	for _, t := range all {
		if t.conflicts++; t.conflicts < attempts {
			again = append(again, t)
		} else {
			t.finish(err)
		}
	}
	return again
}

// named is the only task whose files the server's words name, or nil.
func named[C Configuration](edits []*task[C], err error) *task[C] {
	var found *task[C]
	for _, t := range edits {
		if t.isNamed(err.Error()) {
			if found != nil {
				return nil
			}
			found = t
		}
	}
	return found
}

func (t *task[C]) isNamed(words string) bool {
	paths := []string{t.target.FullChain, t.target.Key}
	for _, f := range t.files {
		paths = append(paths, f.Path, key(f.Path))
	}
	for _, path := range paths {
		if at := strings.Index(words, path); at >= 0 && (at+len(path) == len(words) || strings.ContainsRune(":\"' )\n,;", rune(words[at+len(path)]))) {
			return true
		}
	}
	return false
}
