package store

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
)

// renew does what the engine does for one renewal. Every step runs even if an earlier one failed, as far as it can.
func renew(s *Store, next *certs.Bundle, now time.Time) error {
	o := &Order{URL: "https://ca.example/order/" + next.Fingerprint(), KeyPEM: next.KeyPEM, Created: now}
	errs := []error{s.SaveOrder(www, SlotEC, o)}
	id, err := s.AddVersion(www, next, now)
	errs = append(errs, err)
	if err == nil {
		errs = append(errs, s.Activate(www, id))
	}
	l, err := s.Load(www)
	errs = append(errs, err)
	if err == nil {
		l.State.Failures++
		errs = append(errs, s.SaveState(www, &l.State))
	}
	return errors.Join(append(errs, s.Prune(www, 2))...)
}

// checkInvariant opens a state directory after a crash: the active pair is complete and matches, no state is damaged, no
// reachable file is empty, a void order stays void, and the next Prune leaves no temporary.
func checkInvariant(t *testing.T, dir, when string, bundles ...*certs.Bundle) {
	t.Helper()
	s, err := Open(dir)
	must(t, err)
	defer s.Close()
	l, err := s.Load(www)
	if err != nil || l.Damage != nil || l.Notes != nil || l.Current == nil {
		t.Fatalf("%s: error %v, damage %v, notes %q", when, err, l.Damage, l.Notes)
	}
	known := func(fingerprint string) bool {
		return slices.ContainsFunc(bundles, func(b *certs.Bundle) bool { return b.Fingerprint() == fingerprint })
	}
	if bundles != nil && !known(l.Current.Fingerprint()) {
		t.Errorf("%s: an unknown certificate is active", when)
	}
	for _, v := range l.Versions {
		b, err := s.Bundle(www, v.ID)
		if err != nil {
			t.Errorf("%s: %v", when, err)
			continue
		}
		o, err := s.Order(www, SlotEC)
		if err != nil || o != nil && strings.HasSuffix(o.URL, "/"+b.Fingerprint()) {
			t.Errorf("%s: the order of a stored version came back (%v)", when, err)
		}
	}
	must(t, s.Prune(www, 2))
	if left := temporaries(t, dir); left != nil {
		t.Errorf("%s: left behind %q", when, left)
	}
	must(t, filepath.WalkDir(filepath.Join(dir, "certs"), func(name string, e fs.DirEntry, err error) error {
		if info, _ := e.Info(); info != nil && info.Mode().IsRegular() && info.Size() == 0 {
			t.Errorf("%s: %s is empty", when, name)
		}
		return err
	}))
}

// TestEveryFailure breaks each file-system call of a renewal in turn: once alone, once with all that follow, as a full or
// dying disk does. A failing write has written half of its data.
func TestEveryFailure(t *testing.T) {
	c := newCA(t)
	old, next := c.dual(t), c.dual(t)
	for _, errno := range []syscall.Errno{syscall.ENOSPC, syscall.EIO} {
		for _, sticky := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/sticky=%t", strings.ReplaceAll(errno.Error(), " ", "_"), sticky), func(t *testing.T) {
				n := 1
				for failAt(t, old, next, n, errno, sticky) {
					n++
				}
				t.Logf("0 broken of %d points", n-1)
				if n < 50 {
					t.Errorf("only %d calls were broken", n-1)
				}
			})
		}
	}
}

// dropping matches the calls by which AddVersion reads and drops pending orders. Their failures are not told: the version is
// stored all the same, and the orders are void.
var dropping = regexp.MustCompile(`(read|remove) certs/www/order-(ec|rsa)\.json`)

// failAt reports whether the renewal made at least n calls.
func failAt(t *testing.T, old, next *certs.Bundle, n int, errno syscall.Errno, sticky bool) bool {
	dir, calls, broken, before := quickDir(t), 0, "", ""
	armed := false
	s := openTest(t, dir, func(op, name string) error {
		if !armed {
			return nil
		}
		if calls++; calls < n || calls > n && !sticky {
			before = op + " " + name
			return nil
		}
		if broken == "" {
			broken = op + " " + name + ", after " + before
		}
		if op == "write" {
			write(t, filepath.Join(dir, name), "-----BEGIN HALF")
		}
		return errno
	})
	add(t, s, old, noon(), true)
	must(t, s.SaveState(www, &State{Failures: 1}))
	armed = true
	err := renew(s, next, noon().Add(time.Hour))
	armed = false
	must(t, s.Close())
	when := fmt.Sprintf("call %d, %s", n, broken)
	if broken != "" && !dropping.MatchString(broken) && !errors.Is(err, errno) {
		t.Errorf("%s: the failure was not told: %v", when, err)
	}
	checkInvariant(t, dir, when, old, next)
	return broken != ""
}

