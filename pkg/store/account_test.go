package store

import (
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	caURL = "https://ca.example/directory"
	ops   = "ops@example.com"
)

func account(t *testing.T, s *Store, directory, contact string) *Account {
	t.Helper()
	a, err := s.Account(directory, contact)
	must(t, err)
	return a
}

// files finds the folder of the only account.
func folderOf(t *testing.T, s *Store) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(s.Dir(), "accounts", "*", "*"))
	must(t, err)
	if len(found) != 1 {
		t.Fatalf("accounts: %q", found)
	}
	return found[0]
}

func TestAccountRoundTrip(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	if a := account(t, s, caURL, ops); a != nil {
		t.Errorf("out of nothing: %+v", a)
	}
	_, edKey, err := ed25519.GenerateKey(nil)
	must(t, err)
	want := &Account{
		URI: "https://ca.example/acct/1", Contacts: []string{"mailto:" + ops}, Key: ecKey(t), NextKey: edKey,
		KeyChanged: noon(), Adopted: true, Created: noon(),
	}
	must(t, s.SaveAccount(caURL, ops, want))
	if diff := cmp.Diff(want, account(t, s, caURL, ops)); diff != "" {
		t.Error(diff)
	}
	old := want.Key
	want.Key, want.NextKey = want.NextKey, nil
	must(t, s.SaveAccount(caURL, ops, want))
	got := account(t, s, caURL, ops)
	if diff := cmp.Diff(want, got); diff != "" || certs.SameKey(got.Key.Public(), old.Public()) {
		t.Errorf("after the rollover: %s", diff)
	}
	if err := s.SaveAccount(caURL, ops, &Account{}); err == nil {
		t.Error("saved an account without a key")
	}
}

func TestAccountsDoNotMeet(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	type id struct{ directory, contact string }
	ids := []id{
		{"https://ca.example/a", ""}, {"https://ca.example/b", ""}, {"https://ca.example:14000/a", ""}, {"https://ca.example/a?x=1", ""},
		{"https://ca.example/a", "default"}, {"https://ca.example/a", "ops@example.com"}, {"https://ca.example/a", "ops_example.com"},
		{"https://ca.example/a", "../../../../etc/passwd"}, {"https://ca.example/a", "é\x00/"}, {"https://[::1]:14000/dir", ""}, {"http://ca.example/a", ""},
	}
	for i, id := range ids {
		must(t, s.SaveAccount(id.directory, id.contact, &Account{URI: fmt.Sprint(i), Key: ecKey(t)}))
	}
	for i, id := range ids {
		if a := account(t, s, id.directory, id.contact); a.URI != fmt.Sprint(i) {
			t.Errorf("%v is account %s, want %d", id, a.URI, i)
		}
	}
	if a := account(t, s, "HTTPS://CA.example/a", ""); a == nil || a.URI != "0" {
		t.Errorf("the case of the host matters: %+v", a)
	}
	for _, directory := range []string{"", "ca.example", "/dir", "https://", "https://%zz/"} {
		if err := s.SaveAccount(directory, "", &Account{Key: ecKey(t)}); err == nil {
			t.Errorf("saved an account at %q", directory)
		}
	}
}

