package store

import (
	"errors"
	"fmt"
)

// Store is an open and locked state directory. It is safe for concurrent use; changes to one lineage take turns.
type Store struct {
	dir string
}

// LockedError says that another acmed uses the state directory.
type LockedError struct {
	Dir string
	PID int // of the process that holds the lock; 0 when unknown
}

// Error names the directory and the process.
func (e *LockedError) Error() string {
	return fmt.Sprintf("%s is in use by process %d", e.Dir, e.PID)
}

// Open checks and locks a state directory.
func Open(dir string) (*Store, error) { return nil, errors.ErrUnsupported }

// Close releases the lock.
func (s *Store) Close() error { return errors.ErrUnsupported }

// Dir is the absolute path of the state directory.
func (s *Store) Dir() string { return s.dir }

// Names lists the lineages on disk, sorted.
func (s *Store) Names() ([]string, error) { return nil, errors.ErrUnsupported }
