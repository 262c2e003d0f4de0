package store

import (
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Bundle reads one stored version completely: the pair, its RSA twin, the alternate chains and the metadata.
func (s *Store) Bundle(name, version string) (*certs.Bundle, error) { return nil, errors.ErrUnsupported }

// AddVersion stores a bundle and returns the ID of its version.
func (s *Store) AddVersion(name string, b *certs.Bundle, now time.Time) (string, error) {
	return "", errors.ErrUnsupported
}

// Activate makes a stored version the one that `current` names.
func (s *Store) Activate(name, version string) error { return errors.ErrUnsupported }

// SaveState writes state.json.
func (s *Store) SaveState(name string, st *State) error { return errors.ErrUnsupported }

// Prune removes old versions: never the active one, the pinned one, the held one, or one of the newest keep.
func (s *Store) Prune(name string, keep int) error { return errors.ErrUnsupported }

// Remove deletes a lineage with all its versions and keys.
func (s *Store) Remove(name string) error { return errors.ErrUnsupported }

// Paths returns where servers find the active files of a lineage.
func (s *Store) Paths(name string) Paths { return Paths{} }
