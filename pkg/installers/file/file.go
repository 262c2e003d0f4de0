package file

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/fileset"
)

// Installer writes the files of one target. It is safe for concurrent use.
type Installer struct {
	*fileset.Set
	config Config
}

// New makes the installer of a valid configuration. It touches neither network nor disk. Targets with the same
// [Config.ServerKey] share one Server in t, so that they share its reloads.
func New(c Config, t installers.Target) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	server := t.Server
	if server == nil {
		server = NewServer(c)
	}
	set, err := fileset.New(c.settings(), t, server)
	if err != nil {
		return nil, err
	}
	p := &Installer{Set: set, config: c}
	set.Files, set.Shared = p.files, c.AllowSharedDir
	return p, nil
}

// NewServer makes the server that c reloads, nil when there is none. It touches neither network nor disk.
func NewServer(c Config) *installers.Server {
	settings := c.settings()
	return settings.NewServer("")
}

// Examine checks that the directory is there and can be written to, and asks whether the container of the server runs.
func (p *Installer) Examine(ctx context.Context) error {
	info, err := os.Stat(p.config.Dir)
	switch {
	case err != nil:
		return err
	case !info.IsDir():
		return fmt.Errorf("%s is not a directory", p.config.Dir)
	}
	if err := unix.Access(p.config.Dir, unix.W_OK|unix.X_OK); err != nil {
		return fmt.Errorf("write to %s: %w", p.config.Dir, err)
	}
	return p.Set.Examine(ctx)
}

// files lists all files of the target with the content that b gives them, and the names of the RSA twins when b has none.
func (p *Installer) files(b *certs.Bundle) (files []change.File, others []string, err error) {
	password, err := p.config.password()
	if err != nil {
		return nil, nil, err
	}
	for _, f := range p.config.formats() {
		if b.RSA == nil {
			others = append(others, filepath.Join(p.config.Dir, twinName(f.name)))
		}
		for name, unit := range units(f.name, b) {
			path := filepath.Join(p.config.Dir, name)
			content, secret, err := p.encode(f.field, unit, password)
			if err != nil {
				return nil, nil, fmt.Errorf("%s: %w", path, err)
			}
			files = append(files, change.File{Path: path, Content: content, Secret: secret, Shared: p.config.AllowSharedDir})
		}
	}
	return files, others, nil
}

// units yields the bundle under its file name and the RSA twin, if there is one, under its own.
func units(name string, b *certs.Bundle) func(yield func(string, *certs.Bundle) bool) {
	return func(yield func(string, *certs.Bundle) bool) {
		if yield(name, b) && b.RSA != nil {
			yield(twinName(name), b.RSA)
		}
	}
}
