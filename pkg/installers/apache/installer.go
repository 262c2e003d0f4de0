package apache

import (
	"context"
	"errors"
	"fmt"

	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Installer makes one Apache serve one certificate. It is safe for concurrent use.
type Installer struct {
	cfg    Config
	target installers.Target
	names  []certs.Identifier
	server *installers.Server
}

var (
	_ installers.Installer   = (*Installer)(nil)
	_ installers.Uninstaller = (*Installer)(nil)
	_ installers.Previewer   = (*Installer)(nil)
	_ installers.Recoverer   = (*Installer)(nil)
)

// New makes an installer. It touches neither network nor disk. Targets of the same Apache (see [Config.ServerKey]) must
// share the target's Server, so that their edits do not meet; without one the installer makes its own.
func New(cfg Config, t installers.Target) (*Installer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	names, err := t.Select(cfg.Names)
	if err != nil {
		return nil, err
	}
	a := &Installer{cfg: cfg.withDefaults(), target: t, names: names, server: t.Server}
	if a.server == nil {
		a.server = NewServer(cfg)
	}
	return a, nil
}

// attempts is how often a plan is made again because somebody edited a file between reading and writing it. An operator
// at work saves every few seconds, not every few milliseconds.
const attempts = 3

// Install points Apache at the lineage where it does not point there yet, then tests, reloads and proves it by a
// handshake for every name. After a renewal there is nothing to edit.
//
// A configuration that Apache refuses before anything was touched, or with which it would not survive a reload, is an
// [*installers.BrokenServerError], a stopped Apache an [*installers.NotRunningError], and what cannot be edited safely a
// [*SyntaxError] with file and line. When the probe fails the error ends in what Apache has logged since.
func (a *Installer) Install(ctx context.Context, b *certs.Bundle) error {
	if err := a.target.CheckLive(b); err != nil {
		return err
	}
	var err error
	for range attempts {
		err = a.install(ctx, b)
		if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (a *Installer) install(ctx context.Context, b *certs.Bundle) error {
	unlock, err := a.server.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := a.Recover(ctx); err != nil {
		return err
	}
	if err := a.dropTwin(ctx, b); err != nil {
		return err
	}
	p, files, err := a.plan(ctx, b)
	if err != nil {
		return err
	}
	trial := &trial{a: a, before: p.m}
	if len(files) == 0 {
		unlock()
		if trial.endpoints, err = a.endpoints(ctx); err != nil {
			return err
		}
	}
	log := installers.LogTail{Path: p.m.errorLog}
	edit := change.Change{
		Journal: a.target.Journal,
		Files:   files,
		Always:  true,
		Test:    trial.test,
		Reload: func(ctx context.Context) error {
			log.Mark()
			return a.server.Reload(ctx)
		},
		Probe: func(ctx context.Context) error {
			return log.Explain(endpoint.Verify(ctx, trial.endpoints, b, a.cfg.VerifyTimeout))
		},
	}
	_, err = edit.Apply(ctx)
	return err
}

// dropTwin takes the RSA pair of a dual unit out of acmed's own lines when the certificate has become a single one: Apache
// cannot read its configuration once the files are gone.
func (a *Installer) dropTwin(ctx context.Context, b *certs.Bundle) error {
	pair := a.target.Pairs(true)[1]
	if b.RSA != nil || exists(pair.Cert) {
		return nil
	}
	originals, err := change.Originals(ctx, a.target.Journal)
	if err != nil {
		return err
	}
	edit := change.Change{Journal: a.target.Journal}
	for _, o := range originals {
		disk, err := installers.ReadRegular(o.Path)
		if err != nil || isLink(o.Path) {
			continue
		}
		if text, found := withoutPair(o.Path, disk, a.target.Certificate, pair); found {
			edit.Files = append(edit.Files, change.File{Path: o.Path, Content: text, Was: change.Hash(disk), Follow: true})
		}
	}
	_, err = edit.Apply(ctx)
	return err
}

// trial is one change while it is tested, before the edit and after it.
type trial struct {
	a         *Installer
	before    *model
	tested    bool
	endpoints []endpoint.Endpoint
}

// test runs the operator's test. After the edit it also asks Apache what has become of the virtual hosts.
func (t *trial) test(ctx context.Context) error {
	if err := t.a.server.Test(ctx); err != nil {
		return err
	}
	if !t.tested {
		t.tested = true
		return nil
	}
	s, err := t.a.look(ctx)
	if err != nil {
		return err
	}
	if err := s.unharmed(t.before); err != nil {
		return err
	}
	t.endpoints, err = s.endpoints()
	return err
}

// Recover settles what a crash left behind.
func (a *Installer) Recover(ctx context.Context) error {
	return change.Recover(ctx, a.target.Journal, a.server.Reload)
}

// plan reads the configuration and decides what changes.
func (a *Installer) plan(ctx context.Context, b *certs.Bundle) (*planner, []change.File, error) {
	p, err := a.planner(ctx, b)
	if err != nil {
		return nil, nil, a.explain(ctx, err)
	}
	files, err := p.make()
	return p, files, err
}

func (a *Installer) planner(ctx context.Context, b *certs.Bundle) (*planner, error) {
	f, err := a.cfg.ask(ctx)
	if err != nil {
		return nil, err
	}
	if err := a.cfg.checkPIDFile(f); err != nil {
		return nil, err
	}
	p := &planner{cfg: a.cfg, target: a.target, names: a.names, bundle: b, files: newLayout(a.cfg.Layout, f.main.path, a.target.Certificate)}
	if p.enable, err = p.files.resolve("ssl", f.modules, f.root, nil); err != nil {
		return nil, err
	}
	if len(p.enable) > 0 {
		if f, err = a.cfg.ask(ctx, p.enable...); err != nil {
			return nil, err
		}
	}
	for id, wanted := range map[string]bool{"headers": a.cfg.HSTS > 0, "rewrite": a.cfg.Redirect} {
		if !wanted {
			continue
		}
		if p.enable, err = p.files.resolve(id, f.modules, f.root, p.enable); err != nil {
			return nil, err
		}
	}
	p.m, err = buildModel(f, a.target.Certificate)
	return p, err
}

// explain turns the failure to plan into that of Apache itself where it cannot read the configuration either.
func (a *Installer) explain(ctx context.Context, err error) error {
	var failed *installers.CommandError
	if !errors.As(err, &failed) || ctx.Err() != nil {
		return err
	}
	if broken := a.server.Test(ctx); broken != nil && ctx.Err() == nil {
		return &installers.BrokenServerError{Err: broken}
	}
	return err
}

// look asks what the configuration as it stands makes of the names.
func (a *Installer) look(ctx context.Context) (*served, error) {
	m, err := a.model(ctx, "")
	if err != nil {
		return nil, err
	}
	return &served{cfg: a.cfg, m: m, target: a.target, names: a.names}, nil
}

// model reads the configuration as it stands, without what acmed wrote for a certificate unless that is "".
func (a *Installer) model(ctx context.Context, without string) (*model, error) {
	f, err := a.cfg.ask(ctx)
	if err != nil {
		return nil, err
	}
	return buildModel(f, without)
}

func (a *Installer) endpoints(ctx context.Context) ([]endpoint.Endpoint, error) {
	s, err := a.look(ctx)
	if err != nil {
		return nil, err
	}
	return s.endpoints()
}

// Verify connects once to every endpoint and returns nil when all serve b.
func (a *Installer) Verify(ctx context.Context, b *certs.Bundle) error {
	endpoints, err := a.endpoints(ctx)
	if err != nil {
		return err
	}
	return endpoint.Verify(ctx, endpoints, b, 0)
}

// Preview shows what Install would change.
func (a *Installer) Preview(ctx context.Context, b *certs.Bundle) (string, error) {
	_, files, err := a.plan(ctx, b)
	if err != nil {
		return "", err
	}
	text, err := (&change.Change{Journal: a.target.Journal, Files: files}).Diff()
	if err != nil {
		return "", fmt.Errorf("compare: %w", err)
	}
	return text, nil
}
