package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/fileset"
)

// Installer keeps one certificate of one HAProxy. It is safe for concurrent use.
type Installer struct {
	*fileset.Set
	config Config
	server *installers.Server
	api    api
}

// New makes the installer of a valid configuration. It touches neither network nor disk. Targets with the same
// [Config.ServerKey] share one Server in t: HAProxy takes one change at a time.
func New(c Config, t installers.Target) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	c = c.withDefaults()
	set, err := fileset.New(c.settings(), t)
	if err != nil {
		return nil, err
	}
	p := &Installer{Set: set, config: c, server: t.Server, api: api{c.Socket}}
	if p.server == nil {
		p.server = NewServer(c)
	}
	set.Files, set.Reload, set.Probe = p.files, p.update, p.probe
	return p, nil
}

func (p *Installer) files(b *certs.Bundle) (files []change.File, others []string, err error) {
	for suffix, unit := range units(b) {
		if len(unit.KeyPEM) == 0 {
			return nil, nil, errors.New("HAProxy needs the private key, which acmed does not have for a certificate from a CSR")
		}
		files = append(files, change.File{Path: p.config.File + suffix, Content: append(unit.FullChainPEM(), unit.KeyPEM...), Secret: true})
	}
	return files, nil, nil
}

// settle is how long HAProxy gets before it is asked a second time.
const settle = 3 * time.Second

// probe waits until HAProxy serves b. A master process that is still busy with an earlier reload loses the signal for the
// next one, so it is asked once more.
func (p *Installer) probe(ctx context.Context, b *certs.Bundle) error {
	if endpoint.Verify(ctx, p.Endpoints, b, settle) == nil {
		return nil
	}
	if err := p.update(ctx); err != nil {
		return err
	}
	return p.Await(ctx, b)
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
