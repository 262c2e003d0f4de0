package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// dereference turns `current` into what a copy that does not keep symbolic links makes of it.
func dereference(t *testing.T, s *Store) {
	t.Helper()
	target := in(s, "current")
	resolved, err := filepath.EvalSymlinks(target)
	must(t, err)
	must(t, os.Remove(target))
	must(t, os.CopyFS(target, os.DirFS(resolved)))
}

// TestCurrentIsNoLink: what has the place of `current` is set aside and said once, and the version that it was is active.
func TestCurrentIsNoLink(t *testing.T) {
	c := newCA(t)
	tests := []struct {
		name   string
		damage func(t *testing.T, s *Store, version string)
		linked bool
		note   string
	}{
		{"a copy of the version", func(t *testing.T, s *Store, _ string) { dereference(t, s) }, true, "current was a directory"},
		{"a copy without meta.json", func(t *testing.T, s *Store, _ string) {
			dereference(t, s)
			must(t, os.Remove(in(s, "current", "meta.json")))
			must(t, os.RemoveAll(in(s, "current", "alternates")))
		}, false, "no stored version has its content"},
		{"the text of the link", func(t *testing.T, s *Store, version string) {
			must(t, os.Remove(in(s, "current")))
			write(t, in(s, "current"), "versions/"+version+"\n")
		}, true, "current was a regular file"},
		{"another text", func(t *testing.T, s *Store, _ string) {
			must(t, os.Remove(in(s, "current")))
			write(t, in(s, "current"), "versions/../../x")
		}, false, "no stored version has its content"},
		{"an empty directory", func(t *testing.T, s *Store, _ string) {
			must(t, os.Remove(in(s, "current")))
			must(t, os.Mkdir(in(s, "current"), 0o700))
		}, false, "no stored version has its content"},
		{"a directory with another key", func(t *testing.T, s *Store, _ string) {
			dereference(t, s)
			write(t, in(s, "current", "privkey.pem"), string(c.bundle(t).KeyPEM))
		}, false, "no stored version has its content"},
		{"a pipe", func(t *testing.T, s *Store, _ string) {
			must(t, os.Remove(in(s, "current")))
			must(t, syscall.Mkfifo(in(s, "current"), 0o600))
		}, false, "current was a special file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := c.dual(t)
			s, id := live(t, b)
			newer := add(t, s, c.bundle(t), noon().Add(time.Hour), false)
			tt.damage(t, s, id)
			l := load(t, s)
			contains(t, l.Notes, tt.note)
			contains(t, l.Notes, "current.damaged-")
			if again := load(t, s); len(l.Notes) != 1 || !slices.Equal(again.Notes, l.Notes) || again.Version != l.Version {
				t.Errorf("first %q, then %q", l.Notes, again.Notes)
			}
			if l.Damage != nil || len(l.Versions) != 2 || l.Versions[0].ID != newer {
				t.Errorf("damage %v, versions %v", l.Damage, l.Versions)
			}
			if tt.linked && (l.Version != id || l.Current == nil || l.Current.Fingerprint() != b.Fingerprint()) || !tt.linked && l.Version != "" {
				t.Errorf("active is %q", l.Version)
			}
			must(t, s.Activate(www, newer))
		})
	}
}

// TestUnusableVersionsAreNotListed: what would be activated next must pass what a new version passes.
func TestUnusableVersionsAreNotListed(t *testing.T) {
	c := newCA(t)
	other := string(c.bundle(t).KeyPEM)
	s, old := live(t, c.bundle(t))
	newer := add(t, s, c.bundle(t), noon().Add(time.Hour), false)
	newest := add(t, s, c.bundle(t), noon().Add(2*time.Hour), false)
	write(t, in(s, "versions", newest, "privkey.pem"), other)
	list := func() (ids []string) {
		for _, v := range load(t, s).Versions {
			ids = append(ids, v.ID)
		}
		return ids
	}
	if got := list(); !slices.Equal(got, []string{newer, old}) {
		t.Errorf("later than the active one: %q", got)
	}
	contains(t, load(t, s).Notes, "version "+newest+": the private key does not belong to the certificate")
	must(t, os.Remove(in(s, "current")))
	must(t, os.Remove(in(s, "versions", old, "privkey.pem")))
	if got := list(); !slices.Equal(got, []string{newer}) {
		t.Errorf("nothing active: %q", got)
	}
	write(t, in(s, "versions", newer, "privkey.pem"), other) // after it was vetted
	if err := s.Activate(www, newer); err == nil || list() != nil {
		t.Errorf("activated: %v, left: %q", err, list())
	}
}

