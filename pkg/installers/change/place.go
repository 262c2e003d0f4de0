package change

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/installers"
)

// maxFile bounds a file that is edited.
const maxFile = installers.MaxFile

// maxLinks bounds a chain of symbolic links to one file.
const maxLinks = 8

// state is what undo must bring back: the content by its hash, the mode and the owner. The zero owner is root.
type state struct {
	Hash string      `json:"hash"` // or Absent, or the LinkHash of a symbolic link, and then the rest says nothing
	Mode fs.FileMode `json:"mode"`
	UID  int         `json:"uid"` // Keep: whoever creates the file
	GID  int         `json:"gid"`
}

// satisfiedBy reports whether a file in state now needs no change to be as s wants.
func (s state) satisfiedBy(now state) bool {
	return s.Hash == now.Hash && s.Mode == now.Mode && (s.UID == Keep || s.UID == now.UID) && (s.GID == Keep || s.GID == now.GID)
}

func linkState(target string) state { return state{Hash: LinkHash(target), UID: Keep, GID: Keep} }

func (s state) isLink() bool { return strings.HasPrefix(s.Hash, linkPrefix) }

// hasContent reports whether there is a file with bytes to keep.
func (s state) hasContent() bool { return s.Hash != Absent && !s.isLink() }

// kind says what there is, for people.
func (s state) kind() string {
	switch {
	case s.isLink():
		return "a symbolic link to " + strings.TrimPrefix(s.Hash, linkPrefix)
	case s.Hash == Absent:
		return "absent"
	}
	return "a file"
}

// entry is one file of a change or of an undo record.
type entry struct {
	Path   string `json:"path"` // without symbolic links
	Before state  `json:"before"`
	After  state  `json:"after"`
	Edited bool   `json:"edited,omitempty"` // another process edited it between two changes
	Kept   string `json:"kept,omitempty"`   // hash of the last such edit, whose bytes the journal keeps
}

// edit is an entry with the bytes of both sides.
type edit struct {
	entry
	before, content []byte
	secret          bool
}

// write puts the new content in place, if the file is still what the plan saw.
func (e *edit) write(m medium) error {
	now, err := m.inspect(e.Path)
	if err != nil {
		return err
	}
	if now.state.Hash != e.Before.Hash {
		return editedMeanwhile(e.Path)
	}
	return m.put(e.Path, e.After, e.content)
}

// put brings one file into a state.
func put(path string, s state, content []byte, guard atomicfile.Guard) error {
	dir, err := atomicfile.OpenDir(filepath.Dir(path), guard)
	if err != nil {
		return err
	}
	base := filepath.Base(path)
	switch {
	case s.Hash == Absent:
		err = dir.Remove(base)
	case s.isLink():
		err = dir.Symlink(strings.TrimPrefix(s.Hash, linkPrefix), base)
	default:
		err = dir.WriteOwned(base, content, s.Mode, s.UID, s.GID)
	}
	if err != nil {
		err = fmt.Errorf("write %s: %w", path, err)
	}
	return errors.Join(err, dir.Close())
}

// found is a file as it is on disk.
type found struct {
	path    string
	state   state
	content []byte
}

// locate finds the file that f means and refuses every place at which a rename would not be safe or not be what the
// operator expects.
func locate(f *File) (found, error) {
	if !filepath.IsAbs(f.Path) || filepath.Clean(f.Path) != f.Path {
		return found{}, fmt.Errorf("%q is not a clean absolute path", f.Path)
	}
	if f.Secret && f.Mode&0o007 != 0 {
		return found{}, fmt.Errorf("%s: mode %#o gives others access to a private key", f.Path, f.Mode)
	}
	path := f.Path
	for range maxLinks {
		dir, err := atomicfile.Resolve(filepath.Dir(path))
		if err != nil {
			return found{}, fmt.Errorf("directory of %s: %w", f.Path, err)
		}
		if !f.Shared {
			if err := checkDir(dir); err != nil {
				return found{}, fmt.Errorf("%s: %w", f.Path, err)
			}
		}
		path = filepath.Join(dir, filepath.Base(path))
		if f.Link != "" {
			return inspect(path)
		}
		next, err := follow(path, f.Follow)
		if err != nil {
			return found{}, err
		}
		if next == "" {
			return inspect(path)
		}
		path = next
	}
	return found{}, fmt.Errorf("%s: more than %d symbolic links to one file", f.Path, maxLinks)
}

// follow returns the target of a symbolic link at path, or "" when there is none. A link counts only if root or the
// present user made it: anybody else could have pointed it at a file of ours.
func follow(path string, allowed bool) (target string, err error) {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		return "", err
	}
	if !allowed {
		return "", fmt.Errorf("%s is a symbolic link: name the file that it points to, or remove the link", path)
	}
	if uid := atomicfile.Owner(info); uid != 0 && uid != os.Geteuid() {
		return "", fmt.Errorf("%s is a symbolic link that user %d made: not followed", path, uid)
	}
	if target, err = os.Readlink(path); err != nil {
		return "", err
	}
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(path), target)
	}
	if _, err := os.Lstat(target); err != nil {
		return "", fmt.Errorf("%s is a symbolic link to nothing: %w", path, err)
	}
	return target, nil
}

// checkDir refuses a directory in which others can put files or links, and a path that others can replace. A sticky
// directory such as /tmp is fine further up: nobody can rename what is not theirs.
func checkDir(dir string) error {
	for at := dir; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		open := info.Mode().Perm()&0o002 != 0
		if open && (at == dir || info.Mode()&fs.ModeSticky == 0) {
			return fmt.Errorf("the directory %s is world-writable: run chmod o-w on it, or choose another one", at)
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// inspect reads what is at path: a regular file with one name, a symbolic link, which is not followed, or nothing.
func inspect(path string) (found, error) {
	none := found{path: path, state: state{Hash: Absent}}
	before, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return none, nil
	}
	if err != nil {
		return found{}, err
	}
	if before.Mode()&fs.ModeSymlink != 0 {
		target, err := os.Readlink(path)
		return found{path: path, state: linkState(target)}, err
	}
	if kind := irregular(before.Mode()); kind != "" {
		return found{}, fmt.Errorf("%s is a %s, not a regular file", path, kind)
	}
	dir, err := atomicfile.OpenDir(filepath.Dir(path), nil)
	if err != nil {
		return found{}, err
	}
	content, info, err := dir.ReadFile(filepath.Base(path), maxFile)
	if err := errors.Join(err, dir.Close()); err != nil {
		return found{}, fmt.Errorf("read %s: %w", path, err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || !os.SameFile(before, info) {
		return found{}, &installers.ConflictError{Path: path, Reason: "it was replaced while it was read"}
	}
	if st.Nlink > 1 {
		return found{}, fmt.Errorf("%s has %d hard links: replacing it would leave the others with the old content", path, st.Nlink)
	}
	return found{
		path:    path,
		content: content,
		state:   state{Hash: Hash(content), Mode: info.Mode().Perm(), UID: int(st.Uid), GID: int(st.Gid)},
	}, nil
}

func irregular(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return ""
	case mode.IsDir():
		return "directory"
	case mode&fs.ModeNamedPipe != 0:
		return "named pipe"
	case mode&fs.ModeSocket != 0:
		return "socket"
	}
	return "device"
}
