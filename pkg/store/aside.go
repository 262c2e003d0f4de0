package store

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
)

const asideMark = ".damaged-"

// tidy sets aside what has the place of one of the lineage's entries and is of another type: such as `current` after a
// restore that does not keep symbolic links. What a link to a file leads to is judged by read.
func (e *entry) tidy(d *atomicfile.Dir) error {
	entries, err := d.ReadDir(".")
	for _, entry := range entries {
		name, kind := entry.Name(), entry.Type()
		switch {
		case name == currentLink && kind&fs.ModeSymlink == 0:
			e.relink(d, kind)
		case name == versionsDir && !kind.IsDir():
			e.setAside(d, name, fmt.Errorf("%s is %s, not a directory", name, kindOf(kind)))
		case isLineageFile(name) && !isFile(kind):
			e.setAside(d, name, fmt.Errorf("%s is %s, not a regular file", name, kindOf(kind)))
		case strings.Contains(name, asideMark) && !e.recalled:
			err = errors.Join(err, e.recall(entry))
		}
	}
	e.recalled = err == nil
	return err
}

func isLineageFile(name string) bool {
	return name == stateFile || name == orderFile(SlotEC) || name == orderFile(SlotRSA) || name == nextKeysFile
}

func isFile(kind fs.FileMode) bool { return kind.IsRegular() || kind&fs.ModeSymlink != 0 }

// kindOf names a type of file for people.
func kindOf(mode fs.FileMode) string {
	switch {
	case mode.IsDir():
		return "a directory"
	case mode&fs.ModeSymlink != 0:
		return "a symbolic link"
	case mode.IsRegular():
		return "a regular file"
	}
	return "a special file"
}

// relink sets a `current` that is no link aside, and links the version whose content it has. Without such a version
// nothing is active, and the newest stored version that can be used takes its place, as it does whenever none is.
func (e *entry) relink(d *atomicfile.Dir, kind fs.FileMode) {
	id := linkedBefore(d, kind)
	to, err := setAside(d, currentLink)
	why := fmt.Sprintf("%s was %s, not a symbolic link", currentLink, kindOf(kind))
	if err != nil {
		e.note("%s; it could not be set aside: %v", why, err)
		return
	}
	if id == "" {
		e.note("%s, and no stored version has its content; it was set aside as %s", why, to)
		return
	}
	if err := d.Symlink(path.Join(versionsDir, id), currentLink); err != nil {
		e.note("%s; it was set aside as %s, and could not be linked again: %v", why, to, err)
		return
	}
	e.note("%s; it was set aside as %s, and linked again to version %s, whose content it has", why, to, id)
}

// linkedBefore finds the version that `current` led to before it became a copy: of the version, or of the text of the link.
func linkedBefore(d *atomicfile.Dir, kind fs.FileMode) string {
	if !kind.IsDir() {
		return linkText(d)
	}
	content, err := readUnits(d, currentLink)
	if err != nil {
		return ""
	}
	entries, _ := d.ReadDir(versionsDir) // without versions there is none of that content
	var ids []string
	for _, entry := range entries {
		if _, ok := parseID(entry.Name()); ok {
			ids = append(ids, entry.Name())
		}
	}
	slices.Sort(ids)
	for _, id := range slices.Backward(ids) {
		if raw, err := readVersion(d, id); err == nil && raw.digest() == content.digest() {
			return id
		}
	}
	return ""
}

// linkText is the version that a file in the place of `current` names as the link did, "" for none that is stored.
func linkText(d *atomicfile.Dir) string {
	text, _, err := read(d, currentLink, 1<<10)
	id, found := strings.CutPrefix(strings.TrimSpace(string(text)), versionsDir+"/")
	if _, ok := parseID(id); err != nil || !found || !ok {
		return ""
	}
	if info, err := d.Lstat(path.Join(versionsDir, id)); err != nil || !info.IsDir() {
		return ""
	}
	return id
}

// setAside moves a damaged file out of the way, so that it can be looked at and is replaced by the next save. Its name
// tells when it was last written.
func (e *entry) setAside(d *atomicfile.Dir, name string, why error) {
	to, err := setAside(d, name)
	if err != nil {
		e.note("%v; it could not be set aside: %v", why, err)
		return
	}
	e.note("%v; it was set aside as %s", why, path.Base(to))
}

// setAside returns the new name, which nothing had before.
func setAside(d *atomicfile.Dir, name string) (string, error) {
	info, err := d.Lstat(name)
	if err != nil {
		return "", err
	}
	to := name + asideMark + info.ModTime().UTC().Format(timeFormat)
	for n, free := 2, to; ; n++ {
		if _, err := d.Lstat(free); errors.Is(err, fs.ErrNotExist) {
			return free, d.Rename(name, free)
		} else if err != nil {
			return "", err
		}
		free = fmt.Sprintf("%s-%d", to, n)
	}
}

// sub opens a folder of the state directory. What has the place of the folder, or of one above it, and is a file is set
// aside, so that the folder does not exist; note is told of it. A link that leads nowhere or out is an error.
func (s *Store) sub(dir string, note func(format string, args ...any)) (*atomicfile.Dir, error) {
	d, err := s.dir.Sub(dir)
	if err == nil || errors.Is(err, fs.ErrNotExist) {
		return d, err
	}
	for i := range len(dir) + 1 {
		if i < len(dir) && dir[i] != '/' {
			continue
		}
		at := dir[:i]
		info, statErr := s.dir.Lstat(at)
		switch {
		case statErr != nil:
			return nil, err
		case info.Mode()&fs.ModeSymlink != 0:
			return nil, fmt.Errorf("%s is a symbolic link; put the directory itself in its place: %w", path.Join(s.path, at), err)
		case !info.IsDir():
			to, err := setAside(s.dir, at)
			if err != nil {
				return nil, fmt.Errorf("%s is %s, not a directory, and could not be set aside: %w", at, kindOf(info.Mode()), err)
			}
			note("%s was %s, not a directory; it was set aside as %s", at, kindOf(info.Mode()), to)
			return nil, &fs.PathError{Op: "open", Path: at, Err: fs.ErrNotExist}
		}
	}
	return nil, err
}

// recall notes what an earlier process set aside within the last day, such as a command that ran before the daemon.
func (e *entry) recall(file fs.DirEntry) error {
	info, err := file.Info()
	if err != nil {
		return err
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		e.notes = append(e.notes, note{"a damaged file was set aside as " + file.Name(), time.Unix(sys.Ctim.Unix())})
	}
	return nil
}
