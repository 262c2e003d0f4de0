package daemon

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/installers/nginx"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

// builder turns a configuration into a set for the engine. What holds a resource of the machine, a listening address or
// a web server, is shared by everything that names it, before and after a reload.
type builder struct {
	store   *store.Store // nil when nothing will run
	log     *zap.Logger
	version string

	http    map[string]*http01.Responder
	alpn    map[string]*tlsalpn01.Responder
	servers map[string]*installers.Server
}

func newBuilder(s *store.Store, log *zap.Logger, version string) *builder {
	return &builder{
		store: s, log: log, version: version, http: map[string]*http01.Responder{}, alpn: map[string]*tlsalpn01.Responder{},
		servers: map[string]*installers.Server{},
	}
}

// close stops the responders.
func (b *builder) close() error {
	var errs []error
	for _, r := range b.http {
		errs = append(errs, r.Close())
	}
	for _, r := range b.alpn {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// build makes everything that c asks for. It touches no network.
func (b *builder) build(c *config.Config) (*renewal.Set, error) {
	set := &renewal.Set{
		Certificates: make(map[string]renewal.Certificate, len(c.Certificates)), Issuers: map[string]renewal.Issuer{},
		Notifier: notify.Log{Logger: b.log}, Concurrency: c.Renewal.Concurrency, Keep: c.Renewal.Keep,
	}
	solvers := map[string]challenges.Rung{}
	for i := range c.Certificates {
		spec := c.Spec(&c.Certificates[i])
		targets, err := b.targets(c, &c.Certificates[i])
		if err != nil {
			return nil, fmt.Errorf("certificates[%s]: %w", spec.Name, err)
		}
		set.Certificates[spec.Name] = renewal.Certificate{Spec: spec, Targets: targets}
		if err := b.solvers(c, spec.Solvers, solvers); err != nil {
			return nil, err
		}
		if err := b.issuers(c, spec.Issuers, solvers, set.Issuers); err != nil {
			return nil, err
		}
	}
	return set, nil
}

func (b *builder) issuers(c *config.Config, names []string, solvers map[string]challenges.Rung, into map[string]renewal.Issuer) error {
	for _, name := range names {
		if into[name] != nil {
			continue
		}
		conf, ok := c.Issuer(name)
		if !ok {
			return fmt.Errorf("issuer %q is not configured", name)
		}
		i, err := b.issuer(conf, c.AgreeTOS, solvers)
		if err != nil {
			return fmt.Errorf("issuers[%s]: %w", name, err)
		}
		into[name] = i
	}
	return nil
}

func (b *builder) issuer(conf config.Issuer, agree bool, solvers map[string]challenges.Rung) (*issuer.Issuer, error) {
	policy := certs.DefaultPolicy()
	policy.MinLifetime = conf.MinLifetime
	out := issuer.Config{
		Name: conf.Name, Directory: conf.Directory, Contact: conf.Email, AgreeTOS: agree || conf.Private, Private: conf.Private,
		Policy: policy, Store: b.store, Solvers: solvers, Log: b.log, UserAgent: "acmed/" + b.version, OrderBudget: conf.OrdersPer3h,
	}
	if conf.CAFile != "" {
		pem, err := os.ReadFile(conf.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		out.Roots = x509.NewCertPool()
		if !out.Roots.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("ca_file: %s has no PEM certificate", conf.CAFile)
		}
	}
	if conf.EAB != nil {
		hmac, err := config.ReadSecret(conf.EAB.HMACFile)
		if err != nil {
			return nil, fmt.Errorf("eab.hmac_file: %w", err)
		}
		out.EAB = &issuer.EAB{KeyID: conf.EAB.KID, HMAC: hmac}
	}
	return issuer.New(out)
}

func (b *builder) solvers(c *config.Config, names []string, into map[string]challenges.Rung) error {
	for _, name := range names {
		if _, ok := into[name]; ok {
			continue
		}
		conf, ok := c.Solver(name)
		if !ok {
			return fmt.Errorf("solver %q is not configured", name)
		}
		solver, err := b.solver(conf)
		if err != nil {
			return fmt.Errorf("solvers[%s]: %w", name, err)
		}
		into[name] = challenges.Rung{Name: name, Solver: solver, Zones: conf.Zones}
	}
	return nil
}

// solver is the list of all kinds of solver.
func (b *builder) solver(conf config.Solver) (challenges.Solver, error) {
	switch {
	case conf.HTTP01 != nil && conf.HTTP01.Webroot != "":
		return http01.NewWebroot(conf.HTTP01.Webroot), nil
	case conf.HTTP01 != nil:
		addr := conf.HTTP01.Listen
		if b.http[addr] == nil {
			b.http[addr] = http01.NewResponder(http01.ResponderConfig{Addr: addr, Log: b.log})
		}
		return b.http[addr], nil
	case conf.TLSALPN01 != nil:
		addr := conf.TLSALPN01.Listen
		if b.alpn[addr] == nil {
			b.alpn[addr] = tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: addr, Log: b.log})
		}
		return b.alpn[addr], nil
	}
	return nil, errors.New("it has no section")
}

func (b *builder) targets(c *config.Config, cert *config.Certificate) (map[string]installers.Installer, error) {
	spec, paths := c.Spec(cert), store.PathsIn(c.StateDir, cert.Name)
	targets := make(map[string]installers.Installer, len(cert.Install))
	for i := range cert.Install {
		id := cert.Install[i].ID()
		installer, err := b.installer(&cert.Install[i], installers.Target{
			Certificate: spec.Name, Names: spec.Identifiers, Cert: paths.Cert, Chain: paths.Chain, FullChain: paths.FullChain, Key: paths.Key,
			Journal: journal(c.StateDir, spec.Name, id),
		})
		if err != nil {
			return nil, fmt.Errorf("install[%s]: %w", id, err)
		}
		targets[id] = installer
	}
	return targets, nil
}

// installer is the list of all plugins.
func (b *builder) installer(c *config.Install, t installers.Target) (installers.Installer, error) {
	switch {
	case c.Nginx != nil:
		t.Server = b.server("nginx "+c.Nginx.ServerKey(), func() *installers.Server { return nginx.NewServer(*c.Nginx) })
		return nginx.New(*c.Nginx, t)
	case c.File != nil:
		return file.New(*c.File, t)
	}
	return nil, errors.New("it has no section")
}

// server returns the one Server for a web server of this machine.
func (b *builder) server(key string, create func() *installers.Server) *installers.Server {
	if b.servers[key] == nil {
		b.servers[key] = create()
	}
	return b.servers[key]
}

// journal is the directory of a target's undo record. The kind keeps it readable, the hash keeps targets apart whose
// paths differ only in characters that a file name cannot have.
func journal(stateDir, certificate, id string) string {
	kind, _, more := strings.Cut(id, ":")
	if more {
		sum := sha256.Sum256([]byte(id))
		kind += "-" + hex.EncodeToString(sum[:6])
	}
	return filepath.Join(stateDir, "installs", certificate, kind)
}
