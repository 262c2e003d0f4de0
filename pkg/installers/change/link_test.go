package change

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
)

func readlink(t *testing.T, path string) string {
	t.Helper()
	target, err := os.Readlink(path)
	if err != nil {
		return err.Error()
	}
	return target
}

func TestLinks(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "old"})
	must(t, os.Symlink("site.conf", s.path("taken")))
	link := func(name, target, was string) File { return File{Path: name, Link: target, Was: was} }

	diff, err := s.change(link("new", "site.conf", Absent)).Diff()
	must(t, err)
	if want := "new: absent becomes a symbolic link to site.conf"; !strings.Contains(diff, want) {
		t.Errorf("Diff = %q, want %q in it", diff, want)
	}
	changed, err := s.change(link("new", "site.conf", Absent), link("taken", "elsewhere", LinkHash("site.conf"))).Apply(t.Context())
	must(t, err)
	if !changed || readlink(t, s.path("new")) != "site.conf" || readlink(t, s.path("taken")) != "elsewhere" {
		t.Errorf("changed = %v, new -> %s, taken -> %s", changed, readlink(t, s.path("new")), readlink(t, s.path("taken")))
	}
	if changed, err = s.change(link("new", "site.conf", LinkHash("site.conf"))).Apply(t.Context()); changed || err != nil {
		t.Errorf("a second change = %v, %v", changed, err)
	}
	_, err = s.change(link("new", "elsewhere", Absent)).Apply(t.Context())
	if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) {
		t.Errorf("a change planned without the link = %v", err)
	}

	gone := link("new", "site.conf", LinkHash("site.conf"))
	gone.Remove = true
	_, err = s.change(gone).Apply(t.Context())
	must(t, err)
	s.wantFile("new", "-")
	must(t, Undo(t.Context(), s.journal, nil, nil))
	if got := readlink(t, s.path("taken")); got != "site.conf" {
		t.Errorf("after Undo taken -> %s", got)
	}
	s.wantFile("new", "-")
}

func TestFailedLinks(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "old"})
	must(t, os.Symlink("site.conf", s.path("taken")))
	s.fail["reload"] = errors.New("no")
	c := s.change(File{Path: "new", Link: "site.conf", Was: Absent}, File{Path: "taken", Link: "elsewhere"})
	if _, err := c.Apply(t.Context()); err == nil {
		t.Fatal("the failed reload was not reported")
	}
	s.wantFile("new", "-")
	if got := readlink(t, s.path("taken")); got != "site.conf" {
		t.Errorf("taken -> %s", got)
	}
}
