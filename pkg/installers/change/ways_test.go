package change

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
)

// The contents of the file of TestEveryStateHasAWayOn.
const (
	original = "by the admin, at first"
	written  = "by acmed"
	edited   = "by acmed, and edited by the admin"
)

// journalStates leave a journal as a process does that ends or is killed there. The file is afterwards as acmed left it.
func journalStates() map[string]func(s *site) {
	killed := errors.New("killed")
	perform := func(s *site, stop func(string) bool) {
		c := s.change(text("site.conf", written))
		c.Test = func(context.Context) error { return nil }
		c.Reload, c.Probe = c.Test, func(context.Context) error { return killed }
		j, err := openJournal(s.t.Context(), s.journal, medium{})
		must(s.t, err)
		defer j.close()
		edits, err := c.plan()
		must(s.t, err, j.begin(edits))
		if stop("before the write") {
			return
		}
		if _, err := c.perform(s.t.Context(), j, edits); !errors.Is(err, killed) {
			s.t.Fatal(err)
		}
	}
	install := func(s *site) {
		_, err := s.change(text("site.conf", written)).Apply(s.t.Context())
		must(s.t, err)
	}
	uninstall := func(s *site, back bool) {
		install(s)
		j, err := openJournal(s.t.Context(), s.journal, medium{})
		must(s.t, err)
		defer j.close()
		must(s.t, j.save(record{Undo: j.record.Undo, Pending: &pending{Undo: true}}))
		if back {
			_, _, err = j.putBack(j.record.Undo)
			must(s.t, err)
		}
	}
	return map[string]func(*site){
		"never installed":                   func(*site) {},
		"install killed before the write":   func(s *site) { perform(s, func(at string) bool { return true }) },
		"install killed before the commit":  func(s *site) { perform(s, func(string) bool { return false }) },
		"installed":                         install,
		"installed over an edit":            func(s *site) { install(s); s.write("site.conf", "an edit", 0o644); install(s) },
		"uninstall killed before the write": func(s *site) { uninstall(s, false) },
		"uninstall killed before the end":   func(s *site) { uninstall(s, true) },
	}
}

// fileStates are what an admin makes of the file afterwards.
func fileStates() map[string]func(s *site) {
	return map[string]func(*site){
		"untouched": func(*site) {},
		"edited":    func(s *site) { s.write("site.conf", edited, 0o644) },
		"restored":  func(s *site) { s.write("site.conf", original, 0o644) },
		"removed":   func(s *site) { must(s.t, os.Remove(s.path("site.conf"))) },
		"a link": func(s *site) {
			s.write("elsewhere", edited, 0o644)
			must(s.t, os.Remove(s.path("site.conf")), os.Symlink("elsewhere", s.path("site.conf")))
		},
		"a directory": func(s *site) {
			must(s.t, os.Remove(s.path("site.conf")), os.Mkdir(s.path("site.conf"), 0o755))
		},
	}
}

// TestEveryStateHasAWayOn crosses every state of the journal with every state of the file and every command that may come
// next. Each command works, or names the file and works when the operator has moved that away, as the error says. Afterwards
// the operator's bytes are in place, moved away, or kept by the journal, and an uninstall leaves nothing of acmed's.
func TestEveryStateHasAWayOn(t *testing.T) {
	commands := map[string]func(*site) error{
		"uninstall": func(s *site) error { return Undo(t.Context(), s.journal, nil, nil) },
		"recover":   func(s *site) error { return Recover(t.Context(), s.journal, nil) },
		"install": func(s *site) error {
			c := s.change(text("site.conf", written))
			c.Test, c.Reload, c.Probe = nil, nil, nil
			_, err := c.Apply(t.Context())
			return err
		},
		"renew --force": func(s *site) error {
			c := s.change(text("site.conf", "renewed by acmed"))
			c.Test, c.Reload, c.Probe, c.Always = nil, nil, nil, true
			_, err := c.Apply(t.Context())
			return err
		},
	}
	for journal, leave := range journalStates() {
		for file, touch := range fileStates() {
			for first, command := range commands {
				t.Run(journal+"/"+file+"/"+first, func(t *testing.T) {
					s := newSite(t, map[string]string{"site.conf": original})
					leave(s)
					touch(s)
					theirs := s.everything()
					s.wayOn(first, command)
					if (file == "edited" || file == "a link") && !strings.Contains(s.everything(), edited) {
						t.Errorf("the edit is lost; before:\n%s\nafter:\n%s", theirs, s.everything())
					}
					s.wayOn("uninstall", commands["uninstall"])
					if entries, err := os.ReadDir(s.journal); err == nil && len(entries) > 0 {
						t.Errorf("left in the journal: %v", entries)
					}
					if got, err := os.ReadFile(s.path("site.conf")); err == nil && (string(got) == written || strings.Contains(string(got), "renewed")) {
						t.Errorf("acmed's content is left after the uninstall: %q", got)
					}
				})
			}
		}
	}
}

// wayOn runs a command until it works. When it names the file, the operator moves that away.
func (s *site) wayOn(name string, command func(*site) error) {
	s.t.Helper()
	err := command(s)
	if err == nil {
		return
	}
	if !strings.Contains(err.Error(), s.path("site.conf")) {
		s.t.Fatalf("%s does not name the file: %v", name, err)
	}
	conflict := (*installers.ConflictError)(nil)
	if name == "uninstall" && !errors.As(err, &conflict) {
		s.t.Errorf("%s: %v, want a conflict", name, err)
	}
	if _, backup, found := strings.Cut(err.Error(), "by the original in "); found && name == "uninstall" {
		backup, _, _ = strings.Cut(backup, ",")
		if content, err := os.ReadFile(backup); err != nil || string(content) != original {
			s.t.Errorf("the error says that the original is in %s, which is %q, %v", backup, content, err)
		}
	}
	must(s.t, os.Rename(s.path("site.conf"), s.path("moved-away-"+name)))
	if err := command(s); err != nil {
		s.t.Fatalf("%s, after the file was moved away: %v", name, err)
	}
}

// everything is the content of all files of the site, and of those that its journal keeps.
func (s *site) everything() string {
	var all strings.Builder
	for _, dir := range []string{s.dir, s.journal} {
		names, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, name := range names {
			if content, err := os.ReadFile(name); err == nil {
				all.WriteString(name + ": " + string(content) + "\n")
			}
		}
	}
	return all.String()
}
