package file

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Installer writes the files of one target. It is safe for concurrent use.
type Installer struct {
	config    Config
	target    installers.Target
	server    *installers.Server // nil when nothing is to be reloaded
	endpoints []endpoint.Endpoint
}

var (
	_ installers.Installer   = (*Installer)(nil)
	_ installers.Uninstaller = (*Installer)(nil)
	_ installers.Previewer   = (*Installer)(nil)
	_ installers.Recoverer   = (*Installer)(nil)
)

// New makes the installer of a valid configuration. It touches neither network nor disk. Targets that name the same unit
// should share one Server in t, so that they share its reloads.
func New(c Config, t installers.Target) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	p := &Installer{config: c, target: t, server: t.Server}
	switch {
	case p.server != nil:
	case c.Unit != "":
		reload := installers.SystemdReload(c.Unit)
		reload.Timeout = c.ReloadTimeout
		p.server = installers.NewServer(c.Unit, installers.Command{}, reload, installers.SystemdActive(c.Unit))
	case len(c.Reload) > 0:
		reload := installers.Command{Argv: c.Reload, Timeout: c.ReloadTimeout}
		p.server = installers.NewServer(c.Reload[0], installers.Command{}, reload, nil)
	}
	var err error
	if p.endpoints, err = endpoint.ParseAll(c.Verify, t.Names); err != nil {
		return nil, err
	}
	return p, nil
}

// Install writes the files, reloads and looks at the endpoints. When all files are up to date it reloads only if an
// endpoint still serves something else.
func (p *Installer) Install(ctx context.Context, b *certs.Bundle) error {
	edit, err := p.change(b)
	if err != nil {
		return err
	}
	changed, err := edit.Apply(ctx)
	if err != nil || changed || endpoint.Look(ctx, p.endpoints, b) == nil {
		return err
	}
	edit.Always = true
	_, err = edit.Apply(ctx)
	return err
}

// Verify compares the files with b and looks at each endpoint.
func (p *Installer) Verify(ctx context.Context, b *certs.Bundle) error {
	edit, err := p.change(b)
	if err != nil {
		return err
	}
	if err := edit.UpToDate(b); err != nil {
		return err
	}
	return endpoint.Verify(ctx, p.endpoints, b, 0)
}

// Preview shows what Install would change.
func (p *Installer) Preview(_ context.Context, b *certs.Bundle) (string, error) {
	edit, err := p.change(b)
	if err != nil {
		return "", err
	}
	return edit.Diff()
}

// Uninstall gives every file the content that it had before the first Install, removes those that did not exist, and
// reloads.
func (p *Installer) Uninstall(ctx context.Context) error {
	return change.Undo(ctx, p.target.Journal, nil, p.reload())
}

// Recover puts back what a killed Install left.
func (p *Installer) Recover(ctx context.Context) error {
	return change.Recover(ctx, p.target.Journal, p.reload())
}

func (p *Installer) reload() func(context.Context) error {
	if p.server == nil {
		return nil
	}
	return p.server.Reload
}

func (p *Installer) change(b *certs.Bundle) (*change.Change, error) {
	files, err := p.files(b)
	if err != nil {
		return nil, err
	}
	edit := &change.Change{Journal: p.target.Journal, Files: files, Reload: p.reload()}
	if len(p.endpoints) > 0 {
		edit.Probe = func(ctx context.Context) error {
			return endpoint.Verify(ctx, p.endpoints, b, p.wait())
		}
	}
	return edit, nil
}

func (p *Installer) wait() time.Duration {
	if p.config.VerifyWait > 0 {
		return p.config.VerifyWait
	}
	return defaultWait
}

// files lists all files of the target with the content that b gives them.
func (p *Installer) files(b *certs.Bundle) ([]change.File, error) {
	owner, err := change.LookupOwner(p.config.Owner, p.config.Group)
	if err != nil {
		return nil, err
	}
	secretMode, err := p.config.mode()
	if err != nil {
		return nil, err
	}
	password, err := p.config.password()
	if err != nil {
		return nil, err
	}
	var files []change.File
	for _, f := range p.config.formats() {
		for name, unit := range units(f.name, b) {
			content, secret, err := p.encode(f.field, unit, password)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", filepath.Join(p.config.Dir, name), err)
			}
			mode := publicMode
			if secret {
				mode = secretMode
			}
			files = append(files, change.File{
				Path: filepath.Join(p.config.Dir, name), Content: content, Secret: secret,
				Mode: mode, Owner: owner, Shared: p.config.AllowSharedDir,
			})
		}
	}
	return files, nil
}

// units yields the bundle under its file name and the RSA twin, if there is one, under its own.
func units(name string, b *certs.Bundle) func(yield func(string, *certs.Bundle) bool) {
	return func(yield func(string, *certs.Bundle) bool) {
		if yield(name, b) && b.RSA != nil {
			yield(twinName(name), b.RSA)
		}
	}
}
