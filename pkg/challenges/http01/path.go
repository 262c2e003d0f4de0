package http01

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks is how many symbolic links a path may have, as in the kernel.
const maxLinks = 40

// openPath opens a directory. A symbolic link on the way is followed when root or this user made it, or when what it leads
// to has the owner of the link: everybody else could make acmed write where only acmed may.
func openPath(path string) (*os.Root, error) {
	rest, owners := filepath.Clean(path), map[string]uint32{}
	for range maxLinks {
		fd, next, err := walk(rest, owners)
		if err != nil {
			return nil, err
		}
		if next == "" {
			return openSame(rest, fd)
		}
		rest = next
	}
	return nil, fmt.Errorf("%s: %w", path, unix.ELOOP)
}

// walk opens a clean path without links. At the first link it returns the path that the link makes of it instead; what the
// link leads to must have the owner in owners.
func walk(path string, owners map[string]uint32) (fd int, next string, err error) {
	const flags = unix.O_PATH | unix.O_DIRECTORY | unix.O_NOFOLLOW | unix.O_CLOEXEC
	if fd, err = unix.Open("/", flags, 0); err != nil {
		return -1, "", err
	}
	parts := strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
	at := "/"
	for i, name := range parts {
		dir := at
		at = filepath.Join(at, name)
		var st unix.Stat_t
		if err := unix.Fstatat(fd, name, &st, unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return -1, "", errors.Join(&os.PathError{Op: "open", Path: at, Err: err}, unix.Close(fd))
		}
		if want, ok := owners[at]; ok && st.Uid != want {
			return -1, "", errors.Join(fmt.Errorf("a symbolic link of user %d leads to %s of user %d: not followed", want, at, st.Uid), unix.Close(fd))
		}
		if st.Mode&unix.S_IFMT == unix.S_IFLNK {
			target, err := readlink(fd, name)
			if err = errors.Join(err, unix.Close(fd)); err != nil {
				return -1, "", err
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(dir, target)
			}
			if st.Uid != 0 && int(st.Uid) != os.Geteuid() {
				owners[filepath.Clean(target)] = st.Uid
			}
			return -1, filepath.Join(append([]string{target}, parts[i+1:]...)...), nil
		}
		sub, err := unix.Openat(fd, name, flags, 0)
		if err = errors.Join(err, unix.Close(fd)); err != nil {
			return -1, "", &os.PathError{Op: "open", Path: at, Err: err}
		}
		fd = sub
	}
	return fd, "", nil
}

func readlink(fd int, name string) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, name, buf)
	if err != nil {
		return "", err
	}
	return string(buf[:n]), nil
}

// openSame opens the directory that fd is, by its path. One that took its place meanwhile is refused.
func openSame(path string, fd int) (*os.Root, error) {
	f := os.NewFile(uintptr(fd), path) //nolint:gosec // a descriptor is not negative
	defer func() { _ = f.Close() }()
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	want, err := f.Stat()
	if err == nil {
		var opened os.FileInfo
		if opened, err = root.Stat("."); err == nil && !os.SameFile(want, opened) {
			err = fmt.Errorf("%s was replaced while it was opened", path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}
