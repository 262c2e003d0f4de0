package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Installer keeps one certificate of one HAProxy. It is safe for concurrent use.
type Installer struct {
	config    Config
	target    installers.Target
	server    *installers.Server
	api       api
	endpoints []endpoint.Endpoint
}

var (
	_ installers.Installer   = (*Installer)(nil)
	_ installers.Uninstaller = (*Installer)(nil)
	_ installers.Previewer   = (*Installer)(nil)
	_ installers.Recoverer   = (*Installer)(nil)
)

// New makes the installer of a valid configuration. It touches neither network nor disk. Targets with the same
// [Config.ServerKey] share one Server in t: HAProxy takes one change at a time.
func New(c Config, t installers.Target) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	endpoints, err := endpoint.ParseAll(c.Verify, t.Names)
	if err != nil {
		return nil, err
	}
	p := &Installer{config: c, target: t, server: t.Server, api: api{c.Socket}, endpoints: endpoints}
	if p.server == nil {
		p.server = NewServer(c)
	}
	return p, nil
}

// Install writes the file, hands it to the running HAProxy and looks at the endpoints. When the file is up to date,
// HAProxy gets it again only if an endpoint serves something else.
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

// Verify compares the file with b and looks at each endpoint.
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

// Uninstall gives the file the content that it had before the first Install, or removes it, and hands HAProxy the old
// certificate.
func (p *Installer) Uninstall(ctx context.Context) error {
	return change.Undo(ctx, p.target.Journal, nil, p.update)
}

// Recover puts back what a killed Install left, in the file and in HAProxy.
func (p *Installer) Recover(ctx context.Context) error {
	return change.Recover(ctx, p.target.Journal, p.update)
}

func (p *Installer) change(b *certs.Bundle) (*change.Change, error) {
	owner, err := change.LookupOwner(p.config.Owner, p.config.Group)
	if err != nil {
		return nil, err
	}
	mode, err := p.config.mode()
	if err != nil {
		return nil, err
	}
	edit := &change.Change{Journal: p.target.Journal, Reload: p.update}
	edit.Probe = func(ctx context.Context) error { return p.probe(ctx, b) }
	for suffix, unit := range units(b) {
		if len(unit.KeyPEM) == 0 {
			return nil, errors.New("HAProxy needs the private key, which acmed does not have for a certificate from a CSR")
		}
		edit.Files = append(edit.Files, change.File{
			Path: p.config.File + suffix, Content: append(unit.FullChainPEM(), unit.KeyPEM...), Secret: true, Mode: mode, Owner: owner,
		})
	}
	return edit, nil
}

// settle is how long HAProxy gets before it is asked a second time.
const settle = 3 * time.Second

// probe waits until HAProxy serves b. A master process that is still busy with an earlier reload loses the signal for the
// next one, so it is asked once more.
func (p *Installer) probe(ctx context.Context, b *certs.Bundle) error {
	if endpoint.Verify(ctx, p.endpoints, b, min(settle, p.config.VerifyTimeout)) == nil {
		return nil
	}
	if err := p.update(ctx); err != nil {
		return err
	}
	return endpoint.Verify(ctx, p.endpoints, b, p.config.VerifyTimeout)
}

// units yields a bundle, or the two halves of a dual unit, with the suffix by which HAProxy knows their files.
func units(b *certs.Bundle) func(yield func(string, *certs.Bundle) bool) {
	return func(yield func(string, *certs.Bundle) bool) {
		if b.RSA == nil {
			yield("", b)
			return
		}
		if yield(".ecdsa", b) {
			yield(".rsa", b.RSA)
		}
	}
}

// update makes the running HAProxy serve what the files hold now: after an edit the new certificate, after a failure the
// old one. Without a runtime API, HAProxy is reloaded, if it runs.
func (p *Installer) update(ctx context.Context) error {
	unlock, err := p.server.Lock(ctx)
	if err != nil {
		return err
	}
	err = p.push(ctx)
	unlock()
	var none *unavailableError
	if !errors.As(err, &none) {
		return err
	}
	if err := p.server.Reload(ctx); err != nil {
		return fmt.Errorf("%w (%w)", err, none)
	}
	return nil
}

// push hands over each file that exists, and takes back the files of a directory that exist no more.
func (p *Installer) push(ctx context.Context) error {
	var errs []error
	for _, suffix := range []string{"", ".ecdsa", ".rsa"} {
		name := p.config.Name + suffix
		content, err := os.ReadFile(p.config.File + suffix)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			err = p.api.remove(ctx, name)
		case err == nil:
			err = p.api.put(ctx, name, content)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
