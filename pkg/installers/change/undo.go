package change

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/installers"
)

// Undo gives every file of a journal the bytes, owner and mode that it had before the first change, and takes away what
// did not exist. It is idempotent; a journal that does not exist has nothing to undo.
//
// It goes by content alone: when any file is not what acmed last wrote, or was edited between two changes, the answer is
// one [*installers.ConflictError] per such file and nothing is touched. A plugin that can remove its own lines does so by a Change
// and then calls [Forget].
//
// The operator's bytes come back even if the server's test does not like them; then the test's error is returned and the
// server is not reloaded. A stopped server is no error. Test and reload may be nil.
func Undo(ctx context.Context, journal string, test, reload func(context.Context) error) error {
	return undo(ctx, journal, test, reload, nil)
}

func undo(ctx context.Context, journal string, test, reload func(context.Context) error, guard atomicfile.Guard) error {
	j, err := existingJournal(ctx, journal, guard)
	if j == nil {
		return err
	}
	defer j.close()
	if err := j.settle(ctx, reload); err != nil {
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
	if err := j.putBack(j.record.Undo); err != nil {
		return err
	}
	if err := call(ctx, test); err != nil {
		err = fmt.Errorf("the original files are back, but the server was not reloaded because its test fails: %w", err)
		return errors.Join(err, j.save(record{}))
	}
	return errors.Join(reloadRunning(ctx, reload), j.save(record{}))
}

// Recover settles what a crash left in a journal: a change that was not committed is put back, and the server reads the
// old files again if it may have read the new ones; an [Undo] under way is finished. Call it at start, before anything
// is installed. It is idempotent. An error leaves the journal as it is, for the next attempt.
func Recover(ctx context.Context, journal string, reload func(context.Context) error) error {
	return settleAll(ctx, journal, reload, nil)
}

func settleAll(ctx context.Context, journal string, reload func(context.Context) error, guard atomicfile.Guard) error {
	j, err := existingJournal(ctx, journal, guard)
	if j == nil {
		return err
	}
	defer j.close()
	return errors.Join(j.sweep(), j.settle(ctx, reload), j.tidy())
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
	j, err := existingJournal(ctx, journal, nil)
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
	j, err := existingJournal(ctx, journal, nil)
	if j == nil {
		return err
	}
	defer j.close()
	if j.record.Pending != nil {
		return fmt.Errorf("journal %s: a change is not yet put back", journal)
	}
	return j.save(record{})
}

// existingJournal opens a journal; both results are nil when there is none.
func existingJournal(ctx context.Context, path string, guard atomicfile.Guard) (*journal, error) {
	if err := ctx.Err(); err != nil {
		return nil, context.Cause(ctx)
	}
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return openJournal(ctx, path, guard)
}

// settle leaves the journal without a pending change.
func (j *journal) settle(ctx context.Context, reload func(context.Context) error) error {
	p := j.record.Pending
	if p == nil {
		return nil
	}
	if p.Undo {
		if err := j.putBack(j.record.Undo); err != nil {
			return err
		}
		return errors.Join(reloadRunning(ctx, reload), j.save(record{}))
	}
	err := j.putBack(p.Files)
	if conflict := (*installers.ConflictError)(nil); err != nil && !errors.As(err, &conflict) {
		return fmt.Errorf("put back: %w", err)
	}
	errs := []error{err}
	if p.Reloaded {
		errs = append(errs, reloadRunning(ctx, reload))
	}
	return errors.Join(append(errs, j.save(record{Undo: j.record.Undo}))...)
}

// reloadRunning makes a running server read the files that were put back.
func reloadRunning(ctx context.Context, reload func(context.Context) error) error {
	err := call(ctx, reload)
	if stopped := (*installers.NotRunningError)(nil); err == nil || errors.As(err, &stopped) {
		return nil
	}
	return fmt.Errorf("reload after the files were put back: %w", err)
}

// conflicts lists the files that [Undo] must not touch.
func (j *journal) conflicts() error {
	var errs []error
	for _, e := range j.record.Undo {
		now, err := inspect(e.Path)
		switch {
		case err != nil:
			errs = append(errs, &installers.ConflictError{Path: e.Path, Reason: err.Error()})
		case now.state.Hash == e.Before.Hash:
		case now.state.isLink() && !e.After.isLink():
			errs = append(errs, &installers.ConflictError{Path: e.Path, Reason: "somebody made it a symbolic link after acmed changed it: not undone"})
		case now.state.Hash != e.After.Hash:
			errs = append(errs, &installers.ConflictError{Path: e.Path, Reason: "somebody changed it after acmed did: not undone"})
		case e.Edited:
			errs = append(errs, &installers.ConflictError{Path: e.Path, Reason: "somebody changed it between two changes of acmed: not undone"})
		}
	}
	return errors.Join(errs...)
}

// putBack restores entries in reverse order. A file that is neither as the change left it nor as it was before belongs
// to whoever edited it, and stays; the others are restored all the same. All backups are read before anything is written.
func (j *journal) putBack(entries []entry) error {
	backups := make([][]byte, len(entries))
	for i, e := range entries {
		var err error
		if backups[i], err = j.backup(e); err != nil {
			return err
		}
	}
	var conflicts, errs []error
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		now, err := inspect(e.Path)
		switch {
		case err != nil:
			conflicts = append(conflicts, &installers.ConflictError{Path: e.Path, Reason: "not put back: " + err.Error()})
		case e.Before == now.state:
		case now.state.Hash == e.After.Hash || now.state.Hash == e.Before.Hash:
			errs = append(errs, put(e.Path, e.Before, backups[i], j.guard))
		default:
			conflicts = append(conflicts, &installers.ConflictError{Path: e.Path, Reason: "somebody changed it meanwhile: not put back"})
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return errors.Join(conflicts...)
}

// sweep removes the temporaries that a killed change left beside its files.
func (j *journal) sweep() error {
	p := j.record.Pending
	if p == nil {
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
