package store

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// fullState has a value in every field.
func fullState(version string) *State {
	now := noon()
	return &State{
		Version: 1, Failures: 2, LastError: "no", LastErrorAt: now, FailingSince: now, RetryAt: now,
		RenewAt: now, RenewFor: "abc", ARI: ARI{CheckAt: now, For: "abc", Start: now, End: now.Add(time.Hour), URL: "https://ca.example/why"},
		Issued: []time.Time{now}, Installed: map[string]Installed{
			"nginx": {Fingerprint: "abc", At: now, VerifiedAt: now, Failures: 1, LastError: "no", RetryAt: now},
		},
		Held: &Held{Version: version, Clients: []string{"firmware"}, Reason: "no", Since: now}, Pinned: version,
		Solved: map[string]string{"example.com": "http-01"}, Invalid: map[string][]time.Time{"example.com": {now}}, Alerted: 7,
	}
}

func TestStateRoundTrip(t *testing.T) {
	s, id := live(t, newCA(t).bundle(t))
	want := fullState(id)
	must(t, s.SaveState(www, want))
	l := load(t, s)
	if diff := cmp.Diff(want, &l.State); diff != "" {
		t.Error(diff)
	}
	if l.Notes != nil {
		t.Errorf("notes %q", l.Notes)
	}
	must(t, s.SaveState(www, &State{}))
	if diff := cmp.Diff(State{Version: 1}, load(t, s).State); diff != "" {
		t.Error(diff)
	}
	if text, _ := os.ReadFile(in(s, "state.json")); string(text) != "{\n  \"version\": 1\n}\n" {
		t.Errorf("the empty state is %q", text)
	}
}

func TestStateDamaged(t *testing.T) {
	for name, text := range map[string]string{
		"empty": "", "truncated": `{"version": 1, "fail`, "garbage": "\x00\xff{{", "null": "null", "list": "[]", "string": `"x"`,
		"no version": `{"failures": 3}`, "version 0": `{"version": 0}`, "negative version": `{"version": -1}`,
		"wrong type": `{"version": 1, "failures": "many"}`, "two values": `{"version": 1}{"version": 1}`,
		"bad time": `{"version": 1, "retry_at": "tomorrow"}`, "huge": `{"version": 1, "last_error": "` + strings.Repeat("x", maxState) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			c := newCA(t)
			s, id := live(t, c.bundle(t))
			newer := add(t, s, c.bundle(t), noon().Add(time.Hour), false)
			write(t, in(s, "state.json"), text)
			stamp := time.Date(2026, 11, 20, 23, 56, 0, 0, time.UTC)
			must(t, os.Chtimes(in(s, "state.json"), stamp, stamp))
			l := load(t, s)
			if diff := cmp.Diff(State{Version: 1, Issued: []time.Time{noon().Add(time.Hour), noon()}}, l.State); diff != "" {
				t.Errorf("rebuilt: %s", diff)
			}
			if l.Version != id || l.Current == nil || l.Damage != nil || l.Versions[0].ID != newer {
				t.Errorf("the certificate suffered: %+v", l)
			}
			contains(t, l.Notes, "it was set aside as state.json.damaged-20261120T235600Z")
			kept, err := os.ReadFile(in(s, "state.json.damaged-20261120T235600Z"))
			if err != nil || string(kept) != text {
				t.Errorf("set aside: %d bytes, %v", len(kept), err)
			}
			if again := load(t, s).Notes; !slices.Equal(again, l.Notes) {
				t.Errorf("not remembered as it was: %q", again)
			}
			must(t, s.SaveState(www, &l.State))
		})
	}
}

