package change

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// site is a directory with the configuration of an imaginary server, and a journal beside it.
type site struct {
	t       *testing.T
	dir     string
	journal string
	steps   []string // what Test, Reload and Probe saw of site.conf
	fail    map[string]error
}

func newSite(t *testing.T, files map[string]string) *site {
	s := &site{t: t, dir: t.TempDir(), journal: filepath.Join(t.TempDir(), "journals", "www"), fail: map[string]error{}}
	for name, content := range files {
		s.write(name, content, 0o644)
	}
	return s
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

func (s *site) write(name, content string, mode fs.FileMode) {
	s.t.Helper()
	if err := os.WriteFile(s.path(name), []byte(content), mode); err != nil {
		s.t.Fatal(err)
	}
	if err := os.Chmod(s.path(name), mode); err != nil {
		s.t.Fatal(err)
	}
}

// read returns "-" for a file that does not exist.
func (s *site) read(name string) string {
	s.t.Helper()
	content, err := os.ReadFile(s.path(name))
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return string(content)
}

// step makes a callback that notes what it sees and fails if told so. "test#2" is the second test.
func (s *site) step(name string) func(context.Context) error {
	return func(context.Context) error {
		s.steps = append(s.steps, name+":"+s.read("site.conf"))
		count := 0
		for _, step := range s.steps {
			if strings.HasPrefix(step, name+":") {
				count++
			}
		}
		return errors.Join(s.fail[name], s.fail[name+"#"+string(rune('0'+count))])
	}
}

func (s *site) change(files ...File) *Change {
	for i := range files {
		files[i].Path = s.path(files[i].Path)
	}
	return &Change{Journal: s.journal, Files: files, Test: s.step("test"), Reload: s.step("reload"), Probe: s.step("probe")}
}

func (s *site) wantSteps(want ...string) {
	s.t.Helper()
	if !slices.Equal(s.steps, want) {
		s.t.Errorf("steps %q, want %q", s.steps, want)
	}
	s.steps = nil
}

func (s *site) wantFile(name, want string) {
	s.t.Helper()
	if got := s.read(name); got != want {
		s.t.Errorf("%s is %q, want %q", name, got, want)
	}
}

// wantIdle checks that the journal has no change under way, and which backups it keeps.
func (s *site) wantIdle(backups ...string) {
	s.t.Helper()
	j, err := openJournal(s.t.Context(), s.journal, medium{})
	if err != nil {
		s.t.Fatal(err)
	}
	defer j.close()
	if j.record.Pending != nil {
		s.t.Errorf("a change is still pending: %+v", j.record.Pending)
	}
	entries, err := os.ReadDir(s.journal)
	if err != nil {
		s.t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			s.t.Fatal(err)
		}
		if info.Mode() != 0o600 {
			s.t.Errorf("%s has mode %v", e.Name(), info.Mode())
		}
		if e.Name() == journalFile {
			continue
		}
		content, err := os.ReadFile(filepath.Join(s.journal, e.Name()))
		if err != nil {
			s.t.Fatal(err)
		}
		got = append(got, string(content))
	}
	slices.Sort(got)
	slices.Sort(backups)
	if !slices.Equal(got, backups) {
		s.t.Errorf("backups %q, want %q", got, backups)
	}
}

func text(path, content string) File { return File{Path: path, Content: []byte(content)} }

func TestApply(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "old"})
	changed, err := s.change(text("site.conf", "new"), text("extra.conf", "x")).Apply(t.Context())
	if err != nil || !changed {
		t.Fatalf("Apply = %v, %v", changed, err)
	}
	s.wantSteps("test:old", "test:new", "reload:new", "probe:new")
	s.wantFile("site.conf", "new")
	s.wantFile("extra.conf", "x")
	s.wantIdle("old")
	if info, err := os.Stat(s.journal); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the journal is %v, %v", info, err)
	}
}

func TestApplyAgainDoesNothing(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "old"})
	for i, want := range []bool{true, false, false} {
		before, _ := os.Stat(s.path("site.conf"))
		changed, err := s.change(text("site.conf", "new")).Apply(t.Context())
		if err != nil || changed != want {
			t.Fatalf("Apply %d = %v, %v", i, changed, err)
		}
		if after, _ := os.Stat(s.path("site.conf")); !want && !os.SameFile(before, after) {
			t.Error("the file was written again")
		}
		if !want {
			s.wantSteps()
		}
		s.steps = nil
	}
	c := s.change(text("site.conf", "new"))
	c.Always = true
	if changed, err := c.Apply(t.Context()); err != nil || changed {
		t.Errorf("Apply with Always = %v, %v", changed, err)
	}
	s.wantSteps("test:new", "reload:new", "probe:new")
}

