package setup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/acmed/acmed/internal/atomicfile"
)

// File is one file to write.
type File struct {
	Path        string
	Content     []byte
	Certificate string // the certificate that it is for; "" for files that several share
}

// Change is a set of files that are written together and can be taken back.
type Change struct {
	Dirs  []Dir // made where they are missing, the outer ones first
	Files []File

	made []step // what Apply did, in its order
}

// Dir is a directory.
type Dir struct {
	Path string
	Mode fs.FileMode
}

// step is one thing that was done.
type step struct {
	path        string
	certificate string
	dir         bool
	before      []byte // the file's content; nil when there was none
}

// TakenError says that a file is somebody else's.
type TakenError struct{ Path string }

// Error names the file.
func (e *TakenError) Error() string {
	return fmt.Sprintf("%s was written or edited by somebody else; it stays as it is", e.Path)
}

// Check reports files that may not be written, joined; each is a [*TakenError].
func (c *Change) Check() error {
	var errs []error
	for _, f := range c.Files {
		_, err := replaceable(f.Path)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// replaceable returns the content of a file that may be replaced, nil when there is none.
func replaceable(path string) ([]byte, error) {
	text, err := os.ReadFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil:
		return nil, err
	case !Sealed(text):
		return nil, &TakenError{Path: path}
	}
	return text, nil
}

// Apply writes everything. On an error everything is as it was before.
func (c *Change) Apply() error {
	if err := c.apply(); err != nil {
		return errors.Join(err, c.Revert())
	}
	return nil
}

func (c *Change) apply() error {
	if err := c.Check(); err != nil {
		return err
	}
	for _, d := range c.Dirs {
		err := os.Mkdir(d.Path, d.Mode)
		switch {
		case err == nil:
			c.made = append(c.made, step{path: d.Path, dir: true})
		case !errors.Is(err, fs.ErrExist):
			return err
		}
	}
	for _, f := range c.Files {
		before, err := replaceable(f.Path)
		if err != nil {
			return err
		}
		if err := atomicfile.Write(f.Path, f.Content, 0o644); err != nil {
			return err
		}
		c.made = append(c.made, step{path: f.Path, certificate: f.Certificate, before: before})
	}
	return nil
}

// Revert undoes what Apply did. Directories that are in use by now stay.
func (c *Change) Revert() error {
	return c.revert(func(step) bool { return true })
}

// RevertCertificate undoes what Apply did for one certificate alone.
func (c *Change) RevertCertificate(name string) error {
	return c.revert(func(s step) bool { return s.certificate == name })
}

func (c *Change) revert(wanted func(step) bool) error {
	var errs []error
	for _, s := range slices.Backward(c.made) {
		if !wanted(s) {
			continue
		}
		switch {
		case s.dir:
			_ = os.Remove(s.path) // fails when somebody has put something into it, and then it must stay
		case s.before == nil:
			errs = append(errs, removeFile(s.path))
		default:
			errs = append(errs, atomicfile.Write(s.path, s.before, 0o644))
		}
	}
	c.made = slices.DeleteFunc(c.made, wanted)
	return errors.Join(errs...)
}

// Remove deletes the files of the change in place of writing them; Revert brings them back. A file that is not there is
// no error, and one that somebody edited is a [*TakenError].
func (c *Change) Remove() error {
	for _, f := range c.Files {
		before, err := replaceable(f.Path)
		if err != nil {
			return err
		}
		if before == nil {
			continue
		}
		if err := removeFile(f.Path); err != nil {
			return err
		}
		c.made = append(c.made, step{path: f.Path, certificate: f.Certificate, before: before})
	}
	return nil
}

func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}
