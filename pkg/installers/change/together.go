package change

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/installers"
)

// Part is the share of one more target in a change.
type Part struct {
	Journal string
	Files   []File // a file that an earlier part changes too is what that part leaves, and its content has both edits
}

// ErrLeaveOut says that some targets failed which cannot be undone alone, or which cannot be planned. All is as it was before;
// without the failed targets the change can be made again.
var ErrLeaveOut = errors.New("the change cannot be made with the targets that failed")

// share is a part of a change and what it does to the files.
type share struct {
	journal string
	edits   []edit
}

// ApplyTogether is [Change.Apply] for several targets of one server: one test before, all files written, one test after,
// one reload, then the proofs, of which prove returns one error for each target: the change's own first, then those of its
// Others. Until the proofs are made it is all or nothing, by the change's own journal. A target whose proof fails is undone
// alone, and the others stand; failed has the reasons. What is unfinished (see Apply) counts as success and is told.
//
// When err is set all is as it was before, and failed still has the reasons of those which cannot be planned or whose proof
// failed. Where nothing else went wrong err is then [ErrLeaveOut].
func (c *Change) ApplyTogether(ctx context.Context, prove func(context.Context) []error) (failed []error, err error) {
	j, err := c.open(ctx)
	if err != nil {
		return nil, err
	}
	defer j.close()
	shares, all, failed := c.share()
	if errors.Join(failed...) != nil {
		return failed, ErrLeaveOut
	}
	if len(all) == 0 && !c.Always {
		return failed, nil
	}
	if len(all) == 0 {
		if err := c.renew(ctx); err != nil {
			return nil, err
		}
		return prove(ctx), nil
	}
	if err := c.testBefore(ctx); err != nil {
		return nil, err
	}
	if err := j.begin(all); err != nil {
		return nil, fmt.Errorf("journal of the change: %w", err)
	}
	failed, err = c.tryAll(ctx, j, shares, all, prove)
	if err != nil {
		conflict, unsettled := j.settle(context.WithoutCancel(ctx), c.Reload)
		if back := errors.Join(conflict, unsettled); back != nil && errors.Is(err, ErrLeaveOut) {
			return failed, back
		}
		return failed, errors.Join(err, conflict, unsettled)
	}
	return failed, nil
}

// share plans all parts, one after the other, and what they come to. A part that cannot be planned has its error in failed.
func (c *Change) share() (shares []share, all []edit, failed []error) {
	parts := append([]Part{{c.Journal, c.Files}}, c.Others...)
	shares, failed = make([]share, len(parts)), make([]error, len(parts))
	known := map[string]*found{}
	at := map[string]int{} // by path, in all
	for i, p := range parts {
		shares[i].journal = p.Journal
		one := Change{Files: p.Files, Disk: c.Disk}
		edits, err := one.planOn(known)
		if unreachable(err) { // and so are the files of the others
			return nil, nil, slices.Repeat([]error{err}, len(parts))
		}
		if failed[i] = err; err != nil {
			continue
		}
		shares[i].edits = edits
		for _, e := range edits {
			known[e.Path] = &found{path: e.Path, state: e.After, content: e.content}
			if n, again := at[e.Path]; again {
				all[n].After, all[n].content, all[n].secret = e.After, e.content, all[n].secret || e.secret
				continue
			}
			at[e.Path] = len(all)
			all = append(all, e)
		}
	}
	return shares, all, failed
}

// tryAll does everything between the journal's begin and its commit.
func (c *Change) tryAll(ctx context.Context, j *journal, shares []share, all []edit, prove func(context.Context) []error) ([]error, error) {
	stopped, err := c.putInForce(ctx, j, all)
	if err != nil {
		return nil, err
	}
	results := make([]error, len(shares))
	if stopped != nil {
		for i := range results {
			results[i] = stopped
		}
	} else {
		copy(results, prove(ctx))
	}
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	lost := map[int]bool{}
	for i, err := range results {
		if isFailure(err) {
			lost[i], results[i] = true, fmt.Errorf("probe: %w", err)
		}
	}
	if err := c.drop(ctx, j, shares, lost); err != nil {
		return results, err
	}
	return results, c.commitAll(ctx, j, shares, lost)
}

// isFailure tells a proof that failed from one that is only unfinished.
func isFailure(err error) bool {
	var stopped *installers.NotRunningError
	var later *installers.LaterError
	return err != nil && !errors.As(err, &stopped) && !errors.As(err, &later)
}

// drop puts the files of some shares back and makes the server read them.
func (c *Change) drop(ctx context.Context, j *journal, shares []share, lost map[int]bool) error {
	if len(lost) == 0 {
		return nil
	}
	back, err := disentangle(j.record.Pending.Files, shares, lost)
	if err != nil || len(back) == 0 {
		return err
	}
	if _, conflict, err := j.putBack(back); conflict != nil || err != nil {
		return errors.Join(conflict, err)
	}
	if err := call(ctx, c.Test); err != nil {
		return err
	}
	return reloadRunning(ctx, c.Reload)
}

// disentangle returns the files of the lost shares alone. It is [ErrLeaveOut] if one of them is also of a share that stands,
// or if they are all files, which are put back as a whole.
func disentangle(files []entry, shares []share, lost map[int]bool) (back []entry, err error) {
	stands, goes := map[string]bool{}, map[string]bool{}
	for i, s := range shares {
		for _, e := range s.edits {
			stands[e.Path] = stands[e.Path] || !lost[i]
			goes[e.Path] = goes[e.Path] || lost[i]
		}
	}
	for _, e := range files {
		switch {
		case !goes[e.Path]:
		case stands[e.Path]:
			return nil, ErrLeaveOut
		default:
			back = append(back, e)
		}
	}
	if len(back) == len(files) {
		return nil, ErrLeaveOut
	}
	return back, nil
}

// commitAll gives every target its own undo record, the change's own last: from then on nothing is put back by a crash.
func (c *Change) commitAll(ctx context.Context, j *journal, shares []share, lost map[int]bool) error {
	errs := make([]error, len(shares))
	slots := make(chan struct{}, parallelCommits)
	var wg guard.Group
	for i := 1; i < len(shares); i++ {
		if lost[i] || len(shares[i].edits) == 0 {
			continue
		}
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			errs[i] = commitShare(ctx, shares[i], c.guard)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	var own []entry
	for _, e := range shares[0].edits {
		if !lost[0] {
			own = append(own, e.entry)
		}
	}
	return j.save(record{Undo: merge(j.record.Undo, own)})
}

// parallelCommits bounds how many journals are written at once.
const parallelCommits = 8

func commitShare(ctx context.Context, s share, guard atomicfile.Guard) error {
	other, err := openJournal(ctx, s.journal, medium{guard: guard})
	if err != nil {
		return err
	}
	defer other.close()
	if other.record.Pending != nil {
		return fmt.Errorf("journal %s: a change is not yet rolled back", s.journal)
	}
	var entries []entry
	for i := range s.edits {
		e := &s.edits[i]
		entries = append(entries, e.entry)
		if err := other.keep(e); err != nil {
			return err
		}
	}
	return other.save(record{Undo: merge(other.record.Undo, entries)})
}
