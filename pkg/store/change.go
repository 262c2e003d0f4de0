package store

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"path/filepath"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// Bundle reads one stored version completely: the pair, its RSA twin, the alternate chains and what is known about its
// issuance. A version that is damaged or not there is an error.
func (s *Store) Bundle(name, version string) (b *certs.Bundle, err error) {
	err = s.in(name, "read", func(d *atomicfile.Dir, _ *entry) error {
		b, err = bundle(d, version)
		return err
	})
	return b, err
}

func bundle(d *atomicfile.Dir, version string) (*certs.Bundle, error) {
	if _, ok := parseID(version); !ok {
		return nil, fmt.Errorf("%q is no version", text.Cut(version, text.Value))
	}
	raw, err := readVersion(d, version)
	if err != nil {
		return nil, err
	}
	b, err := raw.bundle(false)
	if err != nil {
		return nil, fmt.Errorf("version %s: %w", version, err)
	}
	return b, nil
}

// AddVersion stores a bundle durably and returns the ID of its version; it does not activate it. It is the last gate: what
// is not a matching pair with sound chains is refused. From here on the lineage's pending orders are void, even if the
// process dies before it can drop them. On an error nothing was stored.
//
// Every call makes a new version, whose ID is later than that of every other: when the clock has not moved on, or was
// set back, the second after the latest one is used.
func (s *Store) AddVersion(name string, b *certs.Bundle, now time.Time) (string, error) {
	var id string
	err := s.inMade(name, "store a version", func(d *atomicfile.Dir, _ *entry) (err error) {
		if err = vet(b); err != nil {
			return err
		}
		if err = d.Mkdir(versionsDir, publicDir); err != nil {
			return err
		}
		orders, _ := pendingURLs(d) // one that cannot be read must not keep a certificate from being stored
		files, err := versionFiles(b, slices.Sorted(maps.Values(orders)))
		if err != nil {
			return err
		}
		if id, err = writeVersion(d, b, files, now); err != nil {
			return err
		}
		_ = dropOrders(d) // they are void already; the next Prune drops what is left
		return nil
	})
	if err != nil {
		return "", err
	}
	return id, nil
}

// vet applies to a bundle what check applies to files.
func vet(b *certs.Bundle) error {
	if b == nil || b.Leaf == nil {
		return errors.New("there is no certificate")
	}
	for _, half := range []*certs.Bundle{b, b.RSA} {
		if half == nil {
			continue
		}
		u := rawUnit{cert: half.CertPEM, chain: half.ChainPEM, fullchain: half.FullChainPEM(), key: half.KeyPEM, alternates: half.Alternates}
		if err := u.check(); err != nil {
			return err
		}
		if leaf, err := parseLeaf(u.cert); err != nil || !leaf.Equal(half.Leaf) {
			return errors.New("the parsed certificate is not the one in PEM form")
		}
	}
	if len(b.Alternates) > maxAlternates || b.RSA != nil && len(b.RSA.Alternates) > maxAlternates {
		return fmt.Errorf("more than %d alternate chains", maxAlternates)
	}
	return nil
}

// writeVersion writes the files of a new version under an ID that sorts behind all others.
func writeVersion(d *atomicfile.Dir, b *certs.Bundle, files []atomicfile.File, now time.Time) (string, error) {
	latest, err := latestVersion(d)
	if err != nil {
		return "", err
	}
	if next := latest.Add(time.Second); now.Before(next) {
		now = next
	}
	id, err := newID(b, now)
	if err != nil {
		return "", err
	}
	return id, d.WriteTree(path.Join(versionsDir, id), publicDir, files)
}

// latestVersion is the time in the greatest version ID, zero when there is none.
func latestVersion(d *atomicfile.Dir) (latest time.Time, err error) {
	entries, err := d.ReadDir(versionsDir)
	for _, entry := range entries {
		if created, ok := parseID(entry.Name()); ok && created.After(latest) {
			latest = created
		}
	}
	return latest, err
}

// Activate makes a stored version the one that `current` names, at once for every file of it. A version that is damaged
// is refused. Activating the active version again is no error.
func (s *Store) Activate(name, version string) error {
	return s.in(name, "activate", func(d *atomicfile.Dir, e *entry) error {
		if _, err := bundle(d, version); err != nil {
			e.condemn(version, err)
			return err
		}
		return d.Symlink(path.Join(versionsDir, version), currentLink)
	})
}

// Prune removes old versions, void orders and what killed processes left. It never removes the active version, the pinned
// one, the held one, or one of the newest keep (at least 1); none at all while `current` leads nowhere. A compromised one
// goes as soon as it is not active.
func (s *Store) Prune(name string, keep int) error {
	err := s.in(name, "prune", func(d *atomicfile.Dir, e *entry) error {
		return errors.Join(d.Sweep("."), d.Sweep(versionsDir), dropVoid(d), e.prune(d, max(keep, 1)))
	})
	if errors.Is(err, errNoLineage) {
		return nil
	}
	return err
}

func (e *entry) prune(d *atomicfile.Dir, keep int) error {
	if err := e.look(d); err != nil {
		return err
	}
	st, err := e.loadState(d)
	if err != nil {
		return err
	}
	active, err := current(d)
	var bad *damageError
	if errors.As(err, &bad) || active != "" && !e.has(active) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, id := range e.surplus(active, &st, keep) {
		errs = append(errs, d.RemoveTree(path.Join(versionsDir, id)))
	}
	return errors.Join(errs...)
}

// surplus are the versions that nobody needs, and those that nobody may have any more.
func (e *entry) surplus(active string, st *State, keep int) (ids []string) {
	protected := []string{active, st.Pinned}
	if st.Held != nil {
		protected = append(protected, st.Held.Version)
	}
	newer := 0 // readable versions seen so far
	for _, v := range e.versions {
		compromised := v.ID != active && slices.Contains(st.Compromised, v.ID) && !unrevoked(st, v.ID)
		if compromised || newer >= keep && !slices.Contains(protected, v.ID) && !unrevoked(st, v.ID) {
			ids = append(ids, v.ID)
		}
		if !unreadable(v) {
			newer++
		}
	}
	return ids
}

// unrevoked reports whether the CA has yet to revoke a version.
func unrevoked(st *State, id string) bool {
	rev, asked := st.Revoked[id]
	return asked && rev.DoneAt.IsZero()
}

// Paths are the absolute paths of the active files of a lineage. They go through `current`, so they stay the same for the
// life of the lineage, and all change together.
type Paths struct {
	Cert, Chain, FullChain, Key             string
	RSACert, RSAChain, RSAFullChain, RSAKey string // of the twin; there for dual units only
}

// PathsIn returns where servers find the active files of a lineage in the state directory dir, which must be absolute.
// Nothing needs to be there yet. A chain without issuers has no Chain file, and a certificate from the operator's own CSR
// no Key file.
func PathsIn(dir, name string) Paths {
	return paths(filepath.Join(dir, certsDir, name, currentLink))
}

// VersionPaths returns where the files of one version of a lineage are, active or not.
func (s *Store) VersionPaths(name, version string) Paths {
	return paths(filepath.Join(s.path, certsDir, name, versionsDir, version))
}

func paths(dir string) Paths {
	at := func(what, unit string) string { return filepath.Join(dir, pemName(what, unit)) }
	return Paths{
		Cert: at("cert", plain), Chain: at("chain", plain), FullChain: at("fullchain", plain), Key: at("privkey", plain),
		RSACert: at("cert", twin), RSAChain: at("chain", twin), RSAFullChain: at("fullchain", twin), RSAKey: at("privkey", twin),
	}
}
