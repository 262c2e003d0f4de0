package nginx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Installer makes one nginx serve one certificate. It is safe for concurrent use.
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
)

// New makes an installer. It touches neither network nor disk. Targets of the same nginx (see [Config.ServerKey]) must
// share the target's Server, so that their edits do not meet; without one the installer makes its own.
func New(cfg Config, t installers.Target) (*Installer, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if err := certs.CheckName(t.Certificate); err != nil {
		return nil, err
	}
	n := &Installer{cfg: cfg.withDefaults(), target: t, server: t.Server}
	names := cfg.Names
	if len(names) == 0 {
		for _, id := range t.Names {
			names = append(names, id.Value)
		}
	}
	for _, text := range names {
		id, _, err := certs.ParseIdentifier(text)
		if err != nil {
			return nil, fmt.Errorf("names: %w", err)
		}
		if !covered(id, t.Names) {
			return nil, fmt.Errorf("names: %q is not in the certificate %q", id.Value, t.Certificate)
		}
		n.names = append(n.names, id)
	}
	if len(n.names) == 0 {
		return nil, fmt.Errorf("the certificate %q has no names", t.Certificate)
	}
	if n.server == nil {
		n.server = NewServer(cfg)
	}
	return n, nil
}

// covered reports whether a certificate for the names is valid for id (RFC 6125 section 6.4.3: a wildcard stands for one
// label).
func covered(id certs.Identifier, names []certs.Identifier) bool {
	return slices.ContainsFunc(names, func(n certs.Identifier) bool {
		return n == id || n.IsWildcard() && !id.IsWildcard() && id.Type == certs.DNS && parent(id.Value) == n.Base()
	})
}

// attempts is how often a plan is made again because somebody edited a file between reading and writing it. An operator
// at work saves every few seconds, not every few milliseconds.
const attempts = 3

// Install points nginx at the lineage where it does not point there yet, then tests, reloads and proves it by a
// handshake for every name. After a renewal there is nothing to edit.
//
// A configuration that nginx refuses before anything was touched is an [*installers.BrokenServerError], a stopped nginx an
// [*installers.NotRunningError], and what cannot be edited safely a [*SyntaxError] with file and line. When the probe
// fails the error ends in what nginx has logged since.
func (n *Installer) Install(ctx context.Context, b *certs.Bundle) error {
	if err := n.checkLive(b); err != nil {
		return err
	}
	var err error
	for range attempts {
		err = n.install(ctx, b)
		if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) || ctx.Err() != nil {
			return err
		}
	}
	return err
}

func (n *Installer) install(ctx context.Context, b *certs.Bundle) error {
	unlock, err := n.server.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if err := change.Recover(ctx, n.target.Journal, n.server.Reload); err != nil {
		return err
	}
	plan, log, err := n.plan(ctx, b)
	if err != nil {
		return n.renewOnly(ctx, err)
	}
	if len(plan.files) == 0 {
		unlock()
	}
	edit := change.Change{
		Journal: n.target.Journal,
		Files:   plan.files,
		Always:  true,
		Test:    n.test(plan),
		Reload: func(ctx context.Context) error {
			log.Mark()
			return n.server.Reload(ctx)
		},
		Probe: func(ctx context.Context) error {
			return log.Explain(n.probe(ctx, plan.endpoints, b))
		},
	}
	_, err = edit.Apply(ctx)
	return err
}

// renewOnly handles a configuration in which the names cannot all be served any more, for example because a server
// block was removed. The blocks that were installed before must not keep an old certificate for that: nginx reads the
// renewed one, and the reason is returned.
func (n *Installer) renewOnly(ctx context.Context, reason error) error {
	if ctx.Err() != nil {
		return reason
	}
	if err := n.server.Test(ctx); err != nil {
		return &installers.BrokenServerError{Err: err}
	}
	installed, err := change.Originals(ctx, n.target.Journal)
	if err != nil || len(installed) == 0 && !n.pointed(ctx) {
		return errors.Join(reason, err)
	}
	return errors.Join(reason, n.server.Reload(ctx))
}

// pointed reports whether a server block names the lineage, whoever wrote it.
func (n *Installer) pointed(ctx context.Context) bool {
	p, _, err := n.planner(ctx, &certs.Bundle{RSA: &certs.Bundle{}})
	return err == nil && slices.ContainsFunc(p.m.servers, func(s *server) bool { return slices.ContainsFunc(s.body, p.pointsHere) })
}