// TestWrongTypesInALineage: whatever has the place of an entry is moved away, and a renewal goes through.
func TestWrongTypesInALineage(t *testing.T) {
	c := newCA(t)
	outside := t.TempDir()
	kinds := map[string]func(name string) error{
		"directory": func(name string) error { return os.MkdirAll(filepath.Join(name, "x"), 0o700) },
		"file":      func(name string) error { return os.WriteFile(name, []byte("x"), 0o600) },
		"link out":  func(name string) error { return os.Symlink(outside, name) },
		"loop":      func(name string) error { return os.Symlink(filepath.Base(name), name) },
		"pipe":      func(name string) error { return syscall.Mkfifo(name, 0o600) },
	}
	for kind, put := range kinds {
		for _, name := range []string{"versions", "versions/ID", "state.json", "order-ec.json", "current", "."} {
			if name == "." && (kind == "directory" || kind == "link out" || kind == "loop") || kind == "directory" && strings.HasPrefix(name, "versions") {
				continue
			}
			t.Run(kind+" for "+name, func(t *testing.T) {
				s, id := live(t, c.bundle(t))
				must(t, s.SaveState(www, &State{}))
				at := in(s, strings.Replace(name, "ID", id, 1))
				must(t, os.RemoveAll(at))
				must(t, put(at))
				if name != "current" {
					must(t, s.SaveOrder(www, SlotEC, &Order{URL: "u"}))
				}
				if _, err := s.Order(www, SlotEC); err != nil {
					t.Error(err)
				}
				load(t, s)
				next := c.bundle(t)
				must(t, renew(s, next, noon().Add(time.Hour)))
				if l := load(t, s); l.Damage != nil || l.Current == nil || l.Current.Fingerprint() != next.Fingerprint() {
					t.Errorf("not renewed: %+v", l)
				}
			})
		}
	}
}

// TestLinkForALineage: a link is somebody's intent, so it is named and left.
func TestLinkForALineage(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	must(t, os.Symlink(t.TempDir(), in(s)))
	_, err := s.Load(www)
	if err == nil || !strings.Contains(err.Error(), "certs/www is a symbolic link; put the directory itself in its place") {
		t.Error(err)
	}
}

// TestWrongTypesInAnAccount: the account is found by what is left of it, what was in the way is reported, and it is saved.
func TestWrongTypesInAnAccount(t *testing.T) {
	key := ecKey(t)
	for _, name := range []string{"account.json", "usage.json", "key.pem", "next-key.pem"} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, stateDir(t), nil)
			must(t, s.SaveAccount(caURL, ops, &Account{URI: "u", Key: key}))
			at := filepath.Join(folderOf(t, s), name)
			must(t, os.RemoveAll(at))
			must(t, os.MkdirAll(filepath.Join(at, "x"), 0o700))
			must(t, s.SaveUsage(caURL, ops, Usage{Down: true, RetryAt: noon()}))
			a := account(t, s, caURL, ops)
			if a == nil || !certs.SameKey(a.Key.Public(), key.Public()) {
				t.Fatalf("the account is %+v", a)
			}
			contains(t, a.Notes, name+".damaged-")
			must(t, s.SaveAccount(caURL, ops, &Account{URI: "u", Key: key, NextKey: ecKey(t)}))
			if a := account(t, s, caURL, ops); a.URI != "u" || a.NextKey == nil {
				t.Errorf("saved as %+v", a)
			}
		})
	}
	for depth, name := range []string{"the folder of a CA", "the folder of an account"} {
		t.Run(name, func(t *testing.T) {
			s := openTest(t, stateDir(t), nil)
			must(t, s.SaveAccount(caURL, ops, &Account{URI: "u", Key: key}))
			at := folderOf(t, s)
			if depth == 0 {
				at = filepath.Dir(at)
			}
			must(t, os.RemoveAll(at))
			write(t, at, "x")
			if a := account(t, s, caURL, ops); a != nil {
				t.Errorf("out of a file: %+v", a)
			}
			must(t, s.SaveAccount(caURL, ops, &Account{URI: "v", Key: key}))
			if a := account(t, s, caURL, ops); a.URI != "v" {
				t.Errorf("saved as %+v", a)
			}
		})
	}
}

func TestWrongTypesAtTheTop(t *testing.T) {
	for _, name := range []string{"certs", "accounts"} {
		dir := stateDir(t)
		write(t, filepath.Join(dir, name), "")
		if _, err := Open(dir); err == nil || !strings.Contains(err.Error(), name+" is a regular file, not a directory; move it away") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSetAsideLosesNothing: two that were last written in the same second stay both.
func TestSetAsideLosesNothing(t *testing.T) {
	s, _ := live(t, newCA(t).bundle(t))
	stamp := time.Date(2026, 11, 20, 23, 56, 0, 0, time.UTC)
	for _, text := range []string{"one", "two"} {
		write(t, in(s, "state.json"), text)
		must(t, os.Chtimes(in(s, "state.json"), stamp, stamp))
		load(t, s)
	}
	for name, want := range map[string]string{"state.json.damaged-20261120T235600Z": "one", "state.json.damaged-20261120T235600Z-2": "two"} {
		if got, err := os.ReadFile(in(s, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q, %v", name, got, err)
		}
	}
}
