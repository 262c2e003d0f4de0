package apache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/acmed/acmed/pkg/installers"
)

// Uninstall gives the configuration back. A file that nobody else edited gets its old bytes; from the others only what
// acmed marked is taken, so that later edits stay. What several certificates share stays until the last of them goes.
// Where it cannot be told what is acmed's the error names the file, and nothing at all is changed.
func (a *Installer) Uninstall(ctx context.Context) error {
	unlock, err := a.server.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.Recover(ctx); err != nil {
		return err
	}
	originals, err := change.Originals(ctx, a.target.Journal)
	if err != nil || len(originals) == 0 {
		return err
	}
	w := &withdrawal{certificate: a.target.Certificate}
	var errs []error
	for _, o := range originals {
		errs = append(errs, w.take(o))
	}
	if m, err := a.model(ctx, ""); err == nil {
		errs = append(errs, w.takeShared(m, newLayout(a.cfg.Layout, m.main.path, a.target.Certificate)))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	edit := change.Change{Journal: a.target.Journal, Files: w.files}
	if _, err := edit.Apply(ctx); err != nil {
		return err
	}
	if err := change.Forget(ctx, a.target.Journal); err != nil {
		return err
	}
	return a.reloadAfterUninstall(ctx)
}

func (a *Installer) reloadAfterUninstall(ctx context.Context) error {
	if err := a.server.Test(ctx); err != nil {
		return fmt.Errorf("acmed's lines are gone, but Apache was not reloaded because its test fails: %w", err)
	}
	err := a.server.Reload(ctx)
	if stopped := (*installers.NotRunningError)(nil); errors.As(err, &stopped) {
		return nil
	}
	return err
}

// withdrawal collects what an uninstallation changes.
type withdrawal struct {
	certificate string
	files       []change.File
}

// take plans to undo one entry of the undo record. What may be shared comes later.
func (w *withdrawal) take(o change.Original) error {
	if filepath.Base(o.Path) == sharedName || filepath.Base(filepath.Dir(o.Path)) == "mods-enabled" {
		return nil
	}
	if target, err := os.Readlink(o.Path); err == nil {
		if !o.Existed && o.Written == change.LinkHash(target) {
			w.files = append(w.files, change.File{Path: o.Path, Link: target, Remove: true, Was: o.Written})
		}
		return nil
	}
	now, err := installers.ReadRegular(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	file, err := w.undo(o, now)
	if err == nil && (file.Remove || !bytes.Equal(file.Content, now)) {
		w.files = append(w.files, file)
	}
	return err
}

// undo is what becomes of a file that has the content now.
func (w *withdrawal) undo(o change.Original, now []byte) (change.File, error) {
	file := change.File{Path: o.Path, Was: change.Hash(now), Content: o.Content, Remove: !o.Existed}
	untouched := file.Was == o.Written && !o.Edited
	switch {
	case !o.Existed && !untouched:
		return file, &installers.ConflictError{Path: o.Path, Reason: "acmed made this file and somebody changed it: remove it by hand"}
	case untouched:
		return file, nil
	}
	var err error
	file.Content, _, err = withdraw(o.Path, now, w.certificate)
	return file, err
}

// takeShared plans to take the shared file away, and the modules that it lists, when no other certificate is left. A
// configuration that Apache cannot read keeps them: nobody can tell.
func (w *withdrawal) takeShared(m *model, files *layout) error {
	shared := m.shared(files)
	if shared == nil || m.hasOthers(w.certificate) {
		return nil
	}
	for line := range strings.Lines(string(shared.disk)) {
		if line != sharedHeader && !strings.HasPrefix(line, sharedModules) && !strings.HasPrefix(line, "Listen ") {
			return &installers.ConflictError{Path: shared.real, Reason: "acmed made this file and somebody changed it: take the change out, or remove it by hand"}
		}
	}
	w.files = append(w.files, files.removal(shared)...)
	for _, id := range enabledModules(shared.disk) {
		for _, ext := range []string{".load", ".conf"} {
			link := filepath.Join(files.dir, "mods-enabled", id+ext)
			want := filepath.Join("..", "mods-available", id+ext)
			if target, err := os.Readlink(link); err == nil && target == want {
				w.files = append(w.files, change.File{Path: link, Link: target, Remove: true, Was: change.LinkHash(target)})
			}
		}
	}
	return nil
}

// hasOthers reports whether acmed serves another certificate in this configuration.
func (m *model) hasOthers(certificate string) bool {
	return slices.ContainsFunc(m.order, func(src *source) bool {
		for line := range strings.Lines(string(src.disk)) {
			name, ok := strings.CutPrefix(strings.TrimSpace(line), markBegin)
			if ok && name != certificate {
				return true
			}
		}
		return false
	})
}
