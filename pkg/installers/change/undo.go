package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/installers"
)

// Undo gives every file of a journal the bytes, owner and mode that it had before the first change, and takes away what
// did not exist. It is idempotent; a journal that does not exist has nothing to undo.
//
// It goes by content alone: when any file is not what acmed last wrote, or was edited between two changes, the answer is
// one [*installers.ConflictError] per such file and nothing is touched. A file that another process removed stays removed.
// An Undo that was killed is finished first: what was edited since keeps its entry, and is such a conflict. A plugin that can remove its own lines does so by a Change
// and then calls [Forget].
//
// The operator's bytes come back even if the server's test does not like them; then the test's error is returned and the
// server is not reloaded. A stopped server is no error. Test and reload may be nil.
func Undo(ctx context.Context, journal string, test, reload func(context.Context) error) error {
	return undo(ctx, journal, test, reload, medium{})
}

func undo(ctx context.Context, journal string, test, reload func(context.Context) error, m medium) error {
	j, err := existingJournal(ctx, journal, m)
	if j == nil {
		return err
	}
	defer j.close()
	if _, err := j.settle(ctx, reload); err != nil {
		return err
	}
	if len(j.record.Undo) == 0 {
		return nil
	}
	if err := j.conflicts(); err != nil {
		return err
	}
	if err := j.save(record{Undo: j.record.Undo, Pending: &pending{Undo: true}}); err != nil {
		return err
	}
	kept, conflict, err := j.putBack(j.record.Undo)
	if err != nil {
		return err
	}
	if err = call(ctx, test); err != nil {
		err = fmt.Errorf("the original files are back, but the server was not reloaded because its test fails: %w", err)
	} else {
		err = reloadRunning(ctx, reload)
	}
	return errors.Join(conflict, err, j.save(record{Undo: kept}))
}

// Recover settles what a crash left in a journal: a change that was not committed is put back, and the server reads the
// old files again if it may have read the new ones; an [Undo] under way is finished. A file that another process edited
// meanwhile keeps that edit, which is no error: the undo record still has its original. Call it at start, before anything
// is installed. It is idempotent. An error leaves the journal as it is, for the next attempt.
func Recover(ctx context.Context, journal string, reload func(context.Context) error) error {
	return settleAll(ctx, journal, reload, medium{})
}

func settleAll(ctx context.Context, journal string, reload func(context.Context) error, m medium) error {
	j, err := existingJournal(ctx, journal, m)
	if j == nil {
		return err
	}
	defer j.close()
	err = j.sweep()
	_, failed := j.settle(ctx, reload)
	return errors.Join(err, failed, j.tidy())
}

// Original is one file in an undo record: as it was before the first change, and what the last change made of it.
type Original struct {
	Path    string // without symbolic links
	Existed bool
	Content []byte // nil when it did not exist or was a symbolic link
	Written string // Hash of what the last change wrote, LinkHash of a symbolic link, or Absent
	Edited  bool   // somebody else edited it between two changes, so Content is not all there is to give back
}

// Originals lists the undo record of a journal; it is empty when nothing is installed.
func Originals(ctx context.Context, journal string) ([]Original, error) {
	j, err := existingJournal(ctx, journal, medium{})
	if j == nil {
		return nil, err
	}
	defer j.close()
	var list []Original
	for _, e := range j.record.Undo {
		content, err := j.backup(e)
		if err != nil {
			return nil, err
		}
		list = append(list, Original{
			Path: e.Path, Existed: e.Before.Hash != Absent, Content: content, Written: e.After.Hash, Edited: e.Edited,
		})
	}
	return list, nil
}

// Forget drops the undo record of a journal, for a plugin that has put things right itself. A pending change is refused.
func Forget(ctx context.Context, journal string) error {
	j, err := existingJournal(ctx, journal, medium{})
	if j == nil {
		return err
	}
	defer j.close()
	if j.record.Pending != nil {
		return fmt.Errorf("journal %s: a change is not yet rolled back", journal)
	}
	return j.save(record{})
}

// existingJournal opens a journal; both results are nil when there is none.
func existingJournal(ctx context.Context, path string, m medium) (*journal, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return openJournal(ctx, path, m)
}

