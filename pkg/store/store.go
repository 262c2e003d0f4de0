package store

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// The names in the state directory, and the modes of what is made there.
const (
	lockFile    = "lock"
	certsDir    = "certs"
	accountsDir = "accounts"

	publicDir  fs.FileMode = 0o750 // certificates: the group may look
	privateDir fs.FileMode = 0o700 // accounts: nobody else
	publicFile fs.FileMode = 0o640
	secretFile fs.FileMode = 0o600 // private keys, and files that hold one
)

// Store is an open and locked state directory. It is safe for concurrent use; changes to one lineage take turns.
type Store struct {
	path string
	dir  *atomicfile.Dir
	lock *os.File

	accounts sync.Mutex // one change of an account at a time
	shared   sync.Map   // see Shared
	mu       sync.Mutex // guards entries
	entries  map[string]*entry
}

// entry is what the store keeps in memory about one lineage. It is small, because there may be ten thousand.
type entry struct {
	mu       sync.Mutex // held during every operation on the lineage
	made     bool       // its directory is known to be durable
	versions []Version  // as of the last look; versions never change, so each is read once
	vetted   []string   // versions that were not active when they were found to be matching pairs
	checked  digest     // content of the active version when it was last found to be a matching pair
	notes    []note     // what was repaired or is odd
	recalled bool       // notes has what earlier processes set aside
}

// note is a remark about the files of a lineage.
type note struct {
	text string
	at   time.Time // when it was last found
}

// maxNotes and notedFor bound what is remembered: files may break again and again, and what was repaired is history.
const (
	maxNotes = 20
	notedFor = 24 * time.Hour
)

// note keeps a remark, which every Load returns for a day.
func (e *entry) note(format string, args ...any) {
	n := note{fmt.Sprintf(format, args...), time.Now()}
	if i := slices.IndexFunc(e.notes, func(known note) bool { return known.text == n.text }); i >= 0 {
		e.notes[i] = n
		return
	}
	e.notes = append(e.notes, n)
	e.notes = e.notes[max(0, len(e.notes)-maxNotes):]
}

// noted returns the remarks of the last day.
func (e *entry) noted() []string {
	e.notes = slices.DeleteFunc(e.notes, func(n note) bool { return time.Since(n.at) >= notedFor })
	var list []string
	for _, n := range e.notes {
		list = append(list, n.text)
	}
	return list
}

// LockedError says that another process uses the state directory.
type LockedError struct {
	Dir string
	PID int // of the process that holds the lock; 0 when unknown
}

// Error names the directory and the process.
func (e *LockedError) Error() string {
	holder := "another process"
	if e.PID > 0 {
		holder = fmt.Sprintf("process %d", e.PID)
	}
	return fmt.Sprintf("state directory %s is in use by %s; stop that acmed, or ask the running daemon instead", e.Dir, holder)
}

// Advice is the code of the failure.
func (e *LockedError) Advice() advice.Code { return advice.StateLocked }

// Open checks and locks a state directory, and removes temporaries that a killed process left at its top. The directory
// must exist, belong to the running user and be writable by nobody else: otherwise the error says what to do, and nothing
// is repaired. A directory in use gives a [*LockedError]. The lock ends with [Store.Close] or with the process.
//
// A read-only file system can be opened; then every change fails.
func Open(dir string) (*Store, error) { return open(dir, nil) }

func open(dir string, guard atomicfile.Guard) (*Store, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	if err := checkDir(dir); err != nil {
		return nil, err
	}
	d, err := atomicfile.OpenOwnDir(dir, guard)
	if err != nil {
		return nil, fmt.Errorf("state directory: %w", err)
	}
	lock, err := takeLock(d, dir)
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	s := &Store{path: dir, dir: d, lock: lock, entries: map[string]*entry{}}
	if err := s.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("state directory %s: %w", dir, err), s.Close())
	}
	return s, nil
}

// checkDir says in one line what is wrong with the state directory, and what to do about it.
func checkDir(dir string) error {
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("state directory %s does not exist; make it with: install -d -m 0750 -o %s %s", dir, userName(os.Geteuid()), dir)
	case err != nil:
		return fmt.Errorf("state directory: %w", err)
	case !info.IsDir():
		return fmt.Errorf("state directory %s is not a directory; move it away, or configure another", dir)
	}
	if sys, ok := info.Sys().(*syscall.Stat_t); ok && int(sys.Uid) != os.Geteuid() {
		return fmt.Errorf("%w: state directory %s belongs to user %s, but acmed runs as user %s; run it as user %[3]s, or with sudo",
			fs.ErrPermission, dir, userName(int(sys.Uid)), userName(os.Geteuid()))
	}
	if mode := info.Mode().Perm(); mode&0o022 != 0 {
		return fmt.Errorf("state directory %s can be written by others (mode %#o), who could plant keys there; repair it with: chmod 0750 %s",
			dir, mode, dir)
	}
	return nil
}