// TestDurableOrder watches every call of a renewal for what a power cut would lose: nothing is renamed before its content
// and the directories in it are synced, and nothing is left unsynced when a method returns.
func TestDurableOrder(t *testing.T) {
	dirty := map[string]bool{}
	only := func(when string, allowed ...string) {
		for name := range maps.Keys(dirty) {
			if !slices.Contains(allowed, name) {
				t.Errorf("%s: %s is not on disk yet", when, name)
			}
		}
	}
	syncs := 0
	s := openTest(t, stateDir(t), func(op, name string) error {
		switch op {
		case "create", "mkdir", "symlink":
			dirty[path.Dir(name)] = true
		case "write":
			dirty[name] = true
		case "fsync":
			syncs++
			delete(dirty, name)
		case "rename":
			only("renaming to "+name, path.Dir(name))
			dirty[path.Dir(name)] = true
		}
		return nil
	})
	c := newCA(t)
	b := c.dual(t)
	only("after Open")
	o := pending(t, "https://ca.example/order/1")
	a := &Account{Key: ecKey(t), NextKey: ecKey(t)}
	var id string
	steps := []struct {
		name string
		do   func() error
	}{
		{"SaveAccount", func() error { return s.SaveAccount(caURL, ops, a) }},
		{"SaveOrder", func() error { return s.SaveOrder(www, SlotEC, o) }},
		{"AddVersion", func() (err error) { id, err = s.AddVersion(www, b, noon()); return err }},
		{"Activate", func() error { return s.Activate(www, id) }},
		{"SaveState", func() error { return s.SaveState(www, &State{}) }},
		{"AddVersion", func() (err error) { id, err = s.AddVersion(www, c.bundle(t), noon().Add(time.Hour)); return err }},
		{"Activate", func() error { return s.Activate(www, id) }},
		{"Prune", func() error { return s.Prune(www, 1) }},
		{"Remove", func() error { return s.Remove(www) }},
		{"CheckWritable", s.CheckWritable},
	}
	for _, step := range steps {
		before := syncs
		must(t, step.do())
		only("after " + step.name)
		if syncs == before {
			t.Errorf("%s synced nothing", step.name)
		}
	}
}

