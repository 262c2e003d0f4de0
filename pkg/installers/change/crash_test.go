package change

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/installers"
)

// The environment of the process that a crash test kills: what to do, where, and before which step to die.
const (
	crashAction = "ACMED_TEST_CRASH_ACTION"
	crashDir    = "ACMED_TEST_CRASH_DIR"
	crashStep   = "ACMED_TEST_CRASH_STEP"
)

func TestMain(m *testing.M) {
	if os.Getenv(crashAction) == "" {
		os.Exit(m.Run())
	}
	if err := crashingProcess(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// counter runs before each file-system call and each step of a change, and acts before the one whose turn it is.
type counter struct {
	turn, count int
	act         func() error
}

func (c *counter) guard(string, string) error {
	c.count++
	if c.count == c.turn {
		return c.act()
	}
	return nil
}

func (c *counter) step(context.Context) error { return c.guard("", "") }

// The two states of the imaginary server: what its files hold before and after the change.
var (
	oldFiles = map[string]string{"site.conf": "old", "mode.conf": "same", "gone.conf": "g", "key.pem": "old key"}
	newFiles = map[string]string{"site.conf": "new", "mode.conf": "same", "extra.conf": "x", "key.pem": "new key"}
)

func crashChange(dir string, c *counter) *Change {
	at := func(name string) string { return filepath.Join(dir, "conf", name) }
	return &Change{
		Journal: filepath.Join(dir, "state", "journal"),
		Files: []File{
			{Path: at("site.conf"), Content: []byte("new"), Was: Hash([]byte("old"))},
			{Path: at("mode.conf"), Content: []byte("same"), Mode: 0o600},
			{Path: at("extra.conf"), Content: []byte("x"), Was: Absent},
			{Path: at("gone.conf"), Remove: true},
			{Path: at("key.pem"), Content: []byte("new key"), Secret: true},
		},
		Test: c.step, Reload: c.step, Probe: c.step, guard: c.guard,
	}
}

func crashingProcess() error {
	turn, err := strconv.Atoi(os.Getenv(crashStep))
	if err != nil {
		return err
	}
	c := &counter{turn: turn, act: func() error {
		return errors.Join(syscall.Kill(os.Getpid(), syscall.SIGKILL), errors.New("not reached"))
	}}
	dir := os.Getenv(crashDir)
	ctx := context.Background()
	switch os.Getenv(crashAction) {
	case "apply":
		_, err = crashChange(dir, c).Apply(ctx)
		return err
	case "undo":
		return undo(ctx, filepath.Join(dir, "state", "journal"), c.step, c.step, medium{guard: c.guard})
	case "recover":
		return settleAll(ctx, filepath.Join(dir, "state", "journal"), c.step, medium{guard: c.guard})
	}
	return errors.New("unknown action")
}

// crash runs an action in a process of its own that kills itself before step turn, and reports whether it came that far.
func crash(t *testing.T, action, dir string, turn int) (killed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), crashAction+"="+action, crashDir+"="+dir, crashStep+"="+strconv.Itoa(turn))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
		t.Fatalf("%s, killed before step %d: %v\n%s", action, turn, err, out)
	}
	return true
}

