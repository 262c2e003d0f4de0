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
	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	currentLink = "current"
	versionsDir = "versions"
)

// Lineage is everything the store has about one named certificate.
//
// A lineage with Versions but without a Version is what a crash between storing and activating leaves, or what a deleted
// `current` looks like: nothing is damaged, and activating the newest version that is still valid is all it takes.
type Lineage struct {
	Name     string
	Current  *certs.Bundle // the active pair; nil when there is none, and when Damage is set
	Version  string        // ID that `current` names, whether or not it can be used; "" when nothing is active
	Versions []Version     // the readable versions on disk, newest first
	State    State         // never of a later format version
	Damage   error         // why the active version cannot be used; nil when it can, and when nothing is active
	Notes    []string      // what was repaired in the last day or is odd, for people
}

// Version is the summary of one stored version.
type Version struct {
	ID          string    // for example 20261120T235600Z-1a2b3c4d
	Created     time.Time // when it was stored, to the second
	NotBefore   time.Time // of the leaf; for a dual unit the later of both
	NotAfter    time.Time // of the leaf; for a dual unit the earlier of both
	Fingerprint string    // as certs.Bundle.Fingerprint
	Names       string    // of the leaf, as certs.JoinNames writes them; "" when unknown
	Issuer      string    // configured name of the issuer; "" when unknown
}

// Load reads one lineage. A name that was never stored gives an empty Lineage and no error.
//
// What is wrong with the files is in Damage and Notes; an error means that the disk could not be read, and says nothing
// about the certificate. State of a later acmed gives a [*NewerStateError].
func (s *Store) Load(name string) (*Lineage, error) {
	l := &Lineage{Name: name, State: State{Version: StateVersion}}
	err := s.in(name, "load", func(d *atomicfile.Dir, e *entry) error { return e.load(d, l) })
	if err != nil && !errors.Is(err, errNoLineage) {
		return nil, err
	}
	return l, nil
}

func (e *entry) load(d *atomicfile.Dir, l *Lineage) (err error) {
	if err = e.look(d); err != nil {
		return err
	}
	if l.State, err = e.loadState(d); err != nil {
		return err
	}
	l.Version, err = current(d)
	if err == nil && l.Version != "" {
		l.Current, err = e.active(d, l.Version)
	}
	var bad *damageError
	if errors.As(err, &bad) {
		l.Damage, err = err, nil
	}
	if err == nil {
		err = e.vet(d, l)
	}
	l.Versions = slices.DeleteFunc(slices.Clone(e.versions), unreadable)
	l.Notes = e.noted()
	return err
}

// vet applies what AddVersion demands to every version that may become the active one next: all of them when none can be
// used, else the later ones and the pinned one. One that does not pass is not among the readable versions any more.
func (e *entry) vet(d *atomicfile.Dir, l *Lineage) error {
	for _, v := range e.versions {
		behind := l.Current != nil && v.ID < l.Version && v.ID != l.State.Pinned
		if behind || v.ID == l.Version || unreadable(v) || slices.Contains(e.vetted, v.ID) {
			continue
		}
		if _, err := bundle(d, v.ID); !e.condemn(v.ID, err) && err != nil {
			return err
		}
		e.vetted = append(e.vetted, v.ID)
	}
	return nil
}

// condemn takes a version out of the readable ones when err says that it is damaged, and reports whether it does.
func (e *entry) condemn(id string, err error) bool {
	var bad *damageError
	if !errors.As(err, &bad) {
		return false
	}
	e.note("%v", err)
	created, _ := parseID(id)
	if i := slices.IndexFunc(e.versions, func(v Version) bool { return v.ID == id }); i >= 0 {
		e.versions[i] = Version{ID: id, Created: created}
	}
	return true
}

// current returns the version that `current` names, "" when there is no such link, and a *damageError when it leads
// anywhere else.
func current(d *atomicfile.Dir) (string, error) {
	target, err := d.Readlink(currentLink)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", nil
	case errors.Is(err, syscall.EINVAL):
		return "", damaged("%s is not a symbolic link, and could not be set aside", currentLink)
	case err != nil:
		return "", err
	}
	id, ok := strings.CutPrefix(target, versionsDir+"/")
	if _, valid := parseID(id); !ok || !valid {
		return "", damaged("%s leads to %q, which is no version", currentLink, text.Cut(target, text.Value))
	}
	return id, nil
}

// active reads the active version. A content that was found sound before is not checked again, only compared.
func (e *entry) active(d *atomicfile.Dir, id string) (*certs.Bundle, error) {
	raw, err := readVersion(d, id)
	if err != nil {
		return nil, err
	}
	for _, note := range raw.notes {
		e.note("version %s: %s", id, note)
	}
	sum := raw.digest()
	b, err := raw.bundle(sum == e.checked)
	if err != nil {
		return nil, fmt.Errorf("version %s: %w", id, err)
	}
	e.checked = sum
	return b, nil
}

// look brings e.versions up to date with the disk, newest first. Only versions not seen before are read.
func (e *entry) look(d *atomicfile.Dir) error {
	entries, err := d.ReadDir(versionsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	versions := make([]Version, 0, len(entries))
	for _, entry := range entries {
		id := entry.Name()
		if _, ok := parseID(id); !ok {
			continue
		}
		if !entry.IsDir() {
			e.setAside(d, path.Join(versionsDir, id), fmt.Errorf("version %s is %s, not a directory", id, kindOf(entry.Type())))
			continue
		}
		v, err := e.summary(d, id)
		if err != nil {
			return err
		}
		versions = append(versions, v)
	}
	slices.SortFunc(versions, func(a, b Version) int { return strings.Compare(b.ID, a.ID) })
	e.versions = versions
	return nil
}

// unreadable tells the summaries of versions that turned out to be damaged.
func unreadable(v Version) bool { return v.Fingerprint == "" }

func (e *entry) has(version string) bool {
	return slices.ContainsFunc(e.versions, func(v Version) bool { return v.ID == version })
}

func (e *entry) summary(d *atomicfile.Dir, id string) (Version, error) {
	if i := slices.IndexFunc(e.versions, func(v Version) bool { return v.ID == id }); i >= 0 {
		return e.versions[i], nil
	}
	v, err := summarize(d, id)
	var bad *damageError
	if errors.As(err, &bad) {
		e.note("version %s: %v", id, bad)
		created, _ := parseID(id)
		return Version{ID: id, Created: created}, nil
	}
	return v, err
}

// summarize reads what a version's certificates say.
func summarize(d *atomicfile.Dir, id string) (Version, error) {
	dir := path.Join(versionsDir, id)
	created, _ := parseID(id)
	leaf, err := readLeaf(d, path.Join(dir, pemName("cert", plain)))
	if err != nil {
		return Version{}, err
	}
	b := &certs.Bundle{Leaf: leaf}
	v := Version{ID: id, Created: created, NotBefore: leaf.NotBefore, NotAfter: leaf.NotAfter}
	rsa, err := readLeaf(d, path.Join(dir, pemName("cert", twin)))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return Version{}, err
	default:
		b.RSA = &certs.Bundle{Leaf: rsa}
		v.NotBefore = clock.Later(v.NotBefore, rsa.NotBefore)
		v.NotAfter = clock.Earlier(v.NotAfter, rsa.NotAfter)
	}
	m, _, err := readMeta(d, dir)
	v.Fingerprint, v.Issuer, v.Names = b.Fingerprint(), m.Issuer, certs.JoinNames(certs.LeafNames(leaf))
	return v, err
}