func TestAccountDamaged(t *testing.T) {
	key := ecKey(t)
	tests := []struct {
		name   string
		damage func(t *testing.T, dir string)
		want   *Account
		err    string
	}{
		{"no account.json", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "account.json"))) }, &Account{Key: key}, ""},
		{"garbage account.json", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "account.json"), "{") }, &Account{Key: key}, ""},
		{"impossible times", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "account.json"), `{"version": 1, "uri": "u", "retry_at": "9999-01-01T00:00:00Z"}`)
		}, &Account{URI: "u", Key: key}, ""},
		{"no copy of the key", func(t *testing.T, dir string) { must(t, os.Remove(filepath.Join(dir, "key.pem"))) }, &Account{URI: "u", Key: key}, ""},
		{"garbage copy of the key", func(t *testing.T, dir string) { write(t, filepath.Join(dir, "key.pem"), "x") }, &Account{URI: "u", Key: key}, ""},
		{"garbage key in account.json", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "account.json"), `{"version": 1, "uri": "u", "key": "x"}`)
		}, &Account{URI: "u", Key: key}, ""},
		{"no key", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "account.json"), `{"version": 1, "uri": "u"}`)
			must(t, os.Remove(filepath.Join(dir, "key.pem")))
		}, nil, "restore its key from a backup"},
		{"garbage key", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "account.json"), `{"version": 1, "uri": "u"}`)
			write(t, filepath.Join(dir, "key.pem"), "x")
		}, nil, "key.pem: the private key is not PEM"},
		{"garbage next key", func(t *testing.T, dir string) {
			write(t, filepath.Join(dir, "account.json"), `{"version": 1, "uri": "u"}`)
			write(t, filepath.Join(dir, "next-key.pem"), "x")
		}, nil, "a key rollover was under way"},
		{"empty folder", func(t *testing.T, dir string) {
			must(t, errors.Join(os.RemoveAll(dir), os.Mkdir(dir, 0o700)))
		}, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := openTest(t, stateDir(t), nil)
			must(t, s.SaveAccount(caURL, "", &Account{URI: "u", Key: key}))
			tt.damage(t, folderOf(t, s))
			got, err := s.Account(caURL, "")
			if tt.err != "" {
				if err == nil {
					t.Fatal("no error")
				}
				contains(t, []string{err.Error()}, tt.err)
				return
			}
			must(t, err)
			if got != nil {
				got.Notes = nil
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAccountNewerIsLeftAlone(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	must(t, s.SaveAccount(caURL, "", &Account{Key: ecKey(t)}))
	name := filepath.Join(folderOf(t, s), "account.json")
	write(t, name, `{"version": 2}`)
	_, err := s.Account(caURL, "")
	for _, err := range []error{err, s.SaveAccount(caURL, "", &Account{Key: ecKey(t)})} {
		var newer *NewerStateError
		if !errors.As(err, &newer) || filepath.Join(s.Dir(), newer.Path) != name {
			t.Errorf("error %v, want a NewerStateError about %s", err, name)
		}
	}
}

// TestRolloverSurvives breaks every call of both saves of a key rollover: the key that the CA may know is never lost.
func TestRolloverSurvives(t *testing.T) {
	oldKey, newKey := ecKey(t), ecKey(t)
	for n := 1; ; n++ {
		dir, calls, broken := stateDir(t), 0, false
		s := openTest(t, dir, nil)
		must(t, s.SaveAccount(caURL, "", &Account{URI: "u", Key: oldKey}))
		must(t, s.Close())
		s = openTest(t, dir, func(_, _ string) error {
			if calls++; broken && calls >= n {
				return syscall.EIO
			}
			return nil
		})
		calls, broken = 0, true
		asked := s.SaveAccount(caURL, "", &Account{URI: "u", Key: oldKey, NextKey: newKey}) == nil
		done := asked && s.SaveAccount(caURL, "", &Account{URI: "u", Key: newKey}) == nil
		must(t, s.Close())
		s = openTest(t, dir, nil)
		a := account(t, s, caURL, "")
		if a.URI != "u" && n > 1 {
			t.Errorf("call %d: the account is %+v", n, a)
		}
		known := certs.SameKey(a.Key.Public(), newKey.Public()) || a.NextKey != nil && certs.SameKey(a.NextKey.Public(), newKey.Public())
		if asked && !known {
			t.Errorf("call %d: the new key is lost", n)
		}
		must(t, s.SaveAccount(caURL, "", a))
		if left := temporaries(t, dir); left != nil {
			t.Errorf("call %d left %q", n, left)
		}
		if done {
			return
		}
	}
}

func TestRetireKey(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	old := ecKey(t)
	must(t, s.RetireKey(caURL, ops, old)) // there is no account yet
	for _, key := range []crypto.Signer{old, ecKey(t)} {
		must(t, s.SaveAccount(caURL, ops, &Account{URI: "https://ca.example/acct/1", Key: key}))
		for range 2 {
			must(t, s.RetireKey(caURL, ops, key))
		}
	}
	found, err := filepath.Glob(filepath.Join(folderOf(t, s), "retired-*.pem"))
	must(t, err)
	if len(found) != 2 {
		t.Fatalf("retired keys: %q", found)
	}
	kept := 0
	for _, name := range found {
		text, err := os.ReadFile(name)
		must(t, err)
		key, err := certs.ParseKey(text)
		must(t, err)
		if certs.SameKey(key.Public(), old.Public()) {
			kept++
		}
		info, err := os.Stat(name)
		must(t, err)
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", name, info.Mode())
		}
	}
	if kept != 1 {
		t.Errorf("the first key was kept %d times", kept)
	}
	if keys, err := s.RetiredKeys(caURL, ops); err != nil || len(keys) != 2 {
		t.Errorf("retired are %d keys, %v", len(keys), err)
	}
}

// TestAccountOfBefore: the layout of earlier releases, with the use of the account in account.json and the key beside it, is
// read, taken over by the first save, and read again after such a release wrote it.
func TestAccountOfBefore(t *testing.T) {
	s, oldKey, newKey := openTest(t, stateDir(t), nil), ecKey(t), ecKey(t)
	must(t, s.SaveAccount(caURL, ops, &Account{URI: "u", Key: oldKey}))
	dir := folderOf(t, s)
	write(t, filepath.Join(dir, "account.json"), `{"version": 1, "uri": "u", "retry_at": "2026-11-20T13:00:00Z", "down": true, "orders": ["2026-11-20T11:00:00Z"]}`)
	want := Usage{RetryAt: noon().Add(time.Hour), Down: true, Orders: []time.Time{noon().Add(-time.Hour)}}
	for range 2 {
		u, err := s.Usage(caURL, ops)
		must(t, err)
		if diff := cmp.Diff(want, u); diff != "" {
			t.Error(diff)
		}
		must(t, s.SaveAccount(caURL, ops, account(t, s, caURL, ops)))
	}
	later := Usage{RetryAt: noon().Add(2 * time.Hour), Orders: append(want.Orders, noon()), SavedAt: noon()}
	must(t, s.SaveUsage(caURL, ops, later))
	if a := account(t, s, caURL, ops); a.URI != "u" || !certs.SameKey(a.Key.Public(), oldKey.Public()) {
		t.Errorf("after a change of its use, the account is %+v", a)
	}
	text, err := certs.EncodeKey(newKey)
	must(t, err)
	write(t, filepath.Join(dir, "key.pem"), string(text)) // a rollover by an earlier release, after going back to it
	write(t, filepath.Join(dir, "account.json"), `{"version": 1, "uri": "u", "orders": ["2026-11-20T11:30:00Z"]}`)
	if a := account(t, s, caURL, ops); !certs.SameKey(a.Key.Public(), newKey.Public()) {
		t.Error("the key that the earlier release wrote is not in use")
	}
	later.Orders = []time.Time{noon().Add(-time.Hour), noon().Add(-time.Hour / 2), noon()}
	if u, err := s.Usage(caURL, ops); err != nil || !cmp.Equal(later, u) {
		t.Errorf("%v %s", err, cmp.Diff(later, u))
	}
}

// TestSaveUsageWritesNoKey: whoever saves what is counted cannot put an earlier key back.
func TestSaveUsageWritesNoKey(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	must(t, s.SaveUsage(caURL, ops, Usage{Orders: []time.Time{noon()}})) // there is no account
	must(t, s.SaveAccount(caURL, ops, &Account{URI: "u", Key: ecKey(t)}))
	dir := folderOf(t, s)
	before := map[string]string{}
	for _, name := range []string{"account.json", "key.pem"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		before[name] = string(text)
	}
	must(t, s.SaveUsage(caURL, ops, Usage{Orders: []time.Time{noon()}}))
	for name, want := range before {
		if text, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(text) != want {
			t.Errorf("%s changed (%v)", name, err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "usage.json"))
	must(t, err)
	if strings.Contains(string(text), "KEY") {
		t.Error("usage.json has a key")
	}
}

func TestAccountReadableByOthers(t *testing.T) {
	s := openTest(t, stateDir(t), nil)
	must(t, s.SaveAccount(caURL, ops, &Account{URI: "u", Key: ecKey(t)}))
	if notes := account(t, s, caURL, ops).Notes; notes != nil {
		t.Errorf("a good account has notes: %q", notes)
	}
	for _, name := range []string{"account.json", "key.pem"} {
		file := filepath.Join(folderOf(t, s), name)
		must(t, os.Chmod(file, 0o640))
		contains(t, account(t, s, caURL, ops).Notes, "others may have read "+name+" (mode 0640)")
		must(t, os.Chmod(file, 0o600))
	}
}

func TestAdoptAccount(t *testing.T) {
	s, key := openTest(t, stateDir(t), nil), ecKey(t)
	adopt := func(contact string, keep ...string) bool {
		t.Helper()
		ok, err := s.AdoptAccount(caURL, contact, keep)
		must(t, err)
		return ok
	}
	if adopt("new@example.com", "new@example.com") {
		t.Error("adopted out of nothing")
	}
	must(t, s.SaveAccount(caURL, ops, &Account{URI: "u", Key: key, Contacts: []string{"mailto:" + ops}, Created: noon()}))
	must(t, s.SaveUsage(caURL, ops, Usage{Orders: []time.Time{noon()}}))
	must(t, s.SaveAccount(caURL, "b@example.com", &Account{Key: ecKey(t), Created: noon().Add(time.Hour)})) // never registered
	must(t, s.SaveAccount("https://other.example/", "c@example.com", &Account{URI: "o", Key: ecKey(t)}))
	if adopt("new@example.com", "new@example.com", ops) {
		t.Error("adopted an account that is in use")
	}
	if !adopt("new@example.com", "new@example.com") {
		t.Fatal("not adopted")
	}
	a := account(t, s, caURL, "new@example.com")
	if !a.Adopted || a.URI != "u" || !certs.SameKey(a.Key.Public(), key.Public()) || account(t, s, caURL, ops) != nil {
		t.Errorf("adopted was %+v", a)
	}
	if u, err := s.Usage(caURL, "new@example.com"); err != nil || len(u.Orders) != 1 {
		t.Errorf("its use is %+v, %v", u, err)
	}
	if !adopt("", "") || account(t, s, caURL, "").URI != "u" { // before the CA was told
		t.Error("not adopted again")
	}
}