// TestMain turns the test binary into the process that TestKill kills.
func TestMain(m *testing.M) {
	if dir := os.Getenv("STORE_TEST_DIR"); dir != "" {
		if err := victim(dir, os.Getenv("STORE_TEST_KILL")); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// victim renews until it is killed: by itself before the given call, or by its parent when no call is given. With "limit"
// it may not make files larger than one byte.
func victim(dir, kill string) error {
	t := &fatalT{}
	c := newCA(t)
	var limit syscall.Rlimit
	if kill == "limit" {
		limit = syscall.Rlimit{Cur: 1, Max: 1}
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &limit); err != nil {
			return err
		}
	}
	last, _ := strconv.Atoi(kill) // 0: the parent kills
	calls := 0
	s, err := open(dir, func(_, _ string) error {
		if calls++; calls == last {
			return syscall.Kill(os.Getpid(), syscall.SIGKILL)
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i := range 1000 {
		if err := renew(s, c.bundle(t), noon().Add(time.Duration(i+1)*time.Hour)); err != nil {
			return err
		}
		if last > 0 {
			return nil
		}
		if i == 0 {
			fmt.Println("renewed")
		}
	}
	return nil
}

// fatalT lets the victim use the helpers of the tests.
type fatalT struct{ testing.TB }

func (*fatalT) Helper()           {}
func (*fatalT) Fatal(args ...any) { panic(fmt.Sprint(args...)) }

func victimCommand(t *testing.T, dir, kill string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), "STORE_TEST_DIR="+dir, "STORE_TEST_KILL="+kill)
	return cmd
}

// TestKillAtCall kills a real process before a file-system call of a renewal, two processes at a time. A process is slow to
// start, so one run takes every third call, beginning anywhere; TestEveryFailure takes them all.
func TestKillAtCall(t *testing.T) {
	const step = 3
	b := newCA(t).bundle(t)
	var mu sync.Mutex
	first, points, done := 1+os.Getpid()%step, 0, false
	var workers sync.WaitGroup
	for range 2 {
		workers.Go(func() {
			for {
				mu.Lock()
				n, stop := first+points*step, done
				points++
				mu.Unlock()
				if stop || t.Failed() {
					return
				}
				killed := killAt(t, b, n)
				mu.Lock()
				done = done || !killed
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	t.Logf("0 broken of %d points", points)
	if points < 20 {
		t.Errorf("only %d points", points)
	}
}

func killAt(t *testing.T, b *certs.Bundle, n int) (killed bool) {
	dir := quickDir(t)
	s, err := Open(dir)
	must(t, err)
	add(t, s, b, noon(), true)
	must(t, s.Close())
	out, err := victimCommand(t, dir, strconv.Itoa(n)).CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL {
		killed = true
	} else if err != nil {
		t.Errorf("call %d: %v: %s", n, err, out)
	}
	checkInvariant(t, dir, fmt.Sprintf("killed before call %d", n))
	return killed
}

// TestKillAnywhere kills a renewing process at times that have nothing to do with its calls.
func TestKillAnywhere(t *testing.T) {
	c := newCA(t)
	dir := stateDir(t)
	s, err := Open(dir)
	must(t, err)
	add(t, s, c.bundle(t), noon(), true)
	must(t, s.Close())
	const rounds = 15
	for i := range rounds {
		cmd := victimCommand(t, dir, "")
		out, err := cmd.StdoutPipe()
		must(t, err)
		must(t, cmd.Start())
		_, err = out.Read(make([]byte, 10)) // "renewed": it is at work
		must(t, err)
		if _, err := Open(dir); !isLocked(err, cmd.Process.Pid) {
			t.Errorf("while it runs: %v, want a LockedError", err)
		}
		time.Sleep(time.Duration(i*700) * time.Microsecond) // the point of the kill, not a wait for something
		must(t, cmd.Process.Kill())
		_ = cmd.Wait() // killed
		checkInvariant(t, dir, fmt.Sprintf("round %d", i))
	}
}

func isLocked(err error, pid int) bool {
	var locked *LockedError
	return errors.As(err, &locked) && locked.PID == pid
}

// TestFileSizeLimit runs out of what the process may write: an error, no signal, and the old version stays.
func TestFileSizeLimit(t *testing.T) {
	b := newCA(t).bundle(t)
	dir := stateDir(t)
	s, err := Open(dir)
	must(t, err)
	add(t, s, b, noon(), true)
	must(t, s.Close())
	out, err := victimCommand(t, dir, "limit").CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(string(out), "file too large") {
		t.Errorf("%v: %s", err, out)
	}
	checkInvariant(t, dir, "over the limit", b)
}

// TestSwapWhileReading swaps `current` 20,000 times under a reader: no file is ever missing, and no directory ever holds
// half of each.
func TestSwapWhileReading(t *testing.T) {
	c := newCA(t)
	s := openTest(t, quickDir(t), nil)
	first := add(t, s, c.bundle(t), noon(), true)
	ids := []string{first, add(t, s, c.bundle(t), noon().Add(time.Hour), false)}
	stop, done := make(chan struct{}), make(chan int)
	go func() { done <- readPairs(t, s, stop) }()
	swaps := 20_000
	if testing.Short() {
		swaps = 2_000
	}
	must(t, s.in(www, "swap", func(d *atomicfile.Dir, _ *entry) error {
		for i := range swaps {
			if err := d.Symlink("versions/"+ids[i%2], "current"); err != nil {
				return err
			}
		}
		return nil
	}))
	close(stop)
	t.Logf("0 missing, 0 mixed of %d reads during %d swaps", <-done, swaps)
}

func readPairs(t *testing.T, s *Store, stop <-chan struct{}) (reads int) {
	paths := PathsIn(s.Dir(), www)
	for {
		select {
		case <-stop:
			return reads
		default:
		}
		for _, name := range []string{paths.Cert, paths.Chain, paths.FullChain, paths.Key} {
			if text, err := os.ReadFile(name); err != nil || len(text) == 0 {
				t.Errorf("read %d: %d bytes, %v", reads, len(text), err)
			}
		}
		root, err := os.OpenRoot(filepath.Dir(paths.Cert))
		if err != nil {
			t.Errorf("read %d: %v", reads, err)
			continue
		}
		cert, err1 := root.ReadFile("fullchain.pem")
		key, err2 := root.ReadFile("privkey.pem")
		if _, err3 := certs.NewBundle(cert, key); err1 != nil || err2 != nil || err3 != nil {
			t.Errorf("read %d: %v, %v, %v", reads, err1, err2, err3)
		}
		_ = root.Close() // only read from
		reads++
	}
}

// TestConcurrentUse has everything happen to one lineage at once; the race detector and the invariant judge it.
func TestConcurrentUse(t *testing.T) {
	c := newCA(t)
	s, _ := live(t, c.bundle(t))
	var workers sync.WaitGroup
	for w := range 4 {
		bundles := []*certs.Bundle{c.bundle(t), c.bundle(t), c.bundle(t), c.bundle(t), c.bundle(t)}
		workers.Go(func() {
			for i, b := range bundles {
				if err := renew(s, b, noon().Add(time.Duration(10*w+i)*time.Minute)); err != nil && !strings.Contains(err.Error(), "is missing") {
					t.Errorf("worker %d: %v", w, err) // missing: pruned by another worker before it was activated
				}
				if l, err := s.Load(www); err != nil || l.Damage != nil || l.Current == nil {
					t.Errorf("worker %d: %v, %v", w, err, l.Damage)
				}
			}
		})
	}
	workers.Wait()
	must(t, s.Close())
	checkInvariant(t, s.Dir(), "after all")
}