func TestApplyPutsBack(t *testing.T) {
	boom := errors.New("boom")
	tests := []struct {
		name   string
		fail   map[string]error
		steps  []string
		broken bool
	}{
		{"first test", map[string]error{"test#1": boom}, []string{"test:old"}, true},
		{"second test", map[string]error{"test#2": boom}, []string{"test:old", "test:new"}, false},
		{"reload", map[string]error{"reload#1": boom}, []string{"test:old", "test:new", "reload:new", "reload:old"}, false},
		{"both reloads", map[string]error{"reload": boom}, []string{"test:old", "test:new", "reload:new", "reload:old"}, false},
		{"probe", map[string]error{"probe": boom}, []string{"test:old", "test:new", "reload:new", "probe:new", "reload:old"}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, map[string]string{"site.conf": "old", "gone.conf": "g"})
			s.write("mode.conf", "m", 0o640)
			s.fail = tt.fail
			change := s.change(text("site.conf", "new"), text("extra.conf", "x"), File{Path: "gone.conf", Remove: true},
				File{Path: "mode.conf", Content: []byte("m"), Mode: 0o600})
			changed, err := change.Apply(t.Context())
			if changed || !errors.Is(err, boom) {
				t.Errorf("Apply = %v, %v", changed, err)
			}
			if broken := (*installers.BrokenServerError)(nil); errors.As(err, &broken) != tt.broken {
				t.Errorf("Apply = %v, a BrokenServerError: %v", err, !tt.broken)
			}
			if refused := (*installers.RefusedEditError)(nil); errors.As(err, &refused) != (tt.name == "second test") {
				t.Errorf("Apply = %v, a RefusedEditError in the wrong place", err)
			}
			s.wantSteps(tt.steps...)
			s.wantFile("site.conf", "old")
			s.wantFile("extra.conf", "-")
			s.wantFile("gone.conf", "g")
			if info, err := os.Stat(s.path("mode.conf")); err != nil || info.Mode() != 0o640 {
				t.Errorf("mode.conf is %v, %v", info.Mode(), err)
			}
			s.wantIdle()
		})
	}
}

func TestApplyToAStoppedServer(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "old"})
	s.fail["reload"] = &installers.NotRunningError{Server: "nginx"}
	changed, err := s.change(text("site.conf", "new")).Apply(t.Context())
	if stopped := (*installers.NotRunningError)(nil); !changed || !errors.As(err, &stopped) {
		t.Errorf("Apply = %v, %v", changed, err)
	}
	s.wantSteps("test:old", "test:new", "reload:new")
	s.wantFile("site.conf", "new")
	s.wantIdle("old")
}

func TestApplyRefusesAnEditedFile(t *testing.T) {
	for _, tt := range []struct{ name, was string }{
		{"edited", Hash([]byte("older"))}, {"appeared", Absent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t, map[string]string{"site.conf": "old", "other.conf": "o"})
			changed, err := s.change(text("other.conf", "p"), File{Path: "site.conf", Content: []byte("new"), Was: tt.was}).Apply(t.Context())
			conflict := (*installers.ConflictError)(nil)
			if changed || !errors.As(err, &conflict) || conflict.Path != s.path("site.conf") {
				t.Errorf("Apply = %v, %v", changed, err)
			}
			s.wantSteps()
			s.wantFile("site.conf", "old")
			s.wantFile("other.conf", "o")
		})
	}
}

func TestEditDuringTheFirstTest(t *testing.T) {
	s := newSite(t, map[string]string{"a.conf": "a", "site.conf": "old"})
	c := s.change(text("a.conf", "b"), File{Path: "site.conf", Content: []byte("new"), Was: Hash([]byte("old"))})
	c.Test = func(context.Context) error { s.write("site.conf", "by the admin", 0o644); return nil }
	_, err := c.Apply(t.Context())
	if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) {
		t.Errorf("Apply = %v", err)
	}
	s.wantFile("a.conf", "a")
	s.wantFile("site.conf", "by the admin")
	s.wantIdle()
}

