package store

import (
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Lineage is everything the store has about one named certificate.
type Lineage struct {
	Name     string
	Current  *certs.Bundle // the active pair; nil when there is none or Damage is set
	Version  string        // ID that `current` names; "" when there is none. Set also when that version is damaged
	Versions []Version     // every complete version on disk, newest first
	State    State
	Damage   error    // why the active pair cannot be used, nil otherwise
	Notes    []string // what Load had to repair or found odd; each is told once
}

// Version is the summary of one stored version.
type Version struct {
	ID          string    // for example 20261120T235600Z-1a2b3c4d
	Created     time.Time // when it was stored
	NotBefore   time.Time // of the leaf; for a dual unit the later of both
	NotAfter    time.Time // of the leaf; for a dual unit the earlier of both
	Fingerprint string    // as certs.Bundle.Fingerprint
	Issuer      string    // configured name of the issuer
}

// Paths are the absolute paths of the active files. They go through `current`, so they never change.
type Paths struct {
	Cert, Chain, FullChain, Key             string
	RSACert, RSAChain, RSAFullChain, RSAKey string // present on disk for dual units only
}

// Load reads one lineage. A name that was never stored gives an empty Lineage and no error.
func (s *Store) Load(name string) (*Lineage, error) { return nil, errors.ErrUnsupported }
