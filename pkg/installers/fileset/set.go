package fileset

import (
	"context"
	"path/filepath"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// Set installs the files of one target. It is safe for concurrent use. A plugin embeds it and sets what differs.
type Set struct {
	Settings
	Server    *installers.Server // reloaded for its targets together; nil when there is none
	Journal   string
	Disk      change.Disk // where the files are; nil is this machine
	Shared    bool        // the operator allows a directory in which others can write
	Endpoints []endpoint.Endpoint

	// Files lists all files of a bundle with their content, and the paths of those that a bundle of another kind has: they
	// are removed where they still are as acmed wrote them.
	Files func(b *certs.Bundle) (files []change.File, others []string, err error)
	// Push hands the files to the running server without a reload; may be nil. Where that needs a reload, unread is why.
	Push func(context.Context) (unread, err error)
	// Probe waits until b is served after a reload, with the help of verify, which gives the endpoints some time; nil gives
	// them all that the settings allow.
	Probe func(ctx context.Context, verify func(wait time.Duration) error) error
	// Check is a further look at what the endpoints serve, after all others; may be nil.
	Check func(ctx context.Context, b *certs.Bundle) error
}

var (
	_ installers.Installer   = (*Set)(nil)
	_ installers.Uninstaller = (*Set)(nil)
	_ installers.Previewer   = (*Set)(nil)
	_ installers.Recoverer   = (*Set)(nil)
	_ installers.Examiner    = (*Set)(nil)
)

// New makes a set of a valid configuration; the plugin adds Files. Targets of one server share it, so that what they want at
// one time is done in one round. It touches neither network nor disk.
func New(s Settings, t installers.Target, server *installers.Server) (*Set, error) {
	endpoints, err := endpoint.ParseAll(s.Verify, t.Names)
	if err != nil {
		return nil, err
	}
	if server != nil {
		change.JournalsOf(server).Add(t.Journal)
	}
	return &Set{Settings: s, Server: server, Journal: t.Journal, Endpoints: endpoints}, nil
}

// Install writes the files, reloads and looks at the endpoints, together with other targets of the server that are ready.
// When all files are up to date it reloads only if an endpoint still serves something else.
func (s *Set) Install(ctx context.Context, b *certs.Bundle) (err error) {
	t := &task{Set: s, bundle: b}
	if s.Server != nil {
		return s.Server.Together(ctx, t, runRound)
	}
	t.finish = func(failed error) { err = failed }
	run(ctx, []*task{t})
	return err
}

// Update makes the server read the files as they are now.
func (s *Set) Update(ctx context.Context) error { return update(ctx, []*task{{Set: s}}) }

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
func (s *Set) Uninstall(ctx context.Context) error {
	return change.UndoOn(ctx, s.Disk, s.Journal, s.Update)
}

// Recover puts back what a killed Install left.
func (s *Set) Recover(ctx context.Context) error {
	return change.RecoverOn(ctx, s.Disk, s.Journal, s.Update)
}

// Examine asks whether the container of the server runs, if it is in one.
func (s *Set) Examine(ctx context.Context) error {
	if s.Container == nil {
		return nil
	}
	return s.Container.examine(ctx)
}

func (s *Set) change(ctx context.Context, b *certs.Bundle) (*change.Change, error) {
	files, err := s.list(ctx, b)
	return &change.Change{Journal: s.Journal, Files: files, Disk: s.Disk}, err
}

// list is what becomes of each file.
func (s *Set) list(ctx context.Context, b *certs.Bundle) ([]change.File, error) {
	files, others, err := s.Files(b)
	if err != nil {
		return nil, err
	}
	if err := s.own(files); err != nil {
		return nil, err
	}
	gone, err := s.abandoned(ctx, others)
	return append(files, gone...), err
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
		dir, err := atomicfile.Resolve(filepath.Dir(path))
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

func (s *Set) check(ctx context.Context, b *certs.Bundle) error {
	if s.Check == nil {
		return nil
	}
	return s.Check(ctx, b)
}