func TestPutBackKeepsALaterEdit(t *testing.T) {
	s := newSite(t, map[string]string{"a.conf": "a", "site.conf": "old"})
	c := s.change(text("a.conf", "b"), text("site.conf", "new"))
	c.Probe = func(context.Context) error {
		s.write("site.conf", "by the admin", 0o644)
		return errors.New("not served")
	}
	_, err := c.Apply(t.Context())
	conflict := (*installers.ConflictError)(nil)
	if !errors.As(err, &conflict) || conflict.Path != s.path("site.conf") || !strings.Contains(err.Error(), "not served") {
		t.Errorf("Apply = %v", err)
	}
	s.wantFile("a.conf", "a")
	s.wantFile("site.conf", "by the admin")
	s.wantIdle("old") // an uninstall has to know it
}

// TestProbeThatAsksForTime: what is served, only not by everything yet, is neither undone nor called a success.
func TestProbeThatAsksForTime(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "old"})
	s.fail["probe"] = &installers.LaterError{Err: errors.New("another process still answers")}
	changed, err := s.change(text("site.conf", "new")).Apply(t.Context())
	if later := (*installers.LaterError)(nil); !changed || !errors.As(err, &later) {
		t.Errorf("Apply = %v, %v", changed, err)
	}
	s.wantFile("site.conf", "new")
}

func TestApplyCancelled(t *testing.T) {
	stop := errors.New("shutting down")
	for _, at := range []string{"start", "test#1", "test#2", "reload#1", "probe#1"} {
		t.Run(at, func(t *testing.T) {
			s := newSite(t, map[string]string{"site.conf": "old"})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			c := s.change(text("site.conf", "new"))
			wrap := func(name string, step func(context.Context) error) func(context.Context) error {
				return func(ctx context.Context) error {
					err := step(ctx)
					count := 0
					for _, done := range s.steps {
						if strings.HasPrefix(done, name+":") {
							count++
						}
					}
					if at == name+"#"+string(rune('0'+count)) {
						cancel(stop)
						return context.Cause(ctx)
					}
					return err
				}
			}
			c.Test, c.Reload, c.Probe = wrap("test", c.Test), wrap("reload", c.Reload), wrap("probe", c.Probe)
			if at == "start" {
				cancel(stop)
			}
			if changed, err := c.Apply(ctx); changed || !errors.Is(err, stop) {
				t.Errorf("Apply = %v, %v", changed, err)
			}
			s.wantFile("site.conf", "old")
			reloaded := at == "reload#1" || at == "probe#1"
			if slices.Contains(s.steps, "reload:old") != reloaded {
				t.Errorf("steps %q", s.steps)
			}
			s.wantIdle()
		})
	}
}

func TestFirstBackupStays(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "original"})
	for _, content := range []string{"one", "two", "three"} {
		if _, err := s.change(File{Path: "site.conf", Content: []byte(content), Mode: 0o600}, text("key.pem", content)).Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
		s.wantIdle("original")
	}
	list, err := Originals(t.Context(), s.journal)
	if err != nil || len(list) != 2 || string(list[0].Content) != "original" || list[0].Written != Hash([]byte("three")) || list[1].Existed {
		t.Errorf("Originals = %+v, %v", list, err)
	}
	s.steps = nil
	for range 2 {
		if err := Undo(t.Context(), s.journal, s.step("test"), s.step("reload")); err != nil {
			t.Fatal(err)
		}
		s.wantFile("site.conf", "original")
		s.wantFile("key.pem", "-")
	}
	s.wantSteps("test:original", "reload:original")
	if info, err := os.Stat(s.path("site.conf")); err != nil || info.Mode() != 0o644 {
		t.Errorf("site.conf is %v, %v", info.Mode(), err)
	}
	s.wantIdle()
}

