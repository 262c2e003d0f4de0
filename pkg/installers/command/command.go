package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// exitLater is EX_TEMPFAIL of sysexits.h: the program wants to be called later.
const exitLater = 75

// Installer runs the program of one target. It is safe for concurrent use; runs of one target follow each other.
type Installer struct {
	config    Config
	target    installers.Target
	endpoints []endpoint.Endpoint
	running   chan struct{} // holds one token while a program of this target runs
}

var (
	_ installers.Installer = (*Installer)(nil)
	_ installers.Examiner  = (*Installer)(nil)
)

// New makes the installer of a valid configuration. It touches neither network nor disk.
func New(c Config, t installers.Target) (*Installer, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	endpoints, err := endpoint.ParseAll(c.Verify, t.Names)
	if err != nil {
		return nil, err
	}
	c.Timeout = cmp.Or(c.Timeout, defaultTimeout)
	c.VerifyTimeout = cmp.Or(c.VerifyTimeout, defaultVerifyTimeout)
	return &Installer{config: c, target: t, endpoints: endpoints, running: make(chan struct{}, 1)}, nil
}

// Examine checks that the programs are there and may be run. It does not run them: what check says of the certificate in use
// is found by Verify.
func (p *Installer) Examine(context.Context) error {
	for _, argv := range [][]string{p.config.Run, p.config.Check} {
		if len(argv) == 0 {
			continue
		}
		if err := vetted.Program(argv[0]); err != nil {
			return err
		}
	}
	return nil
}

// Install runs the program and then looks whether the certificate is in use. With something to look at, it does not run
// the program when that is so already. A program that exits with 75 is a [*installers.LaterError].
func (p *Installer) Install(ctx context.Context, b *certs.Bundle) error {
	select {
	case p.running <- struct{}{}:
		defer func() { <-p.running }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	if p.provable() && errors.Join(p.check(ctx, b), endpoint.Look(ctx, p.endpoints, b)) == nil {
		return nil
	}
	if err := p.run(ctx, p.config.Run, "install", b); err != nil {
		return err
	}
	return errors.Join(p.check(ctx, b), endpoint.Verify(ctx, p.endpoints, b, p.config.VerifyTimeout))
}

// Verify runs the check and looks at each endpoint. Without either, the program's exit code is all there is to know,
// and Verify returns nil.
func (p *Installer) Verify(ctx context.Context, b *certs.Bundle) error {
	return errors.Join(p.check(ctx, b), endpoint.Verify(ctx, p.endpoints, b, 0))
}

func (p *Installer) provable() bool { return len(p.config.Check)+len(p.endpoints) > 0 }

func (p *Installer) check(ctx context.Context, b *certs.Bundle) error {
	if len(p.config.Check) == 0 {
		return nil
	}
	return p.run(ctx, p.config.Check, "check", b)
}

func (p *Installer) run(ctx context.Context, argv []string, event string, b *certs.Bundle) error {
	return run(ctx, argv, p.config.Timeout, environment(p.target, b, event))
}

// Hook runs a program before or after a certificate is renewed.
type Hook struct {
	Argv    []string
	Timeout time.Duration // 0 is five minutes
	Target  installers.Target
	Event   string // "pre" or "post", for ACMED_EVENT
	Node    string // of a fleet, for ACMED_NODE; "": none
}

// Run runs the hook. The bundle is the live one, nil when there is none yet. A program that exits with 75 is a
// [*installers.LaterError].
// More are further variables, NAME=value.
func (h *Hook) Run(ctx context.Context, b *certs.Bundle, more ...string) error {
	env := append(environment(h.Target, b, h.Event), more...)
	if h.Node != "" {
		env = append(env, "ACMED_NODE="+h.Node)
	}
	return run(ctx, h.Argv, cmp.Or(h.Timeout, defaultTimeout), env)
}

func run(ctx context.Context, argv []string, timeout time.Duration, env []string) error {
	_, err := installers.Command{Argv: argv, Env: env, Timeout: timeout}.Run(ctx)
	var failed *installers.CommandError
	if errors.As(err, &failed) && failed.ExitCode == exitLater {
		return &installers.LaterError{Err: err}
	}
	return err
}

// environment is what a program learns about the certificate; see the package comment.
func environment(t installers.Target, b *certs.Bundle, event string) []string {
	names := make([]string, len(t.Names))
	for i, id := range t.Names {
		names[i] = id.Value
	}
	list := strings.Join(names, " ")
	env := []string{
		"ACMED_EVENT=" + event, "ACMED_CERTIFICATE=" + t.Certificate, "ACMED_NAMES=" + list,
		"RENEWED_LINEAGE=" + lineage(t), "RENEWED_DOMAINS=" + list,
	}
	keyless := b != nil && len(b.KeyPEM) == 0
	env = append(env, paths("ACMED_", t, keyless)...)
	env = append(env, "LEGO_CERT_PATH="+t.FullChain, "LEGO_ISSUER_CERT_PATH="+t.Chain)
	if len(names) > 0 {
		env = append(env, "LEGO_CERT_DOMAIN="+names[0])
	}
	if !keyless {
		env = append(env, "LEGO_CERT_KEY_PATH="+t.Key)
	}
	if b == nil {
		return env
	}
	if b.RSA != nil {
		env = append(env, paths("ACMED_RSA_", twin(t), len(b.RSA.KeyPEM) == 0)...)
	}
	return append(env,
		"ACMED_FINGERPRINT="+b.Fingerprint(), "ACMED_SERIAL="+b.Serial(), "ACMED_ISSUER="+b.Issuer,
		"ACMED_NOT_AFTER="+b.Leaf.NotAfter.UTC().Format(time.RFC3339))
}

// lineage is the directory of the files under a path that ends in the name of the certificate, of which certbot's hooks take
// the last part. It is a link, which the directory without it stands in for where none can be made.
func lineage(t installers.Target) string {
	current := filepath.Dir(t.FullChain)
	own := filepath.Dir(current)
	if filepath.Base(own) != t.Certificate || filepath.Base(filepath.Dir(own)) != "certs" {
		return current
	}
	live := filepath.Join(filepath.Dir(filepath.Dir(own)), "live")
	link, target := filepath.Join(live, t.Certificate), filepath.Join("..", "certs", t.Certificate, filepath.Base(current))
	if now, err := os.Readlink(link); err == nil && now == target {
		return link
	}
	if err := os.MkdirAll(live, liveMode); err != nil {
		return current
	}
	if err := atomicfile.Symlink(target, link); err != nil {
		return current
	}
	return link
}

// liveMode lets the group follow the links, as it may read certificates.
const liveMode = 0o750

func paths(prefix string, t installers.Target, keyless bool) []string {
	env := []string{prefix + "CERT=" + t.Cert, prefix + "CHAIN=" + t.Chain, prefix + "FULLCHAIN=" + t.FullChain}
	if keyless {
		return env
	}
	return append(env, prefix+"KEY="+t.Key)
}

// twin has the live paths of the RSA certificate of a dual unit.
func twin(t installers.Target) installers.Target {
	for _, path := range []*string{&t.Cert, &t.Chain, &t.FullChain, &t.Key} {
		ext := filepath.Ext(*path)
		*path = fmt.Sprintf("%s-rsa%s", strings.TrimSuffix(*path, ext), ext)
	}
	return t
}
