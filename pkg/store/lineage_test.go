package store

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
)

func TestLoadUnknown(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	want := &Lineage{Name: www, State: State{Version: 1}}
	if diff := cmp.Diff(want, load(t, s)); diff != "" {
		t.Error(diff)
	}
	must(t, s.Prune(www, 5))
	must(t, s.DropOrder(www, SlotEC))
	if names, _ := s.Names(); names != nil {
		t.Errorf("reading made %q", names)
	}
}

func TestRoundTrip(t *testing.T) {
	c := newCA(t)
	private, external := c.bundle(t), c.bundle(t)
	private.ChainPEM, private.Alternates = nil, nil
	external.KeyPEM = nil
	for name, b := range map[string]*certs.Bundle{
		"single": c.bundle(t), "dual": c.dual(t), "no chain": private, "operator's key": external,
	} {
		t.Run(name, func(t *testing.T) {
			s, id := live(t, b)
			if want := "20261120T120000Z-" + certs.Fingerprint(b.Leaf)[:8]; id != want {
				t.Errorf("version %s, want %s", id, want)
			}
			stored, err := s.Bundle(www, id)
			must(t, err)
			want := Version{
				ID: id, Created: noon(), NotBefore: b.Leaf.NotBefore, NotAfter: b.Leaf.NotAfter,
				Fingerprint: b.Fingerprint(), Issuer: "test", Names: "example.com",
			}
			for range 2 { // the second time from what is remembered
				l := load(t, s)
				if diff := cmp.Diff([]Version{want}, l.Versions); diff != "" {
					t.Error(diff)
				}
				for _, got := range []*certs.Bundle{stored, l.Current} {
					if diff := cmp.Diff(b, got, cmp.Comparer(func(x, y certs.Secret) bool { return string(x) == string(y) })); diff != "" {
						t.Error(diff)
					}
				}
				if l.Version != id || l.Damage != nil || l.Notes != nil {
					t.Errorf("version %q, damage %v, notes %q", l.Version, l.Damage, l.Notes)
				}
			}
			noEmptyFile(t, s.Dir())
		})
	}
}

func noEmptyFile(t *testing.T, dir string) {
	t.Helper()
	must(t, filepath.Walk(dir, func(name string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() && info.Size() == 0 {
			t.Errorf("%s is empty", name)
		}
		return err
	}))
}

func TestAddVersionRefuses(t *testing.T) {
	c := newCA(t)
	s, id := live(t, c.bundle(t))
	broken := func(change func(b *certs.Bundle)) *certs.Bundle {
		b := c.dual(t)
		change(b)
		return b
	}
	for name, b := range map[string]*certs.Bundle{
		"nil":              nil,
		"empty":            {},
		"foreign key":      broken(func(b *certs.Bundle) { b.KeyPEM = b.RSA.KeyPEM }),
		"twin foreign key": broken(func(b *certs.Bundle) { b.RSA.KeyPEM = b.KeyPEM }),
		"other leaf":       broken(func(b *certs.Bundle) { b.Leaf = b.RSA.Leaf }),
		"bad chain":        broken(func(b *certs.Bundle) { b.ChainPEM = []byte("junk") }),
		"empty alternate":  broken(func(b *certs.Bundle) { b.Alternates = [][]byte{nil} }),
		"no certificate":   broken(func(b *certs.Bundle) { b.CertPEM = nil }),
		"bad alternate":    broken(func(b *certs.Bundle) { b.Alternates = [][]byte{[]byte("junk")} }),
	} {
		if got, err := s.AddVersion(www, b, noon().Add(time.Hour)); err == nil {
			t.Errorf("%s: stored as %s", name, got)
		}
	}
	if _, err := s.AddVersion(www, c.bundle(t), time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)); err == nil {
		t.Error("stored in the year 12026")
	}
	if l := load(t, s); l.Version != id || len(l.Versions) != 1 {
		t.Errorf("the lineage changed: %+v", l)
	}
}

func TestAddVersionTwiceInASecond(t *testing.T) {
	b := newCA(t).bundle(t)
	s, first := live(t, b)
	second := add(t, s, b.WithChain(1), noon(), false)
	if first == second || !strings.HasPrefix(second, "20261120T120001Z-") {
		t.Errorf("versions %s and %s", first, second)
	}
	if l := load(t, s); l.Version != first || l.Versions[0].ID != second {
		t.Errorf("active %s, newest %s", l.Version, l.Versions[0].ID)
	}
}

