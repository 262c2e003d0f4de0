package change

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// durability follows which files and directories have bytes or names that a power loss would take.
type durability struct {
	t       *testing.T
	dirty   map[string]bool
	renames []string
}

func (d *durability) guard(op, name string) error {
	switch op {
	case "create":
		d.none("creating " + name)
		d.dirty[name], d.dirty["."] = true, true
	case "write":
		d.dirty[name] = true
	case "fsync":
		delete(d.dirty, name)
	case "rename":
		for at := range d.dirty {
			if at != "." {
				d.t.Errorf("renaming to %s: %s is not on disk yet", name, at)
			}
		}
		d.dirty["."] = true
		d.renames = append(d.renames, name)
	}
	return nil
}

func (d *durability) none(when string) {
	for _, name := range slices.Sorted(maps.Keys(d.dirty)) {
		d.t.Errorf("%s: %s is not on disk yet", when, name)
	}
}

// step is the test, the reload or the probe of the server: it must see nothing that a power loss would take.
func (d *durability) step(context.Context) error {
	d.none("asking the server")
	return nil
}

// TestDurableJournal: at every point a power loss leaves either the record or all that it needs. Backups are on disk
// before the record that names them, the record before any file of the server, and these before the record that commits.
func TestDurableJournal(t *testing.T) {
	dir := crashSite(t)
	d := &durability{t: t, dirty: map[string]bool{}}
	c := crashChange(dir, &counter{})
	c.Test, c.Reload, c.Probe, c.guard = d.step, d.step, d.step, d.guard
	if _, err := c.Apply(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.none("after Apply")
	first, last := slices.Index(d.renames, "site.conf"), len(d.renames)-1
	if first < 0 || d.renames[last] != journalFile || !slices.Contains(d.renames[:first], journalFile) {
		t.Errorf("written in this order: %v", d.renames)
	}
	begun := slices.Index(d.renames, journalFile)
	for i, name := range d.renames {
		if strings.HasPrefix(name, backupPrefix) && i > begun {
			t.Errorf("the record names %s, which comes later: %v", name, d.renames)
		}
	}
}

// TestPowerLoss: whatever of the last write of the journal was lost, what is left is the record of before, or is refused as
// damaged and touches nothing.
func TestPowerLoss(t *testing.T) {
	t.Parallel()
	lost := errors.New("power lost")
	for _, size := range []int64{0, 1, 100} {
		dir := crashSite(t)
		c := crashChange(dir, &counter{})
		journal := c.Journal
		c.guard = func(op, name string) error { // the temporary of each write keeps only its beginning
			if op == "rename" && name == journalFile {
				temporaries, _ := filepath.Glob(filepath.Join(journal, ".acmed-*"))
				for _, at := range temporaries {
					if err := os.Truncate(at, size); err != nil {
						t.Error(err)
					}
				}
				return lost
			}
			return nil
		}
		c.Test, c.Reload, c.Probe = nil, nil, nil
		if _, err := c.Apply(t.Context()); !errors.Is(err, lost) {
			t.Fatal(err)
		}
		if err := Recover(t.Context(), journal, nil); err != nil {
			t.Errorf("%d bytes left: Recover: %v", size, err)
		}
		if now := files(t, dir); !same(now, oldFiles) {
			t.Errorf("%d bytes left: %v", size, now)
		}
		applyNew(t, dir)
		if now := files(t, dir); !same(now, newFiles) {
			t.Errorf("%d bytes left: the next change: %v", size, now)
		}
	}
}
