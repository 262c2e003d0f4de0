package atomicfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"syscall"
)

// Keep as an owner or group leaves that of the running process.
const Keep = -1

// Write replaces the file at path, or makes it, with exactly this mode. A symbolic link at path is replaced, not followed.
func Write(path string, data []byte, mode fs.FileMode) error {
	return WriteOwned(path, data, mode, Keep, Keep)
}

// WriteOwned is [Write] with an owner and a group, set before the mode lets anybody else read.
func WriteOwned(path string, data []byte, mode fs.FileMode, uid, gid int) error {
	return in(path, func(d *Dir, base string) error { return d.WriteOwned(base, data, mode, uid, gid) })
}

// Symlink makes path a symbolic link to target, in place of what file or link is there.
func Symlink(target, path string) error {
	return in(path, func(d *Dir, base string) error { return d.Symlink(target, base) })
}

// SyncDir makes the entries of the directory at path durable.
func SyncDir(path string) error {
	d, err := OpenDir(path, nil)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync("."), d.Close())
}

func in(name string, do func(d *Dir, base string) error) error {
	d, err := OpenDir(filepath.Dir(name), nil)
	if err == nil {
		err = errors.Join(do(d, filepath.Base(name)), d.Close())
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", name, err)
	}
	return nil
}

// Write is the function [Write] below d.
func (d *Dir) Write(name string, data []byte, mode fs.FileMode) error {
	return d.WriteOwned(name, data, mode, Keep, Keep)
}

// WriteOwned is the function [WriteOwned] below d.
func (d *Dir) WriteOwned(name string, data []byte, mode fs.FileMode, uid, gid int) error {
	return d.replace(name, func(tmp string) error { return d.create(tmp, data, mode, uid, gid) })
}

// Symlink is the function [Symlink] below d. The target is stored as it is given.
func (d *Dir) Symlink(target, name string) error {
	return d.replace(name, func(tmp string) error {
		if err := d.ask("symlink", tmp); err != nil {
			return err
		}
		return d.root.Symlink(target, tmp)
	})
}

// File is one file of a tree: a name relative to the tree, in a directory of the tree at most one level deep.
type File struct {
	Name string
	Data []byte
	Mode fs.FileMode
}

// WriteTree makes a directory with these files appear at once under its name. Every directory of it gets dirMode. A
// directory of that name that is not empty is an error that wraps [fs.ErrExist]. Unlike the other functions it also undoes
// the last step when that cannot be made durable.
func (d *Dir) WriteTree(name string, dirMode fs.FileMode, files []File) error {
	tmp := temp(path.Dir(name))
	err := d.fill(tmp, dirMode, files)
	if err == nil {
		err = d.rename(tmp, name)
	}
	if err != nil {
		_ = d.remove(tmp) // what stays is swept later; the first error is the one to tell
		return err
	}
	if err := d.Sync(path.Dir(name)); err != nil {
		if d.rename(name, tmp) == nil {
			_ = d.remove(tmp) // as above
		}
		return err
	}
	return nil
}

// fill makes the directory dir and writes and fsyncs everything in it.
func (d *Dir) fill(dir string, dirMode fs.FileMode, files []File) error {
	if err := d.mkdir(dir, dirMode); err != nil {
		return err
	}
	dirs := []string{dir}
	for _, f := range files {
		name := path.Join(dir, f.Name)
		if parent := path.Dir(name); !slices.Contains(dirs, parent) {
			dirs = append(dirs, parent)
			if err := d.mkdir(parent, dirMode); err != nil {
				return err
			}
		}
		if err := d.create(name, f.Data, f.Mode, Keep, Keep); err != nil {
			return err
		}
	}
	for _, sub := range slices.Backward(dirs) {
		if err := d.Sync(sub); err != nil {
			return err
		}
	}
	return nil
}

// replace lets build make something under a temporary name and gives it its real one.
func (d *Dir) replace(name string, build func(tmp string) error) error {
	tmp := temp(path.Dir(name))
	err := build(tmp)
	if err == nil {
		err = d.rename(tmp, name)
	}
	if err != nil {
		_ = d.remove(tmp) // what stays is swept later; the first error is the one to tell
		return err
	}
	return d.Sync(path.Dir(name))
}

// create writes and fsyncs a new file. Until its owner is right only the running user can read it.
func (d *Dir) create(name string, data []byte, mode fs.FileMode, uid, gid int) error {
	if err := d.ask("create", name); err != nil {
		return err
	}
	f, err := d.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode&0o600)
	if err != nil {
		return fmt.Errorf("in %s: %w", path.Join(d.root.Name(), path.Dir(name)), err)
	}
	steps := []struct {
		op string
		do func() error
	}{
		{"write", func() error { _, err := f.Write(data); return err }},
		{"chown", func() error { return chown(f, uid, gid) }},
		{"chmod", func() error { return f.Chmod(mode) }},
		{"fsync", f.Sync},
	}
	for _, step := range steps {
		if err = d.ask(step.op, name); err == nil {
			err = step.do()
		}
		if err != nil {
			return errors.Join(err, f.Close())
		}
	}
	return f.Close()
}

func chown(f *os.File, uid, gid int) error {
	if uid == Keep && gid == Keep {
		return nil
	}
	return f.Chown(uid, gid)
}

// Owner is the user that a file belongs to, [Keep] where the system does not tell.
func Owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return Keep
}