func TestActivate(t *testing.T) {
	c := newCA(t)
	s, first := live(t, c.bundle(t))
	b := c.bundle(t)
	second := add(t, s, b, noon().Add(time.Hour), true)
	must(t, s.Activate(www, second))
	if l := load(t, s); l.Version != second || l.Current.Fingerprint() != b.Fingerprint() {
		t.Errorf("active is %s, want %s", l.Version, second)
	}
	if text, err := os.ReadFile(PathsIn(s.Dir(), www).FullChain); err != nil || string(text) != string(b.FullChainPEM()) {
		t.Errorf("through current: %q, %v", text, err)
	}
	write(t, in(s, "versions", first, "privkey.pem"), "junk")
	for _, version := range []string{first, "", "..", "../../x", "20261120T120000Z-00000000", "20261120T120000Z-0000000g"} {
		if err := s.Activate(www, version); err == nil {
			t.Errorf("activated %q", version)
		}
		if b, err := s.Bundle(www, version); err == nil || b != nil {
			t.Errorf("read %q", version)
		}
	}
	if err := s.Activate("unknown", first); err == nil {
		t.Error("activated a version of a certificate that does not exist")
	}
	if l := load(t, s); l.Version != second || l.Damage != nil {
		t.Errorf("active is %s, %v", l.Version, l.Damage)
	}
}

func TestDamage(t *testing.T) {
	c := newCA(t)
	other := c.bundle(t)
	tests := []struct {
		name   string
		damage func(t *testing.T, s *Store, version string)
		want   string
	}{
		{"no certificate", remove("current/cert.pem"), "cert.pem: file does not exist"},
		{"no chain", remove("current/chain.pem"), "fullchain.pem is not cert.pem followed by chain.pem"},
		{"no full chain", remove("current/fullchain.pem"), "fullchain.pem: file does not exist"},
		{"no key", remove("current/privkey.pem"), "privkey.pem: file does not exist"},
		{"no twin", remove("current/cert-rsa.pem"), "cert-rsa.pem: file does not exist"},
		{"no alternate", remove("current/alternates/1.pem"), "1.pem: file does not exist"},
		{"another key", put("current/privkey.pem", string(other.KeyPEM)), "the private key does not belong to the certificate"},
		{"twin's other key", put("current/privkey-rsa.pem", string(other.KeyPEM)), "does not belong"},
		{"empty key", put("current/privkey.pem", ""), "privkey.pem is empty"},
		{"garbage key", put("current/privkey.pem", "garbage"), "the private key is not PEM"},
		{"truncated chain", put("current/fullchain.pem", "-----BEGIN CERT"), "fullchain.pem is not"},
		{"garbage certificate", put("current/cert.pem", "garbage"), "fullchain.pem is not"},
		{"huge file", put("current/cert.pem", strings.Repeat("x", maxPEM+1)), "the file is too large"},
		{"dangling link", func(t *testing.T, s *Store, version string) {
			must(t, os.RemoveAll(in(s, "versions", version)))
		}, "is missing"},
		{"link elsewhere", link("/etc/ssl"), `current leads to "/etc/ssl", which is no version`},
		{"link to the top", link("versions/"), "which is no version"},
		{"link out", link("versions/../../x"), "which is no version"},
		{"link to an outer file", func(t *testing.T, s *Store, version string) {
			must(t, os.Remove(in(s, "versions", version, "cert.pem")))
			must(t, os.Symlink("/etc/hostname", in(s, "versions", version, "cert.pem")))
		}, "not a regular file"},
		{"file for a directory", func(t *testing.T, s *Store, version string) {
			must(t, os.RemoveAll(in(s, "versions", version, "alternates")))
			write(t, in(s, "versions", version, "alternates"), "")
		}, "not a regular file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, id := live(t, c.dual(t))
			load(t, s) // what is remembered must not hide the damage
			tt.damage(t, s, id)
			for range 2 {
				l := load(t, s)
				if l.Damage == nil || l.Current != nil {
					t.Fatalf("damage %v, current %v", l.Damage, l.Current)
				}
				contains(t, []string{l.Damage.Error()}, tt.want)
			}
			must(t, s.Prune(www, 1))
			if l := load(t, s); add(t, s, c.bundle(t), noon().Add(time.Hour), true) == "" || load(t, s).Damage != nil {
				t.Errorf("not repaired by a new version: %v", l.Damage)
			}
		})
	}
}

