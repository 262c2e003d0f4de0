package store

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/google/go-cmp/cmp"
)

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name string
		make func(t *testing.T, dir string)
		want string
	}{
		{"missing", func(t *testing.T, dir string) { must(t, os.Remove(dir)) }, "does not exist; make it with: install -d -m 0750"},
		{"a file", func(t *testing.T, dir string) { must(t, os.Remove(dir)); write(t, dir, "") }, "is not a directory"},
		{"world-writable", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o777)) }, "repair it with: chmod 0750 "},
		{"group-writable", func(t *testing.T, dir string) { must(t, os.Chmod(dir, 0o770)) }, "mode 0770"},
		{"other owner", func(t *testing.T, dir string) {
			if os.Geteuid() != 0 {
				t.Skip("needs root to give a directory away")
			}
			must(t, os.Chown(dir, 4711, 4711))
		}, "belongs to user 4711, but acmed runs as user root; run it as user 4711, or with sudo"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := stateDir(t)
			tt.make(t, dir)
			before, _ := os.Stat(dir)
			_, err := Open(dir)
			if err == nil {
				t.Fatal("no error")
			}
			contains(t, []string{err.Error()}, tt.want)
			after, _ := os.Stat(dir)
			if before != nil && (after.Mode() != before.Mode() || !os.SameFile(before, after)) {
				t.Error("the directory was changed")
			}
		})
	}
}

func TestOpenLocks(t *testing.T) {
	dir := stateDir(t)
	s := openTest(t, dir, nil)
	_, err := Open(dir)
	var locked *LockedError
	if !errors.As(err, &locked) || locked.PID != os.Getpid() || locked.Dir != dir {
		t.Fatalf("second Open: %v, want a LockedError with this process", err)
	}
	must(t, s.Close())
	again, err := Open(dir)
	must(t, err)
	must(t, again.Close())
}

func TestOpenDoesNotFollowALinkForTheLock(t *testing.T) {
	dir, victim := stateDir(t), filepath.Join(t.TempDir(), "victim")
	write(t, victim, "kept")
	must(t, os.Symlink(victim, filepath.Join(dir, "lock")))
	if _, err := Open(dir); err == nil {
		t.Error("no error")
	}
	if text, _ := os.ReadFile(victim); string(text) != "kept" {
		t.Errorf("the file behind the link became %q", text)
	}
}

// TestOpenBelowAnotherUser: a directory of root below one of another user is not used, because that user can put another
// directory of root into its place. Here the user does, and nothing is written there.
func TestOpenBelowAnotherUser(t *testing.T) {
	theirs := acmetest.TheirDir(t)
	dir, victim := filepath.Join(theirs, "acmed"), filepath.Join(filepath.Dir(theirs), "victim")
	must(t, os.Mkdir(dir, 0o750))
	must(t, os.Mkdir(victim, 0o755))
	for _, prepare := range []string{"true", "mv acmed away; ln -s ../victim acmed"} {
		acmetest.AsNobody(t, theirs, prepare)
		if s, err := Open(dir); err == nil {
			t.Errorf("%s: opened %s", prepare, s.Dir())
		} else if !strings.Contains(err.Error(), "the directory "+theirs+" belongs to user 65534") {
			t.Errorf("%s: %v", prepare, err)
		}
	}
	for _, untouched := range []string{filepath.Join(theirs, "away"), victim} {
		if entries, err := os.ReadDir(untouched); err != nil || len(entries) > 0 {
			t.Errorf("%s: %v, %v", untouched, entries, err)
		}
	}
}

func TestOpenSweeps(t *testing.T) {
	dir := stateDir(t)
	must(t, openTest(t, dir, nil).Close())
	orphan := filepath.Join(dir, "certs", ".acmed-abc.tmp")
	must(t, os.MkdirAll(filepath.Join(orphan, "versions"), 0o700))
	openTest(t, dir, nil)
	if _, err := os.Stat(orphan); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the orphan is still there: %v", err)
	}
}

func TestOpenReadOnly(t *testing.T) {
	s := openTest(t, stateDir(t), func(op, _ string) error {
		switch op {
		case "read", "readlink", "readdir":
			return nil
		}
		return syscall.EROFS
	})
	if err := s.CheckWritable(); !errors.Is(err, syscall.EROFS) {
		t.Errorf("CheckWritable: %v, want EROFS", err)
	}
	if _, err := s.AddVersion(www, newCA(t).bundle(t), noon()); !errors.Is(err, syscall.EROFS) {
		t.Errorf("AddVersion: %v, want EROFS", err)
	}
}

