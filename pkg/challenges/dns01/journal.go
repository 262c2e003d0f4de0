package dns01

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
)

// Journal is the durable list of the records that are or may be in the DNS: one file of mode 0600 per record in one
// directory, usually dns/ below the state directory. A record is in it before its provider is first asked to set it and
// until the provider has removed it. It is safe for concurrent use by the process that holds the state directory.
type Journal struct {
	path string
	open sync.Once
	dir  *atomicfile.Dir
	err  error
}

// Entry is one record of the journal.
type Entry struct {
	Version int       `json:"version"` // 1
	Solver  string    `json:"solver"`  // configured name
	Created time.Time `json:"created"`
	Record
}

const (
	entryVersion  = 1
	entrySuffix   = ".json"
	maxEntryBytes = 16 << 10
)

// NewJournal returns the journal in a directory, which is made when it is first needed. Its parent must exist.
func NewJournal(path string) *Journal { return &Journal{path: path} }

func (j *Journal) directory() (*atomicfile.Dir, error) {
	j.open.Do(func() { j.dir, j.err = openJournal(j.path) })
	return j.dir, j.err
}

func openJournal(path string) (*atomicfile.Dir, error) {
	parent, err := atomicfile.OpenDir(filepath.Dir(path), nil)
	if err != nil {
		return nil, err
	}
	defer parent.Close() //nolint:errcheck // a directory that was only read from
	if err := parent.Mkdir(filepath.Base(path), 0o700); err != nil {
		return nil, err
	}
	dir, err := parent.Sub(filepath.Base(path))
	if err != nil {
		return nil, err
	}
	return dir, dir.Sweep(".")
}

// Entries lists what the journal has. An entry that cannot be read is told in the error, beside all the others.
func (j *Journal) Entries() ([]Entry, error) {
	dir, err := j.directory()
	if err != nil {
		return nil, fmt.Errorf("journal of DNS records: %w", err)
	}
	files, err := dir.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("journal of DNS records: %w", err)
	}
	var list []Entry
	var errs []error
	for _, f := range files {
		if !strings.HasSuffix(f.Name(), entrySuffix) {
			continue
		}
		e, err := readEntry(dir, f.Name())
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed meanwhile
		case err != nil:
			errs = append(errs, fmt.Errorf("journal of DNS records: %s in %s: %w", f.Name(), j.path, err))
		default:
			list = append(list, e)
		}
	}
	return list, errors.Join(errs...)
}

func readEntry(dir *atomicfile.Dir, name string) (Entry, error) {
	var e Entry
	text, _, err := dir.ReadFile(name, maxEntryBytes)
	if err != nil {
		return e, err
	}
	if err := json.Unmarshal(text, &e); err != nil {
		return e, err
	}
	switch {
	case e.Version != entryVersion:
		return e, fmt.Errorf("version %d is not known, want %d; another release of acmed wrote it", e.Version, entryVersion)
	case entryName(e.Solver, e.Record) != name:
		return e, errors.New("the content does not belong to the name of the file")
	}
	return e, nil
}

func (j *Journal) add(e Entry) error {
	dir, err := j.directory()
	if err != nil {
		return fmt.Errorf("journal of DNS records: %w", err)
	}
	e.Version = entryVersion
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	if err := dir.Write(entryName(e.Solver, e.Record), append(text, '\n'), 0o600); err != nil {
		return fmt.Errorf("journal of DNS records: %w", err)
	}
	return nil
}

// find returns the entry of a challenge, whose effective name may have changed since, or false.
func (j *Journal) find(solver string, r Record) (Entry, bool) {
	dir, err := j.directory()
	if err != nil {
		return Entry{}, false
	}
	e, err := readEntry(dir, entryName(solver, r))
	return e, err == nil
}

func (j *Journal) remove(solver string, r Record) error {
	dir, err := j.directory()
	if err != nil {
		return fmt.Errorf("journal of DNS records: %w", err)
	}
	if err := dir.Remove(entryName(solver, r)); err != nil {
		return fmt.Errorf("journal of DNS records: %w", err)
	}
	return nil
}

// entryName identifies a challenge of a solver. The effective name is not part of it: a CNAME may change between Present
// and CleanUp, and the entry has to be found nevertheless.
func entryName(solver string, r Record) string {
	sum := sha256.Sum256([]byte(solver + "\n" + r.Domain + "\n" + r.KeyAuth))
	return hex.EncodeToString(sum[:16]) + entrySuffix
}