func TestStateThatCannotBeReadIsNotDamaged(t *testing.T) {
	broken := false
	s := openTest(t, stateDir(t), func(op, name string) error {
		if broken && op == "read" && filepath.Base(name) == "state.json" {
			return os.ErrPermission
		}
		return nil
	})
	add(t, s, newCA(t).bundle(t), noon(), true)
	must(t, s.SaveState(www, &State{Failures: 3}))
	broken = true
	if _, err := s.Load(www); !errors.Is(err, os.ErrPermission) {
		t.Errorf("Load: %v, want the disk's error", err)
	}
	broken = false
	if l := load(t, s); l.State.Failures != 3 || l.Notes != nil {
		t.Errorf("state %+v, notes %q", l.State, l.Notes)
	}
}

// TestTakenOver: certificates of last month that were stored just now are no reason to wait with the next one.
func TestTakenOver(t *testing.T) {
	s, issuer := openTest(t, stateDir(t), nil), newCA(t)
	notBefore := noon().Add(-time.Hour)
	for i := range 2 {
		add(t, s, issuer.bundle(t), notBefore.Add(26*time.Hour+time.Duration(i)*time.Minute), true)
	}
	if diff := cmp.Diff([]time.Time{notBefore, notBefore}, load(t, s).State.Issued); diff != "" {
		t.Error(diff)
	}
}

func TestNewerFilesAreLeftAlone(t *testing.T) {
	const future = `{"version": 2, "failures": {"count": 3}}`
	s, id := live(t, newCA(t).bundle(t))
	calls := map[string]func() error{
		"state.json": func() error {
			_, err := s.Load(www)
			return errors.Join(err, notNil(s.SaveState(www, &State{})), notNil(s.Prune(www, 1)))
		},
		"order-ec.json":                 func() error { _, err := s.Order(www, SlotEC); return err },
		"versions/" + id + "/meta.json": func() error { _, err := s.Load(www); return err },
	}
	for name, call := range calls {
		t.Run(name, func(t *testing.T) {
			before, _ := os.ReadFile(in(s, name))
			write(t, in(s, name), future)
			err := call()
			var newer *NewerStateError
			if !errors.As(err, &newer) || newer.Version != 2 || newer.Path != "certs/www/"+name {
				t.Errorf("error %v, want a NewerStateError about certs/www/%s", err, name)
			}
			if text, _ := os.ReadFile(in(s, name)); string(text) != future {
				t.Errorf("it was rewritten: %q", text)
			}
			must(t, os.Remove(in(s, name)))
			if before != nil {
				write(t, in(s, name), string(before))
			}
		})
	}
}

func notNil(err error) error {
	if err == nil {
		return errors.New("a call that should have failed did not")
	}
	return nil
}

func TestRepair(t *testing.T) {
	never := func(string) bool { return false }
	bad := time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)
	worse := time.Date(0, 1, 1, 0, 0, 0, 0, time.UTC)
	good := noon()
	tests := []struct {
		name     string
		in, want State
	}{
		{"sound", State{Failures: 3, RetryAt: good}, State{Failures: 3, RetryAt: good}},
		{"negative counts", State{Failures: -1, Alerted: -5}, State{}},
		{"absurd counts", State{Failures: 1 << 40}, State{Failures: maxCount}},
		{"year 9999", State{RetryAt: bad, RenewAt: bad, FailingSince: bad}, State{}},
		{"year 0", State{RetryAt: worse, LastErrorAt: worse}, State{}},
		{"long error", State{LastError: strings.Repeat("é", maxText)}, State{LastError: strings.Repeat("é", maxText/2)}},
		{"inverted window", State{ARI: ARI{For: "abc", Start: good, End: good.Add(-1)}}, State{}},
		{"window in 9999", State{ARI: ARI{CheckAt: good, For: "abc", Start: good, End: bad}}, State{ARI: ARI{CheckAt: good}}},
		{"issuances", State{Issued: []time.Time{good, bad, {}, good.Add(-1)}}, State{Issued: []time.Time{good.Add(-1), good}}},
		{
			"target", State{Installed: map[string]Installed{"x": {Fingerprint: "f", Failures: -1, RetryAt: bad, VerifiedAt: good}}},
			State{Installed: map[string]Installed{"x": {Fingerprint: "f", VerifiedAt: good}}},
		},
		{
			"validations", State{Invalid: map[string][]time.Time{"example.com": make([]time.Time, 5)}},
			State{Invalid: map[string][]time.Time{"example.com": {}}},
		},
		{"pin to nothing", State{Pinned: "../../etc"}, State{}},
		{"nothing held", State{Held: &Held{Version: "20261120T120000Z-00000000"}}, State{}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			said := tt.in.repair(never)
			if diff := cmp.Diff(tt.want, tt.in); diff != "" {
				t.Error(diff)
			}
			if (said == nil) != (tt.name == "sound") {
				t.Errorf("said %q", said)
			}
			if again := tt.in.repair(never); again != nil {
				t.Errorf("repaired twice: %q", again)
			}
		})
	}
	many := State{Issued: make([]time.Time, 3*maxTimes)}
	for i := range many.Issued {
		many.Issued[i] = good.Add(time.Duration(i))
	}
	last := many.Issued[len(many.Issued)-1]
	many.repair(never)
	if len(many.Issued) != maxTimes || many.Issued[maxTimes-1] != last {
		t.Errorf("%d issuances, last %v", len(many.Issued), many.Issued[maxTimes-1])
	}
}

