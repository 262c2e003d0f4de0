package installers

import (
	"context"
	"errors"
	"io/fs"
)

// Keep as a UID or GID in [Owner] leaves that one as it is.
const Keep = -1

// Absent as a File's Was says that the plan was made while the file did not exist.
const Absent = "absent"

// Owner is who a file belongs to.
type Owner struct{ UID, GID int }

// File is one file as a [Change] leaves it.
type File struct {
	Path    string      // absolute; its directory exists
	Content []byte      // the whole new content
	Remove  bool        // take the file away instead; Content is not used
	Was     string      // Hash of the content that the plan was made from, or Absent; "" overwrites whatever is there
	Mode    fs.FileMode // permission bits; 0 keeps them, and gives a new file 0644, a secret one 0600
	Owner   *Owner      // nil keeps the owner
	Secret  bool        // holds a private key: never shown, refused for any mode that lets others read
	Follow  bool        // edit the target of a symbolic link and keep the link; otherwise a link is refused
	Shared  bool        // the operator allows a directory in which others can write
}

// Hash is the SHA-256 of content in lower-case hexadecimal.
func Hash(content []byte) string { return "" }

// Change is one all-or-nothing edit of the machine.
type Change struct {
	Journal string                      // absolute directory that survives crashes; one per target
	Files   []File                      // written in this order
	Always  bool                        // test, reload and probe even when no file differs: what the files point at was renewed
	Test    func(context.Context) error // the server's own test of its configuration, before and after the edit; may be nil
	Reload  func(context.Context) error // makes the server read the files; may be nil
	Probe   func(context.Context) error // looks at what is served; may be nil
}

// Apply is documented with its body.
func (c *Change) Apply(_ context.Context) (changed bool, err error) {
	return false, errors.New("not ready")
}

// Diff returns what Apply would change as a unified diff, secrets left out. It changes nothing.
func (c *Change) Diff() (string, error) { return "", errors.New("not ready") }

// Undo is documented with its body.
func Undo(_ context.Context, _ string, _, _ func(context.Context) error) error {
	return errors.New("not ready")
}

// Recover is documented with its body.
func Recover(_ context.Context, _ string, _ func(context.Context) error) error {
	return errors.New("not ready")
}

// Original is one file in an undo record: as it was before the first change, and what the last change made of it.
type Original struct {
	Path    string
	Existed bool
	Content []byte // nil when it did not exist
	Written string // Hash of what the last change wrote, or Absent
	Edited  bool   // somebody else edited it between two changes, so Content is no longer all there is to give back
}

// Originals lists the undo record of a journal; empty when nothing is installed.
func Originals(_ string) ([]Original, error) { return nil, errors.New("not ready") }

// Forget drops an undo record, for a plugin that has put things right itself.
func Forget(_ string) error { return errors.New("not ready") }