// crashSite is in memory where that is possible, because these tests wait for the disk a thousand times otherwise.
func crashSite(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "acmed-crash-")
	if err != nil {
		dir = t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "conf"), 0o755), os.Mkdir(filepath.Join(dir, "state"), 0o750)); err != nil {
		t.Fatal(err)
	}
	for name, content := range oldFiles {
		mode := fs.FileMode(0o644)
		if name == "key.pem" {
			mode = 0o640
		}
		if err := os.WriteFile(filepath.Join(dir, "conf", name), []byte(content), mode); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// files reads the configuration; with a temporary in it, it is equal to nothing.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "conf"))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]string{}
	for _, e := range entries {
		content, err := os.ReadFile(filepath.Join(dir, "conf", e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		found[e.Name()] = string(content)
	}
	return found
}

func same(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for name, content := range a {
		if other, ok := b[name]; !ok || other != content {
			return false
		}
	}
	return true
}

func applyNew(t *testing.T, dir string) {
	t.Helper()
	if changed, err := crashChange(dir, &counter{}).Apply(t.Context()); err != nil || !changed {
		t.Fatalf("Apply = %v, %v", changed, err)
	}
}

// TestKilledAnywhereInApply kills a process before every single step of a change, and expects one of the two states
// after Recover, a change that works afterwards, and an undo that gives back the original.
func TestKilledAnywhereInApply(t *testing.T) {
	t.Parallel()
	step := 1
	for ; ; step++ {
		dir := crashSite(t)
		if !crash(t, "apply", dir, step) {
			break
		}
		journal := filepath.Join(dir, "state", "journal")
		reloaded := 0
		for range 2 {
			err := Recover(t.Context(), journal, func(context.Context) error { reloaded++; return nil })
			if err != nil {
				t.Fatalf("killed before step %d: Recover: %v", step, err)
			}
		}
		now := files(t, dir)
		if !same(now, oldFiles) && !same(now, newFiles) {
			t.Fatalf("killed before step %d: half a change: %v", step, now)
		}
		if reloaded > 1 {
			t.Errorf("killed before step %d: %d reloads", step, reloaded)
		}
		if same(now, oldFiles) {
			applyNew(t, dir)
		}
		if err := Undo(t.Context(), journal, nil, nil); err != nil {
			t.Fatalf("killed before step %d: Undo: %v", step, err)
		}
		if now := files(t, dir); !same(now, oldFiles) {
			t.Fatalf("killed before step %d: after Undo: %v", step, now)
		}
		leftovers(t, journal)
	}
	if step < 40 {
		t.Errorf("only %d steps", step)
	}
	t.Logf("killed before each of %d steps", step-1)
}

// leftovers checks that no backup and no temporary stays in an empty journal.
func leftovers(t *testing.T, journal string) {
	t.Helper()
	entries, err := os.ReadDir(journal)
	if err != nil || len(entries) > 0 {
		t.Errorf("left in the journal: %v, %v", entries, err)
	}
}

// TestKilledAnywhereInUndo expects the original after the next Recover or Undo.
func TestKilledAnywhereInUndo(t *testing.T) {
	t.Parallel()
	for step := 1; ; step++ {
		dir := crashSite(t)
		applyNew(t, dir)
		if !crash(t, "undo", dir, step) {
			return
		}
		journal := filepath.Join(dir, "state", "journal")
		if err := Recover(t.Context(), journal, nil); err != nil {
			t.Fatalf("killed before step %d: Recover: %v", step, err)
		}
		if now := files(t, dir); !same(now, oldFiles) && !same(now, newFiles) {
			t.Fatalf("killed before step %d: half an undo: %v", step, now)
		}
		if err := Undo(t.Context(), journal, nil, nil); err != nil {
			t.Fatal(err)
		}
		if now := files(t, dir); !same(now, oldFiles) {
			t.Fatalf("killed before step %d: after Undo: %v", step, now)
		}
		leftovers(t, journal)
	}
}

// TestKilledAnywhereInRecover interrupts the recovery of a change that was killed just before its commit.
func TestKilledAnywhereInRecover(t *testing.T) {
	t.Parallel()
	stop := errors.New("dies before the probe")
	for step := 1; ; step++ {
		dir := crashSite(t)
		journal := filepath.Join(dir, "state", "journal")
		abandon(t, dir, stop)
		if !crash(t, "recover", dir, step) {
			return
		}
		if err := Recover(t.Context(), journal, nil); err != nil {
			t.Fatalf("killed before step %d: Recover: %v", step, err)
		}
		if now := files(t, dir); !same(now, oldFiles) {
			t.Fatalf("killed before step %d: %v", step, now)
		}
		leftovers(t, journal)
	}
}

// abandon leaves a change as a process does that dies before the probe.
func abandon(t *testing.T, dir string, stop error) {
	t.Helper()
	c := crashChange(dir, &counter{})
	c.Probe = func(context.Context) error { return stop }
	j, err := openJournal(t.Context(), c.Journal, medium{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	edits, err := c.plan()
	if err != nil {
		t.Fatal(err)
	}
	if err := j.begin(edits); err != nil {
		t.Fatal(err)
	}
	if _, err := c.perform(t.Context(), j, edits); !errors.Is(err, stop) {
		t.Fatal(err)
	}
	if now := files(t, dir); !same(now, newFiles) {
		t.Fatal(now)
	}
}

// TestEveryCallFails lets every single step fail once, with the error that a full disk gives.
func TestEveryCallFails(t *testing.T) {
	t.Parallel()
	for step := 1; ; step++ {
		dir := crashSite(t)
		c := &counter{turn: step, act: func() error { return syscall.ENOSPC }}
		_, err := crashChange(dir, c).Apply(t.Context())
		if c.count < step {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		now := files(t, dir)
		switch {
		case err == nil && !same(now, newFiles):
			t.Fatalf("step %d failed: Apply = nil with %v", step, now)
		case err != nil && !same(now, oldFiles):
			t.Fatalf("step %d failed: Apply = %v with %v", step, err, now)
		}
		if err == nil {
			continue
		}
		applyNew(t, dir)
		if err := Undo(t.Context(), filepath.Join(dir, "state", "journal"), nil, nil); err != nil {
			t.Fatalf("step %d failed: Undo: %v", step, err)
		}
		if now := files(t, dir); !same(now, oldFiles) {
			t.Fatalf("step %d failed: after Undo: %v", step, now)
		}
	}
}

// TestEveryCallFailsFromHereOn lets everything fail from one step on, the putting back too: the next process settles it.
// Only a commit whose last fsync failed can leave the new state after an error.
func TestEveryCallFailsFromHereOn(t *testing.T) {
	t.Parallel()
	for step := 1; ; step++ {
		dir := crashSite(t)
		calls := 0
		broken := func(string, string) error {
			if calls++; calls >= step {
				return syscall.EIO
			}
			return nil
		}
		c := crashChange(dir, &counter{})
		c.guard = broken
		_, err := c.Apply(t.Context())
		if calls < step {
			return
		}
		journal := filepath.Join(dir, "state", "journal")
		if recovered := Recover(t.Context(), journal, nil); recovered != nil {
			t.Fatalf("everything failed from step %d on: Recover: %v", step, recovered)
		}
		if now := files(t, dir); !same(now, newFiles) && (err == nil || !same(now, oldFiles)) {
			t.Fatalf("everything failed from step %d on: Apply = %v with %v", step, err, now)
		}
	}
}

// TestDamagedJournal changes or cuts the record at every byte: it is refused, and nothing is touched.
func TestDamagedJournal(t *testing.T) {
	t.Parallel()
	dir := crashSite(t)
	abandon(t, dir, errors.New("dies"))
	journal := filepath.Join(dir, "state", "journal")
	record := filepath.Join(journal, journalFile)
	good, err := os.ReadFile(record)
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, content []byte) {
		t.Helper()
		if err := os.WriteFile(record, content, 0o600); err != nil {
			t.Fatal(err)
		}
		damaged := (*installers.DamagedJournalError)(nil)
		for _, err := range []error{
			Recover(t.Context(), journal, nil), Undo(t.Context(), journal, nil, nil), Forget(t.Context(), journal),
		} {
			if !errors.As(err, &damaged) || damaged.Path != record {
				t.Fatalf("%s: %v", what, err)
			}
		}
		if _, err := crashChange(dir, &counter{}).Apply(t.Context()); !errors.As(err, &damaged) {
			t.Fatalf("%s: Apply = %v", what, err)
		}
	}
	for n := 0; n < len(good); n += 7 {
		check(fmt.Sprintf("cut at %d", n), good[:n])
		flipped := bytes.Clone(good)
		flipped[n] ^= 1
		check(fmt.Sprintf("bit flipped at %d", n), flipped)
	}
	if now := files(t, dir); !same(now, newFiles) {
		t.Errorf("a damaged journal was acted on: %v", now)
	}
	if err := os.WriteFile(record, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Recover(t.Context(), journal, nil); err != nil {
		t.Fatal(err)
	}
	if now := files(t, dir); !same(now, oldFiles) {
		t.Errorf("after the repair: %v", now)
	}
}

// TestDamagedBackup checks that nothing is put back when one of the backups is not what it was.
func TestDamagedBackup(t *testing.T) {
	for name, damage := range map[string]func(string) error{
		"changed": func(path string) error { return os.WriteFile(path, []byte("something else"), 0o600) },
		"missing": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			dir := crashSite(t)
			abandon(t, dir, errors.New("dies"))
			journal := filepath.Join(dir, "state", "journal")
			if err := damage(filepath.Join(journal, backupPrefix+Hash([]byte("old key")))); err != nil {
				t.Fatal(err)
			}
			err := Recover(t.Context(), journal, nil)
			if damaged := (*installers.DamagedJournalError)(nil); !errors.As(err, &damaged) || strings.Contains(err.Error(), "old key") {
				t.Errorf("Recover = %v", err)
			}
			if now := files(t, dir); !same(now, newFiles) {
				t.Errorf("half of it was put back: %v", now)
			}
		})
	}
}

func TestRecoverSweepsTemporaries(t *testing.T) {
	dir := crashSite(t)
	abandon(t, dir, errors.New("dies"))
	torn := filepath.Join(dir, "conf", ".acmed-abc.tmp")
	if !atomicfile.IsTemp(filepath.Base(torn)) {
		t.Fatal("not the name of a temporary")
	}
	if err := os.WriteFile(torn, []byte("half a key"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Recover(t.Context(), filepath.Join(dir, "state", "journal"), nil); err != nil {
		t.Fatal(err)
	}
	if now := files(t, dir); !same(now, oldFiles) {
		t.Error(now)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	good, err := encodeRecord(record{Undo: []entry{{Path: "/x", Before: state{Hash: Absent}}}, Pending: &pending{Undo: true}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(journalMagic))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := decodeRecord(data)
		if err != nil {
			return
		}
		if again, err := encodeRecord(r); err != nil {
			t.Error(err)
		} else if _, err := decodeRecord(again); err != nil {
			t.Error(err)
		}
	})
}
