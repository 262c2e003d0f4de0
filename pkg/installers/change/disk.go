package change

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/installers"
)

// State is what a file is: its content by its hash, its mode and its owner.
type State = state

// Disk is where the files of a change are, when it is not this machine. The journal always is. An error that says nothing
// about the file, because the other machine cannot be asked, is an [*UnreachableError].
type Disk interface {
	// Inspect reads the regular file at a path. One that does not exist has the hash [Absent]; anything else is an error.
	Inspect(path string) (State, []byte, error)
	// Put brings a file into a state, so that a reader sees the old or the new content. The hash [Absent] removes it.
	Put(path string, s State, content []byte) error
}

// UnreachableError says that a disk elsewhere cannot be reached. What is to be put back there stays in the journal.
type UnreachableError struct{ Err error }

// Error carries the cause.
func (e *UnreachableError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *UnreachableError) Unwrap() error { return e.Err }

// medium is this machine, or the disk of another one.
type medium struct {
	disk  Disk
	guard atomicfile.Guard
}

func (m medium) inspect(path string) (found, error) {
	if m.disk == nil {
		return inspect(path)
	}
	s, content, err := m.disk.Inspect(path)
	return found{path: path, state: s, content: content}, err
}

func (m medium) put(path string, s state, content []byte) error {
	if m.disk == nil {
		return put(path, s, content, m.guard)
	}
	if s.isLink() {
		return fmt.Errorf("%s: no symbolic links elsewhere", path)
	}
	return m.disk.Put(path, s, content)
}

func (m medium) locate(f *File) (found, error) {
	if m.disk == nil {
		return locate(f)
	}
	if !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path {
		return found{}, fmt.Errorf("%q is not a clean absolute path", f.Path)
	}
	if f.Link != "" {
		return found{}, fmt.Errorf("%s: no symbolic links elsewhere", f.Path)
	}
	return m.inspect(f.Path)
}

// UndoOn is [Undo] for files on a disk, nil for this machine.
func UndoOn(ctx context.Context, disk Disk, journal string, reload func(context.Context) error) error {
	return undo(ctx, journal, nil, reload, medium{disk: disk})
}

// RecoverOn is [Recover] for files on a disk, nil for this machine.
func RecoverOn(ctx context.Context, disk Disk, journal string, reload func(context.Context) error) error {
	return settleAll(ctx, journal, reload, medium{disk: disk})
}

// editedMeanwhile is for a file that changes while a change is prepared.
func editedMeanwhile(path string) error {
	return &installers.ConflictError{Path: path, Reason: "it changed while acmed prepared its own change"}
}

func unreachable(err error) bool {
	var u *UnreachableError
	return errors.As(err, &u)
}
