package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"

	"github.com/acmed/acmed/internal/atomicfile"
)

// damageError is about what a file holds, as opposed to an error of the disk or of permissions: reading again gives the
// same, and what it held is lost.
type damageError struct{ err error }

func (e *damageError) Error() string { return e.err.Error() }
func (e *damageError) Unwrap() error { return e.err }

func damaged(format string, args ...any) error { return &damageError{fmt.Errorf(format, args...)} }

// read reads a file. One that is missing, no regular file or larger than it can be is a *damageError; a missing one also
// wraps fs.ErrNotExist.
func read(d *atomicfile.Dir, name string, limit int64) ([]byte, fs.FileInfo, error) {
	data, info, err := d.ReadFile(name, limit)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil, damaged("%s: %w", path.Base(name), fs.ErrNotExist)
	case errors.Is(err, atomicfile.ErrTooLarge), errors.Is(err, atomicfile.ErrNotRegular):
		return nil, nil, &damageError{err}
	}
	return data, info, err
}

// readJSON decodes a file whose format version ends up in version, which is part of into. Errors are as those of read, and
// a *NewerStateError.
func readJSON(d *atomicfile.Dir, name string, limit int64, into any, version *int) error {
	text, _, err := read(d, name, limit)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, into); err != nil {
		var format struct {
			Version int `json:"version"`
		}
		if json.Unmarshal(text, &format) == nil && format.Version > StateVersion {
			return &NewerStateError{Path: name, Version: format.Version}
		}
		return damaged("%s: %w", name, err)
	}
	switch {
	case *version > StateVersion:
		return &NewerStateError{Path: name, Version: *version}
	case *version < 1:
		return damaged("%s has no version", name)
	}
	return nil
}

// replaceable returns an error unless a file may be written anew: a *NewerStateError, or that of the disk.
func replaceable(d *atomicfile.Dir, name string, limit int64) error {
	var f struct {
		Version int `json:"version"`
	}
	err := readJSON(d, name, limit, &f, &f.Version)
	var bad *damageError
	if errors.As(err, &bad) {
		return nil
	}
	return err
}

// inPath completes the path of a NewerStateError that came from a directory below.
func inPath(err error, dir ...string) error {
	var newer *NewerStateError
	if errors.As(err, &newer) {
		return &NewerStateError{Path: path.Join(append(dir, newer.Path)...), Version: newer.Version}
	}
	return err
}