// test is nginx's own test. A plan that takes away the only reason for it to fail begins without one.
func (n *Installer) test(p *plan) func(context.Context) error {
	first := p.stale
	return func(ctx context.Context) error {
		if first {
			first = false
			return nil
		}
		return n.server.Test(ctx)
	}
}

// handover is how long the workers of before and after a reload answer side by side: nginx starts the new ones, waits
// 100 ms and then tells the old ones to stop.
const handover = 150 * time.Millisecond

// probe waits until every endpoint serves b, then until only the new workers answer, and looks again.
func (n *Installer) probe(ctx context.Context, endpoints []endpoint.Endpoint, b *certs.Bundle) error {
	if err := endpoint.Verify(ctx, endpoints, b, n.cfg.VerifyTimeout); err != nil {
		return err
	}
	timer := time.NewTimer(handover)
	defer timer.Stop()
	select {
	case <-timer.C:
		return endpoint.Verify(ctx, endpoints, b, n.cfg.VerifyTimeout)
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// plan reads the configuration and decides what changes.
func (n *Installer) plan(ctx context.Context, b *certs.Bundle) (*plan, *installers.LogTail, error) {
	p, info, err := n.planner(ctx, b)
	if err != nil {
		return nil, nil, err
	}
	made, err := p.make()
	if err != nil {
		return nil, nil, err
	}
	return made, newErrorLog(p.tree, info), nil
}

// planner reads the configuration as it is now.
func (n *Installer) planner(ctx context.Context, b *certs.Bundle) (*planner, build, error) {
	info, err := n.cfg.inspect(ctx)
	if err != nil {
		return nil, info, err
	}
	t, err := load(info.config, nil)
	if err != nil {
		return nil, info, err
	}
	m, err := buildModel(t, resolver(ctx))
	if err != nil {
		return nil, info, err
	}
	p := &planner{cfg: n.cfg, target: n.target, names: n.names, bundle: b, tree: t, m: m, http2: info.http2}
	return p, info, nil
}

// resolver asks the system for the addresses of a host name, as nginx does. A name without an address stands for itself:
// nginx's own test refuses it.
func resolver(ctx context.Context) lookup {
	return func(host string) []string {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		addrs, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil || len(addrs) == 0 {
			return []string{host}
		}
		return addrs
	}
}

// lookupTimeout bounds one look-up. Host names in listen directives come from /etc/hosts; others would keep nginx from
// starting whenever the network is not there yet.
const lookupTimeout = 5 * time.Second

// checkLive makes sure that nginx will read the bundle that is being installed, and a key that belongs to it.
func (n *Installer) checkLive(b *certs.Bundle) error {
	if len(b.KeyPEM) == 0 {
		return errors.New("the key of this certificate is not acmed's, so nginx cannot be pointed at it: install it with another plugin")
	}
	bundles := []*certs.Bundle{b, b.RSA}
	for i, p := range (&planner{target: n.target, bundle: b}).pairs() {
		chain, err := installers.ReadRegular(p.cert)
		if err != nil {
			return fmt.Errorf("the active certificate: %w", err)
		}
		key, err := installers.ReadRegular(p.key)
		if err != nil {
			return fmt.Errorf("the active key: %w", err)
		}
		live, err := certs.NewBundle(chain, key)
		if err != nil {
			return fmt.Errorf("%s: %w", p.cert, err)
		}
		if !live.Leaf.Equal(bundles[i].Leaf) {
			return fmt.Errorf("%s is not the certificate that is being installed: activate it first", p.cert)
		}
	}
	return nil
}

// Verify connects once to every endpoint and returns nil when all serve b.
func (n *Installer) Verify(ctx context.Context, b *certs.Bundle) error {
	p, _, err := n.planner(ctx, b)
	if err != nil {
		return err
	}
	finder := picker{m: p.m, port: n.cfg.Listen}
	if p.picks, err = finder.pickAll(n.names); err != nil {
		return err
	}
	for _, k := range p.picks {
		if !k.tls {
			return k.s.d.errorf("this server block does not answer for %q with TLS on port %d", k.names[0], n.cfg.Listen)
		}
	}
	endpoints, err := p.endpoints(p.m)
	if err != nil {
		return err
	}
	return endpoint.Verify(ctx, endpoints, b, 0)
}

// Preview shows what Install would change.
func (n *Installer) Preview(ctx context.Context, b *certs.Bundle) (string, error) {
	plan, _, err := n.plan(ctx, b)
	if err != nil {
		return "", err
	}
	return (&change.Change{Journal: n.target.Journal, Files: plan.files}).Diff()
}
