package change

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/installers"
)

// A journal is a directory, 0700, that holds
//
//	journal         one line "acmed-journal 1 <SHA-256 of the rest>", then a record as JSON
//	backup-<hash>   the bytes of a file as a change found it, named by their SHA-256, 0600 whatever the file had
//
// The record lists the undo entries of all committed changes and at most one pending change. It is replaced atomically,
// and that is what begins and commits a change: backups are durable before the record names them, the record is durable
// before any file is touched.
const (
	journalFile  = "journal"
	journalMagic = "acmed-journal 1 "
	backupPrefix = "backup-"
	maxRecord    = 16 << 20
)

// lockPoll is how often a busy journal is tried again. Two changes of one target meet rarely, and then for seconds.
const lockPoll = 10 * time.Millisecond

type record struct {
	Undo    []entry  `json:"undo,omitempty"`
	Pending *pending `json:"pending,omitempty"`
}

// pending is a change that is neither committed nor put back.
type pending struct {
	Files    []entry `json:"files,omitempty"`
	Reloaded bool    `json:"reloaded,omitempty"` // the server may have read the new files
	Undo     bool    `json:"undo,omitempty"`     // an [Undo] under way: finished, not put back
}

// journal is an open, locked journal.
type journal struct {
	path   string
	lock   *os.File
	dir    *atomicfile.Dir
	guard  atomicfile.Guard
	disk   Disk // where the files are; nil is this machine
	record record
}

func (j *journal) medium() medium { return medium{j.disk, j.guard} }

// openJournal makes the directory if needed, waits for its lock and reads its record.
func openJournal(ctx context.Context, path string, m medium) (*journal, error) {
	guard := m.guard
	if !filepath.IsAbs(path) {
		return nil, fmt.Errorf("journal %q is not an absolute path", path)
	}
	if err := makeDir(path, guard); err != nil {
		return nil, fmt.Errorf("journal: %w", err)
	}
	dir, err := atomicfile.OpenDir(path, guard)
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(ctx, dir)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("journal %s: %w", path, err), dir.Close())
	}
	j := &journal{path: path, dir: dir, lock: lock, guard: guard, disk: m.disk}
	if err := j.load(); err != nil {
		j.close()
		return nil, err
	}
	return j, nil
}

func (j *journal) close() {
	_ = j.dir.Close()  // only looked up through; every write was synced by itself
	_ = j.lock.Close() // gives the lock back
}

// makeDir makes a directory that only we can enter, and its parents, durably.
func makeDir(path string, guard atomicfile.Guard) error {
	info, err := os.Lstat(path)
	switch {
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is not a directory", path)
	case err == nil && info.Mode().Perm()&0o002 != 0:
		return fmt.Errorf("%s is world-writable", path)
	case err == nil:
		return nil
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	if err := makeDir(filepath.Dir(path), guard); err != nil {
		return err
	}
	parent, err := atomicfile.OpenDir(filepath.Dir(path), guard)
	if err != nil {
		return err
	}
	return errors.Join(parent.Mkdir(filepath.Base(path), 0o700), parent.Close())
}

// lockDir takes the directory's lock, which the kernel gives back when the process dies.
func lockDir(ctx context.Context, d *atomicfile.Dir) (*os.File, error) {
	dir, err := d.Open(".", os.O_RDONLY, 0)
	if err != nil {
		return nil, err
	}
	ticker := time.NewTicker(lockPoll)
	defer ticker.Stop()
	for {
		err := syscall.Flock(int(dir.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return dir, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(err, dir.Close())
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil, errors.Join(context.Cause(ctx), dir.Close())
		}
	}
}

func (j *journal) load() error {
	text, _, err := j.dir.ReadFile(journalFile, maxRecord)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		j.record, err = decodeRecord(text)
	}
	return j.damage(journalFile, err)
}

// damage tells a file of the journal that is wrong from one that cannot be read at the moment.
func (j *journal) damage(name string, err error) error {
	path := filepath.Join(j.path, name)
	errno := syscall.Errno(0)
	switch {
	case err == nil:
		return nil
	case errors.As(err, &errno) && errno != syscall.ENOENT:
		return fmt.Errorf("read the undo record %s: %w", path, err)
	}
	return &installers.DamagedJournalError{Path: path, Err: err}
}

func encodeRecord(r record) ([]byte, error) {
	body, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return nil, err
	}
	return append([]byte(journalMagic+Hash(body)+"\n"), body...), nil
}