func userName(uid int) string {
	id := strconv.Itoa(uid)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

// takeLock opens and locks the lock file, which is never removed, and writes the process ID into it for messages.
func takeLock(d *atomicfile.Dir, dir string) (*os.File, error) {
	f, err := d.Open(lockFile, os.O_RDWR|os.O_CREATE, publicFile)
	readOnly := errors.Is(err, syscall.EROFS)
	if readOnly {
		if old, missing := d.Open(lockFile, os.O_RDONLY, 0); missing == nil {
			f, err = old, nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock the state directory %s: %w", dir, err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		locked := &LockedError{Dir: dir, PID: readPID(f)}
		_ = f.Close() // nothing was written
		return nil, locked
	}
	if err == nil && !readOnly {
		err = writePID(f)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", filepath.Join(dir, lockFile), err), f.Close())
	}
	return f, nil
}

func readPID(f *os.File) int {
	text := make([]byte, 20)
	n, _ := f.ReadAt(text, 0) // the end of the file is expected; without a number the holder is unknown
	pid, err := strconv.Atoi(strings.TrimSpace(string(text[:n])))
	if err != nil || pid < 0 {
		return 0
	}
	return pid
}

// writePID only informs, so a full disk does not keep anybody from starting.
func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := fmt.Fprintf(f, "%d\n", os.Getpid())
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	return err
}

// prepare makes the two upper directories. With the lock held, every temporary is a dead process's.
func (s *Store) prepare() error {
	err := errors.Join(
		s.dir.Mkdir(certsDir, publicDir), s.dir.Mkdir(accountsDir, privateDir),
		s.dir.Sweep("."), s.dir.Sweep(certsDir))
	if errors.Is(err, syscall.EROFS) {
		err = nil
	}
	for _, dir := range []string{certsDir, accountsDir} {
		if info, statErr := s.dir.Lstat(dir); statErr == nil && !info.IsDir() {
			return fmt.Errorf("%s is %s, not a directory; move it away, and restore the directory from a backup", dir, kindOf(info.Mode()))
		}
	}
	return err
}

// Close releases the lock. The Store cannot be used afterwards.
func (s *Store) Close() error { return errors.Join(s.dir.Close(), s.lock.Close()) }

// Dir is the absolute path of the state directory.
func (s *Store) Dir() string { return s.path }

// CheckWritable proves that the directory takes another durable file of some kilobytes. Ask before placing an order: a
// certificate that cannot be stored would be lost.
func (s *Store) CheckWritable() error {
	const probe = "writable"
	err := s.dir.Write(probe, make([]byte, 64<<10), secretFile)
	if err == nil {
		err = s.dir.Remove(probe)
	}
	if err != nil {
		return fmt.Errorf("state directory %s cannot be written: %w", s.path, err)
	}
	return nil
}

// Names lists the lineages on disk, sorted. What is no directory or has an impossible name is not listed.
func (s *Store) Names() ([]string, error) {
	entries, err := s.dir.ReadDir(certsDir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the certificates: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && certs.CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	slices.Sort(names)
	return names, nil
}

// Remove deletes a lineage with all its versions, keys and state. It is no error when there is none. What installers
// keep about it stays.
func (s *Store) Remove(name string) error {
	e, err := s.enter(name)
	if err != nil {
		return err
	}
	defer e.leave()
	e.made, e.versions, e.vetted, e.checked, e.notes = false, nil, nil, digest{}, nil
	if err := s.dir.RemoveTree(path.Join(certsDir, name)); err != nil {
		return fmt.Errorf("remove certificate %s: %w", name, err)
	}
	return nil
}

// enter checks a name and takes its turn on the lineage. Every path from a name to the disk leads through here.
func (s *Store) enter(name string) (*entry, error) {
	if err := certs.CheckName(name); err != nil {
		return nil, err
	}
	s.mu.Lock()
	e := s.entries[name]
	if e == nil {
		e = &entry{}
		s.entries[name] = e
	}
	s.mu.Unlock()
	e.mu.Lock()
	return e, nil
}

func (e *entry) leave() { e.mu.Unlock() }

// errNoLineage says that nothing was ever stored under a name.
var errNoLineage = errors.New("there is no such certificate")

// in runs do in the directory of a lineage while nobody else is at it. Without that directory it returns an error that
// wraps errNoLineage. Errors name the certificate and what was tried.
func (s *Store) in(name, what string, do func(d *atomicfile.Dir, e *entry) error) error {
	return s.inDir(name, what, do, func(dir string, e *entry) (*atomicfile.Dir, error) {
		d, err := s.sub(dir, e.note)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, errNoLineage
		}
		return d, err
	})
}

// inMade is in for those who write: it makes the directory if need be, durable while do writes into it.
func (s *Store) inMade(name, what string, do func(d *atomicfile.Dir, e *entry) error) error {
	durable := func() error { return nil }
	return s.inDir(name, what, func(d *atomicfile.Dir, e *entry) error {
		err := do(d, e)
		madeErr := durable()
		e.made = madeErr == nil
		return errors.Join(err, madeErr)
	}, func(dir string, e *entry) (*atomicfile.Dir, error) {
		d, err := s.sub(dir, e.note)
		if e.made && err == nil || err != nil && !errors.Is(err, fs.ErrNotExist) {
			return d, err
		}
		if err == nil {
			_ = d.Close() // who made it may have died before it was durable
		}
		if durable, err = s.dir.StartMkdir(dir, publicDir); err != nil {
			return nil, err
		}
		if d, err = s.dir.Sub(dir); err != nil {
			return nil, errors.Join(err, durable())
		}
		return d, nil
	})
}

func (s *Store) inDir(
	name, what string,
	do func(*atomicfile.Dir, *entry) error,
	open func(dir string, e *entry) (*atomicfile.Dir, error),
) error {
	e, err := s.enter(name)
	if err != nil {
		return err
	}
	defer e.leave()
	d, err := open(path.Join(certsDir, name), e)
	if err == nil {
		if err = e.tidy(d); err == nil {
			err = do(d, e)
		}
		err = errors.Join(err, d.Close())
	}
	if err != nil {
		return fmt.Errorf("certificate %s: %s: %w", name, what, inPath(err, certsDir, name))
	}
	return nil
}