func TestHandEditedStateIsNotedOnce(t *testing.T) {
	s, _ := live(t, newCA(t).bundle(t))
	write(t, in(s, "state.json"), `{"version": 1, "failures": -7, "retry_at": "9999-01-01T00:00:00Z", "pinned": "20261120T120000Z-00000000"}`)
	l := load(t, s)
	if l.State.Failures != 0 || !l.State.RetryAt.IsZero() || l.State.Pinned != "" {
		t.Errorf("state %+v", l.State)
	}
	contains(t, l.Notes, "state.json: failures ignored: impossible number -7")
	contains(t, l.Notes, "state.json: retry_at ignored: impossible time 9999-01-01T00:00:00Z")
	contains(t, l.Notes, `state.json: pinned ignored: version "20261120T120000Z-00000000" is not stored`)
	if again := load(t, s); !slices.Equal(again.Notes, l.Notes) {
		t.Errorf("not remembered as it was: %q", again.Notes)
	}
}

// FuzzState feeds a hostile state.json: whatever it holds, the active pair stays usable, and what was loaded can be saved
// and loads as the same.
func FuzzState(f *testing.F) {
	s := openTest(f, quickDir(f), nil)
	id := add(f, s, newCA(f).bundle(f), noon(), true)
	full, err := json.Marshal(fullState(id))
	must(f, err)
	for _, text := range []string{
		string(full), "", "{}", "null", `{"version":2}`, `{"version":1,"issued":["0000-01-01T00:00:00Z"]}`, `{"version":1e400}`,
		`{"version":1,"installed":{"":{}},"invalid":{"":null},"held":{}}`, strings.Repeat("[", 20_000),
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		must(t, os.WriteFile(in(s, "state.json"), text, 0o600))
		l, err := s.Load(www)
		var newer *NewerStateError
		if errors.As(err, &newer) {
			return
		}
		must(t, err)
		if l.Current == nil || l.Damage != nil || l.Version != id {
			t.Fatalf("the certificate suffered: %v", l.Damage)
		}
		if said := l.State.repair(func(v string) bool { return v == id }); said != nil {
			t.Errorf("not sound after Load: %q", said)
		}
		must(t, s.SaveState(www, &l.State))
		again := load(t, s)
		if diff := cmp.Diff(normal(t, l.State), normal(t, again.State)); diff != "" {
			t.Error(diff)
		}
	})
}

// normal takes out the differences that JSON makes, such as between an empty list and none.
func normal(t *testing.T, st State) string {
	t.Helper()
	st.Version = StateVersion
	text, err := json.Marshal(st)
	must(t, err)
	return string(text)
}