func decodeRecord(text []byte) (record, error) {
	head, body, found := bytes.Cut(text, []byte("\n"))
	sum, isJournal := strings.CutPrefix(string(head), journalMagic)
	if !found || !isJournal {
		return record{}, errors.New("it is not a journal of this version of acmed")
	}
	if Hash(body) != sum {
		return record{}, errors.New("its checksum is wrong")
	}
	var r record
	decoder := json.NewDecoder(bytes.NewReader(body))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil {
		return record{}, err
	}
	return r, nil
}

// save replaces the record and drops the backups that it no longer names.
func (j *journal) save(r record) error {
	text, err := encodeRecord(r)
	if err != nil {
		return err
	}
	if r.Pending == nil && len(r.Undo) == 0 {
		err = j.dir.Remove(journalFile)
	} else {
		err = j.dir.Write(journalFile, text, 0o600)
	}
	if err != nil {
		return err
	}
	j.record = r
	_ = j.tidy() // what stays is tidied the next time; the record is what counts
	return nil
}

// tidy removes what no record needs: backups of replaced versions, which may be private keys, and torn temporaries.
func (j *journal) tidy() error {
	needed := map[string]bool{journalFile: true}
	for _, e := range j.record.Undo {
		needed[backupPrefix+e.Before.Hash], needed[backupPrefix+e.Kept] = true, true
	}
	if p := j.record.Pending; p != nil {
		for _, e := range p.Files {
			needed[backupPrefix+e.Before.Hash] = true
		}
	}
	names, err := j.dir.ReadDir(".")
	errs := []error{err}
	for _, n := range names {
		if !needed[n.Name()] && (strings.HasPrefix(n.Name(), backupPrefix) || atomicfile.IsTemp(n.Name())) {
			errs = append(errs, j.dir.Remove(n.Name()))
		}
	}
	return errors.Join(errs...)
}

// begin makes a change pending: its backups, then its record.
func (j *journal) begin(edits []edit) error {
	p := &pending{}
	for i := range edits {
		e := &edits[i]
		p.Files = append(p.Files, e.entry)
		if err := j.keep(e); err != nil {
			return err
		}
	}
	return j.save(record{Undo: j.record.Undo, Pending: p})
}

// keep makes the bytes of before durable.
func (j *journal) keep(e *edit) error {
	if !e.Before.hasContent() {
		return nil
	}
	return j.dir.Write(backupPrefix+e.Before.Hash, e.before, 0o600)
}

// reloading notes that the server is about to read the new files.
func (j *journal) reloading() error {
	p := *j.record.Pending
	p.Reloaded = true
	return j.save(record{Undo: j.record.Undo, Pending: &p})
}

// commit turns the pending change into undo entries.
func (j *journal) commit() error {
	return j.save(record{Undo: merge(j.record.Undo, j.record.Pending.Files)})
}

// merge adds the entries of a change to an undo record. A file that has one keeps its first bytes, and those of an edit
// in between; a file that is back to its first bytes needs none.
func merge(undo, files []entry) []entry {
	fresh := map[string]entry{}
	for _, f := range files {
		fresh[f.Path] = f
	}
	all := make([]entry, 0, len(undo)+len(files))
	for _, u := range undo {
		if f, again := fresh[u.Path]; again {
			if u.After.Hash != f.Before.Hash && u.Before.Hash != f.Before.Hash {
				u.Edited = true
				if f.Before.hasContent() {
					u.Kept = f.Before.Hash
				}
			}
			u.After = f.After
			delete(fresh, u.Path)
		}
		all = append(all, u)
	}
	for _, f := range files {
		if _, isNew := fresh[f.Path]; isNew {
			all = append(all, f)
		}
	}
	return slices.DeleteFunc(all, func(e entry) bool { return e.Before == e.After })
}

// backup reads the bytes of an entry as they were before; nil when there was no file.
func (j *journal) backup(e entry) ([]byte, error) {
	if !e.Before.hasContent() {
		return nil, nil
	}
	name := backupPrefix + e.Before.Hash
	content, _, err := j.dir.ReadFile(name, maxFile)
	if err == nil && Hash(content) != e.Before.Hash {
		err = errors.New("its content does not match its name")
	}
	return content, j.damage(name, err)
}
