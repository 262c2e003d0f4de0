package vetted

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may have, as in the kernel.
const maxLinks = 40

// How directories on the way and the last component are opened. None follows a symbolic link.
const (
	asDir     = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	asProgram = unix.O_PATH | unix.O_NOFOLLOW | unix.O_CLOEXEC
	asFile    = unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_NOFOLLOW | unix.O_CLOEXEC // a named pipe must not block the open
)

// walker opens a path component by component.
type walker struct {
	path   string                                   // as it was asked for
	last   int                                      // flags of the last component
	judge  func(path string, st *unix.Stat_t) error // of every component, links included
	owners map[string]uint32                        // who must own what a link leads to, by path
}

// open returns a descriptor and the path without links that it was opened by.
func (w *walker) open(path string) (*os.File, string, error) {
	w.path = path
	rest, err := filepath.Abs(path)
	if err != nil {
		return nil, "", err
	}
	for range maxLinks {
		fd, next, err := w.walk(rest)
		if err != nil {
			return nil, "", err
		}
		if next == "" {
			return os.NewFile(uintptr(fd), path), rest, nil //nolint:gosec // a descriptor is not negative
		}
		rest = next
	}
	return nil, "", &fs.PathError{Op: "open", Path: path, Err: unix.ELOOP}
}

// walk opens a clean path without links. At the first link it returns the path that the link makes of it instead.
func (w *walker) walk(path string) (fd int, next string, err error) {
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	flags := asDir
	if len(parts) == 0 {
		flags = w.last
	}
	if fd, err = unix.Open("/", flags, 0); err != nil {
		return -1, "", &fs.PathError{Op: "open", Path: w.path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return -1, "", errors.Join(&fs.PathError{Op: "stat", Path: w.path, Err: err}, unix.Close(fd))
	}
	if err := w.vet("/", &st); err != nil {
		return -1, "", errors.Join(err, unix.Close(fd))
	}
	at := "/"
	for i, name := range parts {
		dir := at
		at = filepath.Join(at, name)
		if i == len(parts)-1 {
			flags = w.last
		}
		sub, target, err := w.step(fd, name, at, flags)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			if sub >= 0 {
				_ = unix.Close(sub)
			}
			return -1, "", err
		}
		if sub < 0 {
			return -1, filepath.Join(append([]string{absolute(target, dir)}, parts[i+1:]...)...), nil
		}
		fd = sub
	}
	return fd, "", nil
}

// step opens one component, or reads it if it is a link: then sub is negative. What is judged is what was opened.
func (w *walker) step(dir int, name, at string, flags int) (sub int, target string, err error) {
	sub, err = unix.Openat(dir, name, flags, 0)
	if errors.Is(err, unix.ELOOP) || errors.Is(err, unix.ENOTDIR) {
		sub, err = unix.Openat(dir, name, asProgram, 0)
	}
	if err != nil {
		return -1, "", &fs.PathError{Op: "open", Path: w.path, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(sub, &st); err != nil {
		return sub, "", &fs.PathError{Op: "stat", Path: w.path, Err: err}
	}
	if err := w.vet(at, &st); err != nil {
		return sub, "", err
	}
	switch kind := st.Mode & unix.S_IFMT; {
	case kind == unix.S_IFLNK:
		target, err = readlink(sub)
	case kind == unix.S_IFDIR, flags&unix.O_DIRECTORY == 0:
		return sub, "", nil
	default:
		err = unix.ENOTDIR
	}
	_ = unix.Close(sub)
	if err != nil {
		return -1, "", &fs.PathError{Op: "open", Path: w.path, Err: err}
	}
	if w.owners != nil && !trusted(st.Uid) {
		w.owners[absolute(target, filepath.Dir(at))] = st.Uid
	}
	return -1, target, nil
}

// vet judges one component by its owner and by the rule of the walker.
func (w *walker) vet(at string, st *unix.Stat_t) error {
	if want, ok := w.owners[at]; ok && st.Uid != want {
		return fmt.Errorf("a symbolic link of user %d leads to %s of user %d: not followed", want, at, st.Uid)
	}
	if w.judge == nil {
		return nil
	}
	return w.judge(at, st)
}

// absolute is the clean path that the target of a link in dir means.
func absolute(target, dir string) string {
	if filepath.IsAbs(target) {
		return filepath.Clean(target)
	}
	return filepath.Join(dir, target)
}

func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:max(n, 0)]), err
}

// trusted reports whether a user may decide what acmed does: root, and the one that it runs as.
func trusted(uid uint32) bool { return uid == 0 || int(uid) == os.Geteuid() }