func TestCheckWritable(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	must(t, s.CheckWritable())
	entries, err := os.ReadDir(s.Dir())
	must(t, err)
	if len(entries) != 3 {
		t.Errorf("left behind: %v", entries)
	}
}

func TestNames(t *testing.T) {
	s, _ := live(t, newCA(t).bundle(t))
	for _, dir := range []string{"api", "UPPER", ".acmed-1.tmp", "versions"} {
		must(t, os.Mkdir(filepath.Join(s.Dir(), "certs", dir), 0o750))
	}
	write(t, filepath.Join(s.Dir(), "certs", "file"), "")
	must(t, os.Symlink(www, filepath.Join(s.Dir(), "certs", "link")))
	names, err := s.Names()
	must(t, err)
	if diff := cmp.Diff([]string{"api", www}, names); diff != "" {
		t.Error(diff)
	}
}

func TestRemove(t *testing.T) {
	s, _ := live(t, newCA(t).bundle(t))
	for range 2 {
		must(t, s.Remove(www))
	}
	if l := load(t, s); l.Current != nil || len(l.Versions) != 0 || l.Damage != nil {
		t.Errorf("after Remove: %+v", l)
	}
	if left := temporaries(t, s.Dir()); left != nil {
		t.Errorf("left behind: %q", left)
	}
	add(t, s, newCA(t).bundle(t), noon(), true)
}

func TestBadNamesNeverReachTheDisk(t *testing.T) {
	opened := false
	s := openTest(t, stateDir(t), func(op, name string) error {
		if opened {
			t.Errorf("%s %s", op, name)
		}
		return nil
	})
	opened = true
	b := newCA(t).bundle(t)
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc", "A", "a..b", "current", "a\x00b"} {
		_, err1 := s.Load(name)
		_, err2 := s.Bundle(name, "x")
		_, err3 := s.AddVersion(name, b, noon())
		_, err4 := s.Order(name, SlotEC)
		for _, err := range []error{
			err1, err2, err3, err4, s.Activate(name, "x"), s.SaveState(name, &State{}), s.Prune(name, 1), s.Remove(name),
			s.SaveOrder(name, SlotEC, &Order{URL: "x"}), s.DropOrder(name, SlotEC),
		} {
			if err == nil {
				t.Errorf("name %q: no error", name)
			}
		}
	}
}

// TestModes checks that the umask has no influence and that nobody else can read a key.
func TestModes(t *testing.T) {
	old := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(old) })
	for _, umask := range []int{0, 0o77} {
		syscall.Umask(umask)
		s, id := live(t, newCA(t).dual(t))
		must(t, s.SaveState(www, &State{}))
		must(t, s.SaveOrder(www, SlotEC, &Order{URL: "https://ca.example/order/1"}))
		must(t, s.SaveAccount("https://ca.example/dir", "", &Account{Key: ecKey(t), NextKey: ecKey(t)}))
		want := map[string]fs.FileMode{
			"versions": 0o750, "versions/" + id: 0o750, "versions/" + id + "/alternates": 0o750,
			"versions/" + id + "/cert.pem": 0o640, "versions/" + id + "/chain-rsa.pem": 0o640,
			"versions/" + id + "/privkey.pem": 0o600, "versions/" + id + "/privkey-rsa.pem": 0o600,
			"versions/" + id + "/meta.json": 0o640, "state.json": 0o640, "order-ec.json": 0o600, ".": 0o750,
		}
		for name, mode := range want {
			info, err := os.Stat(in(s, name))
			must(t, err)
			if info.Mode().Perm() != mode {
				t.Errorf("umask %#o: %s has mode %v, want %v", umask, name, info.Mode().Perm(), mode)
			}
		}
		must(t, filepath.WalkDir(filepath.Join(s.Dir(), "accounts"), func(name string, e fs.DirEntry, err error) error {
			if info, _ := e.Info(); info.Mode().Perm()&0o077 != 0 {
				t.Errorf("umask %#o: others may use %s: %v", umask, name, info.Mode())
			}
			return err
		}))
	}
}
