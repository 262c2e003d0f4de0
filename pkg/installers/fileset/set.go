package fileset

import (
	"bytes"
	"context"
	"crypto/x509"
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
	Journal   string
	Disk      change.Disk // where the files are; nil is this machine
	Shared    bool        // the operator allows a directory in which others can write
	Endpoints []endpoint.Endpoint

	// Files lists all files of a bundle with their content, and the paths of those that a bundle of another kind has: they
	// are removed where they still are as acmed wrote them.
	Files func(b *certs.Bundle) (files []change.File, others []string, err error)
	// Reload makes the server read the files; may be nil.
	Reload func(context.Context) error
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
func (s *Set) Uninstall(ctx context.Context) error {
	return change.UndoOn(ctx, s.Disk, s.Journal, s.Reload)
}

// Recover puts back what a killed Install left.
func (s *Set) Recover(ctx context.Context) error {
	return change.RecoverOn(ctx, s.Disk, s.Journal, s.Reload)
}

// Examine asks whether the container of the server runs, if it is in one.
func (s *Set) Examine(ctx context.Context) error {
	if s.Container == nil {
		return nil
	}
	return s.Container.examine(ctx)
}

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
	edit := &change.Change{Journal: s.Journal, Files: files, Reload: s.Reload, Disk: s.Disk}
	if len(s.Endpoints) > 0 {
		t := trial{set: s, bundle: b}
		edit.Test, edit.Probe = t.survey, t.probe
	}
	return edit, nil
}

// trial is one change, with the clients that could connect before it.
type trial struct {
	set    *Set
	bundle *certs.Bundle
	before *endpoint.Before
}

// survey looks, before the first file is written, who can connect.
func (t *trial) survey(ctx context.Context) error {
	if t.before == nil {
		t.before = endpoint.AskAll(ctx, t.set.Endpoints, t.same)
	}
	return nil
}

// same reports whether nothing changes for clients: the issuer and the kind of key stay.
func (t *trial) same(leaf *x509.Certificate) bool {
	b := t.bundle
	return b.RSA == nil && endpoint.FamilyOf(leaf) == endpoint.FamilyOf(b.Leaf) && bytes.Equal(leaf.RawIssuer, b.Leaf.RawIssuer)
}

func (t *trial) probe(ctx context.Context) error {
	verify := func(wait time.Duration) error { return t.before.Verify(ctx, t.set.Endpoints, t.bundle, wait) }
	var err error
	if t.set.Probe != nil {
		err = t.set.Probe(ctx, verify)
	} else {
		err = verify(t.set.Limit())
	}
	if err == nil {
		err = t.before.Lost(ctx, t.bundle, 0)
	}
	if err == nil {
		err = t.set.check(ctx, t.bundle)
	}
	return err
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