// settle leaves the journal without a pending change. A file that another process edited meanwhile keeps that edit: it is
// in conflict, and its entry stays in the undo record, so that a later install or uninstall knows what was there first.
// With an error the journal is as it was, or it is settled and the server could not be reloaded.
func (j *journal) settle(ctx context.Context, reload func(context.Context) error) (conflict, err error) {
	p := j.record.Pending
	if p == nil {
		return nil, nil
	}
	entries, rest := p.Files, j.record.Undo
	if p.Undo {
		entries, rest = j.record.Undo, nil
	}
	kept, conflict, err := j.putBack(entries)
	if err != nil {
		return nil, fmt.Errorf("restore: %w", err)
	}
	if p.Undo || p.Reloaded {
		err = reloadRunning(ctx, reload)
	}
	return conflict, errors.Join(err, j.save(record{Undo: merge(rest, kept)}))
}

// reloadRunning makes a running server read the files that were put back.
func reloadRunning(ctx context.Context, reload func(context.Context) error) error {
	err := call(ctx, reload)
	if stopped := (*installers.NotRunningError)(nil); err == nil || errors.As(err, &stopped) {
		return nil
	}
	return fmt.Errorf("reload after the files were restored: %w", err)
}

// conflicts lists the files that [Undo] must not touch.
func (j *journal) conflicts() error {
	var errs []error
	for _, e := range j.record.Undo {
		now, err := j.medium().inspect(e.Path)
		switch {
		case unreachable(err):
			errs = append(errs, err)
		case err != nil:
			errs = append(errs, &installers.ConflictError{Path: e.Path, Reason: err.Error()})
		case now.state.Hash == e.Before.Hash || e.removedSince(now.state):
		case now.state.isLink() && !e.After.isLink():
			errs = append(errs, j.conflict(e, "replaced by a symbolic link since acmed's change"))
		case now.state.Hash != e.After.Hash:
			errs = append(errs, j.conflict(e, "modified since acmed's change"))
		case e.Edited:
			errs = append(errs, j.conflict(e, "modified between two changes of acmed"))
		}
	}
	return errors.Join(errs...)
}

// conflict is the error for a file that stays as it is, with the way on.
func (j *journal) conflict(e entry, reason string) error {
	reason += "; not reverted. Move it away"
	if e.Before.hasContent() {
		reason += fmt.Sprintf(", or replace it by the original in %s", filepath.Join(j.path, backupPrefix+e.Before.Hash))
	}
	reason += ", then uninstall again"
	if e.Kept != "" && e.Kept != e.Before.Hash {
		reason += fmt.Sprintf("; acmed replaced a modified file, which is in %s", filepath.Join(j.path, backupPrefix+e.Kept))
	}
	return &installers.ConflictError{Path: e.Path, Reason: reason}
}

// removedSince reports whether another process took away the file that a change wrote: nothing of acmed's is left there.
func (e *entry) removedSince(now state) bool { return now.Hash == Absent && e.After.Hash != Absent }

// putBack restores entries in reverse order. A file that is neither as the change left it nor as it was before belongs
// to whoever edited it: it stays, and so does its entry, in the order of entries. The others are restored all the same.
// All backups are read before anything is written.
func (j *journal) putBack(entries []entry) (kept []entry, conflict, err error) {
	backups := make([][]byte, len(entries))
	for i, e := range entries {
		if backups[i], err = j.backup(e); err != nil {
			return nil, nil, err
		}
	}
	var conflicts, errs []error
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		now, err := j.medium().inspect(e.Path)
		switch {
		case unreachable(err):
			errs = append(errs, err)
		case err != nil:
			conflicts = append(conflicts, &installers.ConflictError{Path: e.Path, Reason: "not restored: " + err.Error()})
			kept = append(kept, e)
		case e.Before == now.state || e.removedSince(now.state):
		case now.state.Hash == e.After.Hash || now.state.Hash == e.Before.Hash:
			errs = append(errs, j.medium().put(e.Path, e.Before, backups[i]))
		default:
			conflicts = append(conflicts, &installers.ConflictError{Path: e.Path, Reason: "modified since acmed's change; not restored"})
			kept = append(kept, e)
		}
	}
	slices.Reverse(kept)
	return kept, errors.Join(conflicts...), errors.Join(errs...)
}

// sweep removes the temporaries that a killed change left beside its files.
func (j *journal) sweep() error {
	p := j.record.Pending
	if p == nil || j.disk != nil {
		return nil
	}
	dirs := map[string]bool{}
	for _, e := range append(p.Files, j.record.Undo...) {
		dirs[filepath.Dir(e.Path)] = true
	}
	var errs []error
	for name := range dirs {
		dir, err := atomicfile.OpenDir(name, nil)
		if err == nil {
			err = errors.Join(dir.Sweep("."), dir.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
