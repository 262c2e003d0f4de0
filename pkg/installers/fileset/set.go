package fileset

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// Set installs the files of one target. It is safe for concurrent use. A plugin embeds it and sets what differs.
type Set struct {
	Settings
	Journal   string
	Shared    bool // the operator allows a directory in which others can write
	Endpoints []endpoint.Endpoint

	// Files lists all files of a bundle with their content, and the paths of those that a bundle of another kind has: they
	// are removed where they still are as acmed wrote them.
	Files func(b *certs.Bundle) (files []change.File, others []string, err error)
	// Reload makes the server read the files; may be nil.
	Reload func(context.Context) error
	// Probe waits until b is served after a reload; nil asks the endpoints.
	Probe func(ctx context.Context, b *certs.Bundle) error
	// Check is a further look at what is served, after all others; may be nil.
	Check func(ctx context.Context, b *certs.Bundle) error
}

var (
	_ installers.Installer   = (*Set)(nil)
	_ installers.Uninstaller = (*Set)(nil)
	_ installers.Previewer   = (*Set)(nil)
	_ installers.Recoverer   = (*Set)(nil)
)

// New makes a set of a valid configuration; the plugin adds Files. It touches neither network nor disk.
func New(s Settings, t installers.Target) (*Set, error) {
	endpoints, err := endpoint.ParseAll(s.Verify, t.Names)
	if err != nil {
		return nil, err
	}
	return &Set{Settings: s, Journal: t.Journal, Endpoints: endpoints}, nil
}

// Install writes the files, reloads and looks at the endpoints. When all files are up to date it reloads only if an
// endpoint still serves something else.
func (s *Set) Install(ctx context.Context, b *certs.Bundle) error {
	edit, err := s.change(ctx, b)
	if err != nil {
		return err
	}
	changed, err := edit.Apply(ctx)
	if err != nil || changed || endpoint.Look(ctx, s.Endpoints, b) == nil {
		return err
	}
	edit.Always = true
	_, err = edit.Apply(ctx)
	return err
}

// Verify compares the files with b and looks at each endpoint.
func (s *Set) Verify(ctx context.Context, b *certs.Bundle) error {
	edit, err := s.change(ctx, b)
	if err != nil {
		return err
	}
	if err := edit.UpToDate(b); err != nil {
		return err
	}
	if err := endpoint.Verify(ctx, s.Endpoints, b, 0); err != nil {
		return err
	}
	return s.check(ctx, b)
}

// Preview shows what Install would change.
func (s *Set) Preview(ctx context.Context, b *certs.Bundle) (string, error) {
	edit, err := s.change(ctx, b)
	if err != nil {
		return "", err
	}
	return edit.Diff()
}

// Uninstall gives every file the content that it had before the first Install, removes those that did not exist, and
// reloads.
func (s *Set) Uninstall(ctx context.Context) error { return change.Undo(ctx, s.Journal, nil, s.Reload) }

// Recover puts back what a killed Install left.
func (s *Set) Recover(ctx context.Context) error { return change.Recover(ctx, s.Journal, s.Reload) }

func (s *Set) change(ctx context.Context, b *certs.Bundle) (*change.Change, error) {
	files, others, err := s.Files(b)
	if err != nil {
		return nil, err
	}
	if err := s.own(files); err != nil {
		return nil, err
	}
	gone, err := s.abandoned(ctx, others)
	if err != nil {
		return nil, err
	}
	files = append(files, gone...)
	edit := &change.Change{Journal: s.Journal, Files: files, Reload: s.Reload}
	if len(s.Endpoints) > 0 {
		edit.Probe = func(ctx context.Context) error { return s.probe(ctx, b) }
	}
	return edit, nil
}

// abandoned are the removals of those paths that hold what acmed last wrote there.
func (s *Set) abandoned(ctx context.Context, paths []string) ([]change.File, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	originals, err := change.Originals(ctx, s.Journal)
	if err != nil {
		return nil, err
	}
	var files []change.File
	for _, path := range paths {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			continue
		}
		at := filepath.Join(dir, filepath.Base(path))
		ours := func(o change.Original) bool {
			content, err := installers.ReadRegular(at)
			return err == nil && o.Path == at && o.Written == change.Hash(content)
		}
		if slices.ContainsFunc(originals, ours) {
			files = append(files, change.File{Path: at, Remove: true, Secret: true, Shared: s.Shared})
		}
	}
	return files, nil
}

func (s *Set) probe(ctx context.Context, b *certs.Bundle) error {
	probe := s.Probe
	if probe == nil {
		probe = s.Await
	}
	if err := probe(ctx, b); err != nil {
		return err
	}
	return s.check(ctx, b)
}

// Await waits until the endpoints serve b.
func (s *Set) Await(ctx context.Context, b *certs.Bundle) error {
	return endpoint.Verify(ctx, s.Endpoints, b, s.wait())
}

func (s *Set) check(ctx context.Context, b *certs.Bundle) error {
	if s.Check == nil {
		return nil
	}
	return s.Check(ctx, b)
}