func remove(name string) func(*testing.T, *Store, string) {
	return func(t *testing.T, s *Store, _ string) { must(t, os.Remove(in(s, name))) }
}

func put(name, text string) func(*testing.T, *Store, string) {
	return func(t *testing.T, s *Store, _ string) { write(t, in(s, name), text) }
}

func link(target string) func(*testing.T, *Store, string) {
	return func(t *testing.T, s *Store, _ string) {
		must(t, os.Remove(in(s, "current")))
		must(t, os.Symlink(target, in(s, "current")))
	}
}

func TestNothingActive(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	id := add(t, s, newCA(t).bundle(t), noon(), false)
	l := load(t, s)
	if l.Version != "" || l.Current != nil || l.Damage != nil || len(l.Versions) != 1 || l.Versions[0].ID != id {
		t.Errorf("stored and not activated: %+v", l)
	}
}

func TestNotes(t *testing.T) {
	c := newCA(t)
	s, id := live(t, c.bundle(t))
	old := add(t, s, c.bundle(t), noon().Add(-time.Hour), false)
	must(t, os.Chmod(in(s, "current/privkey.pem"), 0o644))
	write(t, in(s, "current/meta.json"), "{")
	write(t, in(s, "versions", old, "cert.pem"), "")
	l := load(t, s)
	contains(t, l.Notes, "version "+id+": others may have read privkey.pem (mode 0644)")
	contains(t, l.Notes, "version "+id+": meta.json: unexpected end of JSON input")
	contains(t, l.Notes, "version "+old+": the certificate chain is empty")
	if l.Current == nil || l.Damage != nil || len(l.Versions) != 1 {
		t.Errorf("current %v, damage %v, versions %v", l.Current, l.Damage, l.Versions)
	}
	if again := load(t, s).Notes; !slices.Equal(again, l.Notes) {
		t.Errorf("not remembered as it was: %q", again)
	}
}

func TestPrune(t *testing.T) {
	c := newCA(t)
	s := openTest(t, stateDir(t), nil)
	var ids []string // oldest first
	for i := range 8 {
		ids = append(ids, add(t, s, c.bundle(t), noon().Add(time.Duration(i)*time.Hour), i == 1))
	}
	must(t, s.SaveState(www, &State{Pinned: ids[0], Held: &Held{Version: ids[3]}}))
	write(t, in(s, "versions", ids[2], "cert.pem"), "") // damaged and old
	write(t, in(s, "versions", ids[7], "cert.pem"), "") // damaged and new: does not count as one of the newest
	must(t, os.MkdirAll(in(s, "versions", ".acmed-1.tmp", "alternates"), 0o700))
	write(t, in(s, ".acmed-2.tmp"), "")
	must(t, s.Prune(www, 2))
	entries, err := os.ReadDir(in(s, "versions"))
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if diff := cmp.Diff([]string{ids[0], ids[1], ids[3], ids[5], ids[6], ids[7]}, got); diff != "" {
		t.Error(diff)
	}
	if left := temporaries(t, s.Dir()); left != nil {
		t.Errorf("left behind: %q", left)
	}
	must(t, s.SaveState(www, &State{}))
	must(t, s.Prune(www, -1))
	if l := load(t, s); l.Version != ids[1] || l.Damage != nil || len(l.Versions) != 2 || l.Versions[0].ID != ids[6] {
		t.Errorf("after keeping one: %+v", l.Versions)
	}
}

// TestVersionsSort: versions made within one second, or with a clock that was set back, sort in the order of their making.
func TestVersionsSort(t *testing.T) {
	s, issuer := openTest(t, stateDir(t), nil), newCA(t)
	var made []string
	for i := range 5 {
		made = append(made, add(t, s, issuer.bundle(t), noon().Add(time.Duration(-i/2)*time.Hour), false))
	}
	for i, v := range load(t, s).Versions {
		if want := made[len(made)-1-i]; v.ID != want {
			t.Errorf("version %d is %s, want %s", i, v.ID, want)
		}
	}
}
