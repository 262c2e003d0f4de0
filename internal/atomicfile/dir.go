package atomicfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"

	"github.com/acmed/acmed/internal/vetted"
)

// Guard is asked before each file-system call and can fail it. Tests use one to break the Nth call or to kill the process
// there; everybody else passes nil. The operations are open (a directory), create, write, chown, chmod, fsync,
// mkdir, rename (name is the new one), symlink, remove, read, readlink and readdir; name is relative to the directory given
// to [OpenDir].
type Guard func(op, name string) error

// Dir is a directory below which files are changed. Names are relative and slash-separated; [os.Root] keeps every name and
// symbolic link inside. It is safe for concurrent use.
type Dir struct {
	root   *os.Root
	prefix string // of this directory below the one given to OpenDir
	guard  Guard
}

// OpenDir opens an existing directory, as [vetted.OpenRoot] does for an absolute path. The guard may be nil.
func OpenDir(name string, guard Guard) (*Dir, error) {
	root, err := vetted.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, guard: guard}, nil
}

// OpenOwnDir opens an existing directory that nobody else can change or replace, as [vetted.OpenOwnRoot] does.
func OpenOwnDir(name string, guard Guard) (*Dir, error) {
	root, err := vetted.OpenOwnRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, guard: guard}, nil
}

// Open returns the directory itself, or a file below it that is made if it is missing, to take a lock on it.
func (d *Dir) Open(name string, flag int, mode fs.FileMode) (*os.File, error) {
	return d.root.OpenFile(name, flag|syscall.O_NOFOLLOW, mode)
}

// Resolve returns the path without symbolic links of the directory that OpenDir opens.
func Resolve(name string) (string, error) {
	root, err := vetted.OpenRoot(name)
	if err != nil {
		return "", err
	}
	return root.Name(), root.Close()
}

// Sub opens a directory below d. Close it independently of d.
func (d *Dir) Sub(name string) (*Dir, error) {
	if err := d.ask("open", name); err != nil {
		return nil, err
	}
	if info, err := d.root.Stat(name); err == nil && !info.IsDir() { // a named pipe would block the open
		return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	root, err := d.root.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	return &Dir{root: root, prefix: path.Join(d.prefix, name), guard: d.guard}, nil
}

// Close releases the directory.
func (d *Dir) Close() error { return d.root.Close() }

// ReadFile reads a whole file of at most limit bytes; a larger one is an error that wraps [ErrTooLarge]. It also returns
// the file's information as it was when the file was opened.
func (d *Dir) ReadFile(name string, limit int64) ([]byte, fs.FileInfo, error) {
	if err := d.ask("read", name); err != nil {
		return nil, nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a named pipe must not block the open
	if d.leadsAstray(err) {
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: ErrNotRegular}
	}
	if err != nil {
		return nil, nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: ErrNotRegular}
	case info.Size() > limit:
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: ErrTooLarge}
	}
	data := make([]byte, info.Size())
	if _, err := io.ReadFull(f, data); err != nil {
		return nil, nil, &fs.PathError{Op: "read", Path: name, Err: err}
	}
	return data, info, nil
}

// leadsAstray reports whether a name could not be opened because of a link that leads out of the directory or in a circle,
// or because a file has the place of a directory.
func (d *Dir) leadsAstray(err error) bool {
	var got, out *fs.PathError
	if !errors.As(err, &got) {
		return false
	}
	_, outside := d.root.Lstat("..")                                                                                // the only way to get at the error of os.Root
	return errors.As(outside, &out) && got.Err == out.Err || got.Err == syscall.ELOOP || got.Err == syscall.ENOTDIR //nolint:errorlint // as it is
}

// The reasons for which [Dir.ReadFile] does not read what is there.
var (
	ErrTooLarge   = errors.New("the file is too large")
	ErrNotRegular = errors.New("not a regular file")
)

// Readlink returns the target of a symbolic link.
func (d *Dir) Readlink(name string) (string, error) {
	if err := d.ask("readlink", name); err != nil {
		return "", err
	}
	return d.root.Readlink(name)
}

// Lstat describes a file or a symbolic link.
func (d *Dir) Lstat(name string) (fs.FileInfo, error) {
	if err := d.ask("read", name); err != nil {
		return nil, err
	}
	return d.root.Lstat(name)
}

