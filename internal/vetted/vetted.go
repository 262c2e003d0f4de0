// Package vetted opens what acmed believes, runs or writes below, so that nobody but root and the user that acmed runs as
// decides about it: not by writing a file, not by replacing it, not by a symbolic link or a directory on the way to it.
//
// Every component of a path is opened once, without following links, and judged by its descriptor. It promises that what
// was judged is what is used. An error names paths, owners and modes, never anything from a file.
package vetted

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// ReadFile reads a regular file of at most most bytes. The file, and every directory and symbolic link on the way to it,
// must belong to root or to the user that runs acmed, and nobody else may be able to change them. A mode with a bit of
// forbidden is refused too: 0o077 for a secret, which may also belong to the user acmed when root reads it.
func ReadFile(path string, forbidden fs.FileMode, most int64) ([]byte, error) {
	f, err := Open(path, forbidden)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > most {
		return nil, fmt.Errorf("%s is larger than %d KiB", path, most>>10)
	}
	return data, nil
}

// Open opens what [ReadFile] would read.
func Open(path string, forbidden fs.FileMode) (*os.File, error) {
	rule := strict
	if forbidden&0o004 != 0 {
		rule = secret
	}
	f, _, err := (&walker{last: asFile, judge: rule}).open(path)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		switch mode := info.Mode().Perm(); {
		case !info.Mode().IsRegular():
			err = fmt.Errorf("%s is not a regular file (%s)", path, info.Mode().Type())
		case mode&forbidden&0o044 != 0:
			err = fmt.Errorf("%s holds a secret and can be read by others (mode %04o): chmod 600 %s", path, mode, path)
		case mode&0o022 != 0:
			err = changeable(path, mode)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// OpenRegular opens a regular file that may belong to any user: the configuration of a server, its error log. Another user's
// symbolic link to a file of somebody else is not followed.
func OpenRegular(path string) (*os.File, fs.FileInfo, error) {
	f, _, err := (&walker{last: asFile, owners: map[string]uint32{}}).open(path)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", path)
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

// Program reports why a program is not run: it is not an executable file, or somebody besides root and the user that runs
// acmed could have put it there. Nobody else can change what the path leads to afterwards.
func Program(path string) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("the program %q is not an absolute path", path)
	}
	f, _, err := (&walker{last: asProgram, judge: strict}).open(path)
	if err != nil {
		return fmt.Errorf("the program %s is not run: %w", path, err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	switch {
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return fmt.Errorf("the program %s is not a regular file", path)
	case info.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("the program %s is not executable", path)
	case writableByOthers(uint32(info.Mode().Perm()), info.Sys().(*syscall.Stat_t).Gid):
		return fmt.Errorf("the program %s is not run: %w", path, changeable(path, info.Mode().Perm()))
	}
	return nil
}

// OpenRoot opens a directory to write below it, which may belong to another user. A symbolic link on the way is followed if
// root or this user made it, or if what it leads to has the owner of the link: everybody else could make acmed write where
// only acmed may.
func OpenRoot(path string) (*os.Root, error) { return openRoot(path, nil) }

// OpenOwnRoot opens a directory that nobody but root and this user may be able to change or to replace.
func OpenOwnRoot(path string) (*os.Root, error) { return openRoot(path, strict) }

func openRoot(path string, judge func(string, *unix.Stat_t) error) (*os.Root, error) {
	f, resolved, err := (&walker{last: asDir, judge: judge, owners: map[string]uint32{}}).open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	root, err := os.OpenRoot(resolved)
	if err != nil {
		return nil, err
	}
	want, err := f.Stat()
	if err == nil {
		var opened fs.FileInfo
		if opened, err = root.Stat("."); err == nil && !os.SameFile(want, opened) {
			err = fmt.Errorf("%s was replaced while it was opened", path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// strict is the rule for what decides what acmed does. Files and programs have rules of their own for their mode.
func strict(path string, st *unix.Stat_t) error {
	kind := "" // of a file
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		kind = "the directory "
	case unix.S_IFLNK:
		kind = "the symbolic link "
	}
	if !trusted(st.Uid) {
		return fmt.Errorf("%s%s belongs to user %d, and must belong to root or to the user that runs acmed (%d): chown -h root %s",
			kind, path, st.Uid, os.Geteuid(), path)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || st.Mode&unix.S_ISVTX != 0 {
		return nil
	}
	if writableByOthers(st.Mode, st.Gid) {
		return fmt.Errorf("%s%w", kind, changeable(path, fs.FileMode(st.Mode)))
	}
	return nil
}

// serviceUser is who the daemon runs as when it is not root; its secrets belong to it.
const serviceUser = "acmed"

// secret is the rule for a file that is neither run nor shown: root reads those of the daemon's user too, to check them.
func secret(path string, st *unix.Stat_t) error {
	if st.Mode&unix.S_IFMT == unix.S_IFREG && os.Geteuid() == 0 {
		if u, err := user.LookupId(strconv.FormatUint(uint64(st.Uid), 10)); err == nil && u.Username == serviceUser {
			return nil
		}
	}
	return strict(path, st)
}

// writableByOthers does not count root's group and the own one: on many systems every user has a group of their own.
func writableByOthers(mode, gid uint32) bool {
	return mode&0o002 != 0 || mode&0o020 != 0 && gid != 0 && int(gid) != os.Getegid()
}

func changeable(path string, mode fs.FileMode) error {
	return fmt.Errorf("%s can be changed by others (mode %04o): chmod go-w %s", path, uint32(mode.Perm()), path)
}
