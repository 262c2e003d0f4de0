package change

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
)

// three are three targets: the first two edit one file, the second and the third one each of their own.
func (s *site) three(fail ...int) (*Change, func(context.Context) []error) {
	shared, own := s.path("site.conf"), s.path("b.conf")
	c := s.change(File{Path: "site.conf", Content: []byte("1"), Was: Hash([]byte("old"))})
	c.Others = []Part{
		{s.journal + "-2", []File{
			{Path: shared, Content: []byte("1 2"), Was: Hash([]byte("1"))},
			{Path: own, Content: []byte("b2"), Was: Hash([]byte("b"))},
		}},
		{s.journal + "-3", []File{{Path: s.path("c.conf"), Content: []byte("c3"), Was: Absent}}},
	}
	return c, func(ctx context.Context) []error {
		errs := make([]error, 3)
		for _, i := range fail {
			errs[i] = errors.New("not served")
		}
		if err := s.step("probe")(ctx); err != nil {
			errs[0] = err
		}
		return errs
	}
}

func (s *site) wantFiles(site, b, c string) {
	s.t.Helper()
	s.wantFile("site.conf", site)
	s.wantFile("b.conf", b)
	s.wantFile("c.conf", c)
}

func newThree(t *testing.T) *site {
	return newSite(t, map[string]string{"site.conf": "old", "b.conf": "b"})
}

func (s *site) journals() []string { return []string{s.journal, s.journal + "-2", s.journal + "-3"} }

func TestTogether(t *testing.T) {
	s := newThree(t)
	c, prove := s.three()
	failed, err := c.ApplyTogether(t.Context(), prove)
	if err = errors.Join(append(failed, err)...); err != nil {
		t.Fatal(err)
	}
	s.wantSteps("test:old", "test:1 2", "reload:1 2", "probe:1 2")
	s.wantFiles("1 2", "b2", "c3")
	for i, want := range []string{"old", "1", ""} {
		originals, err := Originals(t.Context(), s.journals()[i])
		if err != nil || len(originals) == 0 || string(originals[0].Content) != want {
			t.Errorf("target %d: %+v, %v", i+1, originals, err)
		}
	}
	if err := Undo(t.Context(), s.journal+"-3", nil, nil); err != nil {
		t.Error(err)
	}
	if err := Undo(t.Context(), s.journal+"-2", nil, nil); err != nil {
		t.Error(err)
	}
	if err := Undo(t.Context(), s.journal, nil, nil); err != nil {
		t.Error(err)
	}
	s.wantFiles("old", "b", "-")
}

func TestTogetherUndoesOneAlone(t *testing.T) {
	s := newThree(t)
	c, prove := s.three(2)
	failed, err := c.ApplyTogether(t.Context(), prove)
	if err != nil || failed[0] != nil || failed[1] != nil || failed[2] == nil {
		t.Fatalf("got %v, %v", failed, err)
	}
	s.wantSteps("test:old", "test:1 2", "reload:1 2", "probe:1 2", "test:1 2", "reload:1 2")
	s.wantFiles("1 2", "b2", "-")
	if originals, err := Originals(t.Context(), s.journal+"-3"); err != nil || len(originals) != 0 {
		t.Errorf("the one that failed has an undo record: %+v, %v", originals, err)
	}
}

func TestTogetherEntangled(t *testing.T) {
	s := newThree(t)
	c, prove := s.three(1)
	failed, err := c.ApplyTogether(t.Context(), prove)
	if !errors.Is(err, ErrLeaveOut) || len(failed) != 3 || failed[1] == nil || failed[0] != nil {
		t.Fatalf("got %v, %v", failed, err)
	}
	s.wantFiles("old", "b", "-")
	s.wantIdle()
}

func TestTogetherRefused(t *testing.T) {
	s := newThree(t)
	s.fail["test#2"] = errors.New("boom")
	c, prove := s.three()
	_, err := c.ApplyTogether(t.Context(), prove)
	if refused := (*installers.RefusedEditError)(nil); !errors.As(err, &refused) {
		t.Errorf("got %v", err)
	}
	s.wantSteps("test:old", "test:1 2")
	s.wantFiles("old", "b", "-")
}

// TestTogetherEndsAnywhere takes the disk away before each step in turn, as a kill does. What is found afterwards is all
// of the change or nothing, and every target can be installed and uninstalled.
func TestTogetherEndsAnywhere(t *testing.T) {
	gone := errors.New("gone")
	for turn, done := 1, false; !done; turn++ {
		s := newThree(t)
		var count atomic.Int64 // the journals are committed side by side
		c, _ := s.three()
		c.guard = func(string, string) error {
			if count.Add(1) >= int64(turn) {
				return gone
			}
			return nil
		}
		step := func(context.Context) error { return c.guard("", "") }
		c.Test, c.Reload = step, step
		_, err := c.ApplyTogether(t.Context(), func(ctx context.Context) []error { return []error{step(ctx), nil, nil} })
		done = count.Load() < int64(turn)
		if done && err != nil {
			t.Fatal(err)
		}
		for _, j := range s.journals() {
			if err := Recover(t.Context(), j, nil); err != nil {
				t.Fatalf("step %d: %v", turn, err)
			}
		}
		if now := s.read("site.conf") + s.read("b.conf") + s.read("c.conf"); now != "oldb-" && now != "1 2b2c3" {
			t.Fatalf("step %d leaves %q", turn, now)
		}
		if s.read("site.conf") == "old" {
			again, prove := s.three()
			if failed, err := again.ApplyTogether(t.Context(), prove); errors.Join(append(failed, err)...) != nil {
				t.Fatalf("step %d: again: %v, %v", turn, failed, err)
			}
		}
		journals := s.journals()
		for i := len(journals) - 1; i >= 0; i-- {
			if err := Undo(t.Context(), journals[i], nil, nil); err != nil {
				t.Fatalf("step %d: undo: %v", turn, err)
			}
		}
		s.wantFiles("old", "b", "-")
		if names, _ := filepath.Glob(filepath.Join(s.dir, "*tmp*")); len(names) > 0 {
			t.Errorf("step %d leaves %s", turn, strings.Join(names, " "))
		}
	}
}