func TestBackToTheOriginalNeedsNoUndo(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "original"})
	for _, content := range []string{"ours", "original"} {
		if _, err := s.change(text("site.conf", content)).Apply(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	s.wantIdle()
	if list, err := Originals(t.Context(), s.journal); err != nil || len(list) != 0 {
		t.Errorf("Originals = %+v, %v", list, err)
	}
}

func TestUndoRefusesLaterEdits(t *testing.T) {
	for _, between := range []bool{false, true} {
		s := newSite(t, map[string]string{"a.conf": "a", "site.conf": "original"})
		apply := func(content string) {
			if _, err := s.change(text("a.conf", "b"), text("site.conf", content)).Apply(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		apply("ours")
		s.write("site.conf", "ours, edited", 0o644)
		want := "ours, edited"
		if between {
			apply("ours, edited, renewed")
			want = "ours, edited, renewed"
		}
		err := Undo(t.Context(), s.journal, nil, nil)
		conflict := (*installers.ConflictError)(nil)
		if !errors.As(err, &conflict) || conflict.Path != s.path("site.conf") {
			t.Errorf("Undo = %v", err)
		}
		s.wantFile("a.conf", "b")
		s.wantFile("site.conf", want)
		list, err := Originals(t.Context(), s.journal)
		if err != nil || len(list) != 2 || list[1].Edited != between {
			t.Errorf("Originals = %+v, %v", list, err)
		}
		if err := Forget(t.Context(), s.journal); err != nil {
			t.Error(err)
		}
		if err := Undo(t.Context(), s.journal, nil, nil); err != nil {
			t.Errorf("Undo after Forget = %v", err)
		}
		s.wantFile("site.conf", want)
	}
}

func TestUndoDoesNotNeedThePassingTest(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "original"})
	if _, err := s.change(text("site.conf", "ours")).Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.steps = nil
	boom := errors.New("syntax error")
	s.fail["test"] = boom
	if err := Undo(t.Context(), s.journal, s.step("test"), s.step("reload")); !errors.Is(err, boom) {
		t.Errorf("Undo = %v", err)
	}
	s.wantFile("site.conf", "original")
	for _, step := range s.steps {
		if strings.HasPrefix(step, "reload") {
			t.Error("reloaded although the test fails")
		}
	}
	s.wantIdle()
}

func TestUndoOfAStoppedServer(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "original"})
	if _, err := s.change(text("site.conf", "ours")).Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.fail["reload"] = &installers.NotRunningError{Server: "nginx"}
	if err := Undo(t.Context(), s.journal, nil, s.step("reload")); err != nil {
		t.Errorf("Undo = %v", err)
	}
	s.wantFile("site.conf", "original")
}

func TestNothingToUndo(t *testing.T) {
	journal := filepath.Join(t.TempDir(), "none")
	list, err := Originals(t.Context(), journal)
	err = errors.Join(err, Undo(t.Context(), journal, nil, nil), Recover(t.Context(), journal, nil), Forget(t.Context(), journal))
	if err != nil || list != nil {
		t.Errorf("%v, %v", list, err)
	}
	if _, err := os.Stat(journal); !errors.Is(err, fs.ErrNotExist) {
		t.Error("the journal was made")
	}
}

func TestConcurrentApply(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "original"})
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			content := strings.Repeat("x", i+1)
			c := &Change{Journal: s.journal, Files: []File{{Path: s.path("site.conf"), Content: []byte(content)}}}
			if _, err := c.Apply(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if err := Undo(t.Context(), s.journal, nil, nil); err != nil {
		t.Error(err)
	}
	s.wantFile("site.conf", "original")
}

func TestWaitingForTheJournalEndsWithTheContext(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "original"})
	j, err := openJournal(t.Context(), s.journal, medium{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.close()
	ctx, cancel := context.WithTimeout(t.Context(), 3*lockPoll)
	defer cancel()
	if _, err := s.change(text("site.conf", "new")).Apply(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Apply = %v", err)
	}
}

func TestDiffAndStale(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "a\nb\nc\n", "same.conf": "same", "mode.conf": "m", "old.key": "old secret\n", "bin": "\xff\xfe",
		"was.pem": "-----BEGIN EC PRIVATE KEY-----\nold secret\n-----END EC PRIVATE KEY-----\n"})
	c := s.change(text("site.conf", "a\nB\nc\n"), text("same.conf", "same"), File{Path: "mode.conf", Content: []byte("m"), Mode: 0o600},
		File{Path: "old.key", Content: []byte("new secret\n"), Secret: true}, File{Path: "bin", Remove: true}, text("was.pem", "no key\n"))
	got, err := c.Diff()
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"-b\n+B\n", "mode.conf: owner or mode", "old.key: the private key", "was.pem: the private key", "bin: binary"} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is not in\n%s", part, got)
		}
	}
	if strings.Contains(got, "secret\n") || strings.Contains(got, "same.conf") {
		t.Errorf("too much in\n%s", got)
	}
	stale := strings.Join([]string{s.path("site.conf"), s.path("mode.conf"), s.path("old.key"), s.path("bin"), s.path("was.pem")}, ", ")
	if err := c.UpToDate(&certs.Bundle{}); err == nil || err.Error() != "not up to date: "+stale {
		t.Errorf("UpToDate = %v, want %s", err, stale)
	}
	s.wantSteps()
}
