package ssh

import (
	"context"
	"fmt"
	"path"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/fileset"
)

// Installer writes the files of one target. It is safe for concurrent use.
type Installer struct {
	*fileset.Set
	config Config
	host   *Host
}

// New makes the installer of a valid configuration. It touches neither network nor disk. Targets with the same
// [Config.HostID] share one host, and those with the same [Config.ServerID] one Server in t.
func New(c Config, t installers.Target, host *Host) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	server := t.Server
	if server == nil {
		server = NewServer(c, host)
	}
	set, err := fileset.New(c.settings(), t, server)
	if err != nil {
		return nil, err
	}
	p := &Installer{Set: set, config: c, host: host}
	set.Files, set.Disk = p.files, host
	return p, nil
}

// NewServer makes what the targets of one host share that run the same command there; nil without a command.
func NewServer(c Config, host *Host) *installers.Server {
	if len(c.Reload) == 0 {
		return nil
	}
	return installers.NewServerElsewhere(c.Host, func(ctx context.Context) error { return host.run(ctx, c.Reload) })
}

// Install writes the files, runs the command and looks at the endpoints.
func (p *Installer) Install(ctx context.Context, b *certs.Bundle) error {
	defer p.host.use()()
	return p.Set.Install(ctx, b)
}

// Verify compares the files with b and looks at each endpoint.
func (p *Installer) Verify(ctx context.Context, b *certs.Bundle) error {
	defer p.host.use()()
	return p.Set.Verify(ctx, b)
}

// Preview shows what Install would change.
func (p *Installer) Preview(ctx context.Context, b *certs.Bundle) (string, error) {
	defer p.host.use()()
	return p.Set.Preview(ctx, b)
}

// Examine connects, which checks the host key and the login, and asks whether the directory is there and can be written to.
func (p *Installer) Examine(context.Context) error {
	defer p.host.use()()
	return p.host.explain(p.config.Dir, p.host.with(func(c *connection) error { return c.files.examine(p.config.Dir) }))
}

// Uninstall gives every file the content that it had before the first Install, and removes those that did not exist.
func (p *Installer) Uninstall(ctx context.Context) error {
	defer p.host.use()()
	return p.Set.Uninstall(ctx)
}

// Recover puts back what a killed Install left. It connects only if there is something.
func (p *Installer) Recover(ctx context.Context) error {
	defer p.host.use()()
	return p.Set.Recover(ctx)
}

func (p *Installer) files(b *certs.Bundle) (files []change.File, others []string, err error) {
	for _, f := range p.config.formats() {
		list := []struct {
			name string
			unit *certs.Bundle
		}{{f.name, b}, {rsaName(f.name), b.RSA}}
		for _, one := range list {
			at := path.Join(p.config.Dir, one.name)
			if one.unit == nil {
				others = append(others, at)
				continue
			}
			content, secret := encode(f.field, one.unit)
			if secret && len(one.unit.KeyPEM) == 0 {
				return nil, nil, fmt.Errorf("%s: %s needs the private key, which acmed does not have for a certificate from a CSR", at, f.field)
			}
			files = append(files, change.File{Path: at, Content: content, Secret: secret})
		}
	}
	return files, others, nil
}

func encode(field string, b *certs.Bundle) (content []byte, secret bool) {
	switch field {
	case "cert":
		return b.CertPEM, false
	case "chain":
		return b.ChainPEM, false
	case "fullchain":
		return b.FullChainPEM(), false
	case "key":
		return b.KeyPEM, true
	}
	return append(b.FullChainPEM(), b.KeyPEM...), true
}
