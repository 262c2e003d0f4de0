package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/acmed/acmed/pkg/installers"
)

// Uninstall gives the configuration back. Files that nobody else edited get their old bytes. From the others only what
// acmed wrote is taken, line by line; where that cannot be told from somebody else's edit the error says file and line,
// and nothing at all is changed.
func (n *Installer) Uninstall(ctx context.Context) error {
	unlock, err := n.server.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = change.Undo(ctx, n.target.Journal, n.server.Test, n.server.Reload)
	if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) {
		return err
	}
	originals, err := change.Originals(ctx, n.target.Journal)
	if err != nil {
		return err
	}
	var files []change.File
	var errs []error
	for _, o := range originals {
		file, err := n.withdraw(o)
		errs = append(errs, err)
		if file != nil {
			files = append(files, *file)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	edit := change.Change{Journal: n.target.Journal, Files: files}
	if _, err := edit.Apply(ctx); err != nil {
		return err
	}
	if err := change.Forget(ctx, n.target.Journal); err != nil {
		return err
	}
	if err := n.server.Test(ctx); err != nil {
		return fmt.Errorf("acmed's lines are gone, but nginx was not reloaded because its test fails: %w", err)
	}
	err = n.server.Reload(ctx)
	if stopped := (*installers.NotRunningError)(nil); errors.As(err, &stopped) {
		return nil
	}
	return err
}

// withdraw is the file without what acmed wrote; nil when there is nothing of it.
func (n *Installer) withdraw(o change.Original) (*change.File, error) {
	now, err := installers.ReadRegular(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file := &change.File{Path: o.Path, Was: change.Hash(now), Content: o.Content}
	switch {
	case o.Existed && string(now) == string(o.Content):
		return nil, nil
	case !o.Existed && file.Was == o.Written:
		file.Remove = true
	case !o.Existed:
		return nil, &installers.ConflictError{Path: o.Path, Reason: "acmed made this file and somebody changed it: remove it by hand"}
	case file.Was != o.Written || o.Edited:
		file.Content, err = n.unmerge(o.Path, o.Content, now)
	}
	return file, err
}