// ReadDir lists a directory in no particular order.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	if err := d.ask("readdir", name); err != nil {
		return nil, err
	}
	f, err := d.root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // only read from
	return f.ReadDir(-1)
}

// Sync makes the entries of a directory durable. File systems that cannot sync directories are taken at their word.
func (d *Dir) Sync(name string) error {
	f, err := d.toSync(name)
	if err != nil {
		return err
	}
	return syncDir(f)
}

func (d *Dir) toSync(name string) (*os.File, error) {
	if err := d.ask("fsync", name); err != nil {
		return nil, err
	}
	return d.root.Open(name)
}

func syncDir(f *os.File) error {
	err := f.Sync()
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSUP) {
		err = nil
	}
	return errors.Join(err, f.Close())
}

// Mkdir makes sure that a directory exists, durably; a new one, and only a new one, gets the mode. Its parent must exist.
func (d *Dir) Mkdir(name string, mode fs.FileMode) error {
	durable, err := d.StartMkdir(name, mode)
	if err != nil {
		return err
	}
	return durable()
}

// StartMkdir is [Dir.Mkdir] that returns once the directory can be used. It is durable when the function says so, which
// must be called.
func (d *Dir) StartMkdir(name string, mode fs.FileMode) (durable func() error, err error) {
	if err := d.mkdir(name, mode); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	f, err := d.toSync(path.Dir(name)) // also for an old one: who made it may have died before this
	if err != nil {
		return nil, err
	}
	done := make(chan error, 1)
	go func() { done <- syncDir(f) }()
	return func() error { return <-done }, nil
}

func (d *Dir) mkdir(name string, mode fs.FileMode) error {
	if err := d.ask("mkdir", name); err != nil {
		return err
	}
	if err := d.root.Mkdir(name, mode); err != nil {
		return err
	}
	if err := d.ask("chmod", name); err != nil {
		return err
	}
	return d.root.Chmod(name, mode)
}

// Rename moves a file or directory, durably. Both names must be in one directory.
func (d *Dir) Rename(from, to string) error {
	if err := d.rename(from, to); err != nil {
		return err
	}
	return d.Sync(path.Dir(to))
}

func (d *Dir) rename(from, to string) error {
	if err := d.ask("rename", to); err != nil {
		return err
	}
	return d.root.Rename(from, to)
}

// Remove deletes a file, durably. It is no error when there is none.
func (d *Dir) Remove(name string) error {
	if err := d.remove(name); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return d.Sync(path.Dir(name))
}

// RemoveTree deletes a directory with all that is in it: first durably under its name, so that nobody sees half of it,
// then its content. It is no error when there is none.
func (d *Dir) RemoveTree(name string) error {
	tmp := temp(path.Dir(name))
	if err := d.Rename(name, tmp); errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	return d.remove(tmp)
}

// Sweep removes the temporaries that killed processes left in a directory. The caller makes sure that nobody is writing
// there. A directory that does not exist is clean.
func (d *Dir) Sweep(name string) error {
	entries, err := d.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	errs := []error{err}
	for _, e := range entries {
		if IsTemp(e.Name()) {
			errs = append(errs, d.remove(path.Join(name, e.Name())))
		}
	}
	return errors.Join(errs...)
}

// remove deletes a file or a tree, not durably.
func (d *Dir) remove(name string) error {
	if err := d.ask("remove", name); err != nil {
		return err
	}
	if err := d.root.Remove(name); err == nil || errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return d.root.RemoveAll(name)
}

func (d *Dir) ask(op, name string) error {
	if d.guard == nil {
		return nil
	}
	full := path.Join(d.prefix, name)
	if err := d.guard(op, full); err != nil {
		return &fs.PathError{Op: op, Path: full, Err: err}
	}
	return nil
}

const (
	tempPrefix = ".acmed-"
	tempSuffix = ".tmp"
)

// IsTemp reports whether a file name is that of a temporary of this package. The leading dot keeps temporaries out of
// shell patterns such as a web server's "include conf.d/*".
func IsTemp(base string) bool {
	return strings.HasPrefix(base, tempPrefix) && strings.HasSuffix(base, tempSuffix)
}

func temp(dir string) string {
	return path.Join(dir, fmt.Sprintf("%s%s%s", tempPrefix, strings.ToLower(rand.Text()), tempSuffix))
}
