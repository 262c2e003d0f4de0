package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/proxy"
	"github.com/acmed/acmed/internal/systemd"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/apache"
	"github.com/acmed/acmed/pkg/installers/command"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/installers/haproxy"
	"github.com/acmed/acmed/pkg/installers/helper"
	"github.com/acmed/acmed/pkg/installers/imperva"
	"github.com/acmed/acmed/pkg/installers/nginx"
	"github.com/acmed/acmed/pkg/installers/ssh"
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
	member  *member                                                      // of a fleet; nil on a single machine
	observe func(issuer, endpoint string, took time.Duration, err error) // told about every request to a CA

	http    map[string]*http01.Responder
	alpn    map[string]*tlsalpn01.Responder
	servers map[string]*installers.Server
	hosts   map[string]*ssh.Host
	anchors *anchors
	records *dns01.Locks
	journal *dns01.Journal // of all dns-01 solvers: whoever opens one sweeps what others are writing
	files   *http01.Tokens
	sockets []systemd.Socket // from systemd, in the place of the addresses of solvers

	rungs   map[string]challenges.Rung
	issuers map[string]madeIssuer
	retired []*issuer.Issuer // replaced by a reload; closed at the end, because jobs may still use them
}

// wiring is what a configuration asks for, made and not in use yet.
type wiring struct {
	set     *renewal.Set
	rungs   map[string]challenges.Rung
	issuers map[string]madeIssuer
}

// madeIssuer is an issuer with what it was made from. It lives through reloads that do not concern it: it owns its
// account, and knows nonces and connections of its CA.
type madeIssuer struct {
	*issuer.Issuer
	conf     config.Issuer
	digest   string   // of conf with the contents of its files
	contacts []string // of all issuers at this directory
	agree    bool
	solvers  []config.Solver
	probe    config.Probe
}

func newBuilder(s *store.Store, log *zap.Logger, version string) *builder {
	return &builder{
		store: s, log: log, version: version, http: map[string]*http01.Responder{}, alpn: map[string]*tlsalpn01.Responder{},
		servers: map[string]*installers.Server{}, hosts: map[string]*ssh.Host{}, anchors: &anchors{log: log}, records: &dns01.Locks{}, issuers: map[string]madeIssuer{},
		observe: func(string, string, time.Duration, error) {},
	}
}

// close closes the issuers, which waits for answers that are still being taken away, and then the responders.
func (b *builder) close() error {
	var errs []error
	for _, made := range b.issuers {
		b.retired = append(b.retired, made.Issuer)
	}
	for _, i := range b.retired {
		errs = append(errs, i.Close())
	}
	for _, r := range b.http {
		errs = append(errs, r.Close())
	}
	for _, r := range b.alpn {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// build makes everything that c asks for. It touches no network, and nothing that is in use: [builder.use] does, or
// [builder.discard] drops it.
func (b *builder) build(c *config.Config) (_ *wiring, err error) {
	set := &renewal.Set{
		Certificates: make(map[string]renewal.Certificate, len(c.Certificates)), Issuers: map[string]renewal.Issuer{},
		Notifier: notify.Log{Logger: b.log}, Concurrency: c.Renewal.Concurrency, Keep: c.Renewal.Keep,
	}
	solvers, err := b.solvers(c)
	if err != nil {
		return nil, err
	}
	issuers, known := map[string]madeIssuer{}, digests{}
	defer func() {
		if err != nil {
			b.discard(issuers)
		}
	}()
	for i := range c.Certificates {
		spec := c.Spec(&c.Certificates[i])
		targets, err := b.targets(c, &c.Certificates[i])
		if err != nil {
			return nil, fmt.Errorf("certificates[%s]: %w", spec.Name, err)
		}
		clients, err := b.clients(c, &c.Certificates[i])
		if err != nil {
			return nil, fmt.Errorf("certificates[%s]: %w", spec.Name, err)
		}
		set.Certificates[spec.Name] = renewal.Certificate{
			Spec: spec, Targets: targets, Hooks: hooks(c.Certificates[i].Hooks, target(c, &spec), nodeOf(c)), Clients: clients, TLSA: tlsa(c, &c.Certificates[i], solvers),
			Asked: known.asked(c, &spec), AskedOf: known.targets(&spec, c.Certificates[i].Install),
		}
		if err := b.addIssuers(c, spec.Issuers, solvers, known, issuers); err != nil {
			return nil, err
		}
	}
	set.Revoke, set.Chains = revoker(issuers), chains(issuers)
	set.Forewarn, set.ClockOffsets = b.forewarn(solvers, issuers), clockOffsets(issuers)
	for name, made := range issuers {
		set.Issuers[name] = explained{made, c, solvers}
	}
	return &wiring{set, solvers, issuers}, nil
}

// use puts what was built in the place of what is in use.
func (b *builder) use(w *wiring) {
	for name, made := range b.issuers {
		if w.issuers[name].Issuer != made.Issuer {
			b.retired = append(b.retired, made.Issuer)
		}
	}
	b.issuers, b.rungs = w.issuers, w.rungs
}

// discard closes the issuers that were built and are not in use.
func (b *builder) discard(issuers map[string]madeIssuer) {
	for name, made := range issuers {
		if b.issuers[name].Issuer != made.Issuer {
			_ = made.Close() // it never did anything
		}
	}
}

// addIssuers makes the named issuers, or takes over those of the configuration before.
func (b *builder) addIssuers(c *config.Config, names []string, solvers map[string]challenges.Rung, known digests, into map[string]madeIssuer) error {
	for _, name := range names {
		if _, ok := into[name]; ok {
			continue
		}
		conf, ok := c.Issuer(name)
		if !ok {
			return fmt.Errorf("issuer %q is not configured", name)
		}
		made := madeIssuer{conf: conf, digest: known.of("issuer "+name, conf), contacts: contacts(c, conf.Directory), agree: c.AgreeTOS || conf.Private, solvers: c.Solvers, probe: c.Probe}
		if old := b.issuers[name]; reflect.DeepEqual(made, madeIssuer{nil, old.conf, old.digest, old.contacts, old.agree, old.solvers, old.probe}) {
			into[name] = old
			continue
		}
		var err error
		if made.Issuer, err = b.issuer(made, solvers); err != nil {
			return fmt.Errorf("issuers[%s]: %w", name, err)
		}
		into[name] = made
	}
	return nil
}

// contacts lists the mail addresses of all issuers at a directory, so that the account of one of them is not taken for
// another.
func contacts(c *config.Config, directory string) []string {
	list := []string{}
	for _, name := range c.IssuerNames() {
		if other, ok := c.Issuer(name); ok && other.Directory == directory && !slices.Contains(list, other.Email) {
			list = append(list, other.Email)
		}
	}
	return list
}

func (b *builder) issuer(made madeIssuer, solvers map[string]challenges.Rung) (*issuer.Issuer, error) {
	conf, policy := made.conf, certs.DefaultPolicy()
	policy.MinLifetime = conf.MinLifetime
	roots, err := conf.Roots()
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	out := issuer.Config{
		Name: conf.Name, Directory: conf.Directory, Contact: conf.Email, Contacts: made.contacts, AgreeTOS: made.agree, Private: conf.Private, Roots: roots, Hosts: conf.Hosts,
		Policy: policy, Store: b.store, Solvers: solvers, Log: b.log, UserAgent: "acmed/" + b.version, OrderBudget: conf.OrdersPer3h,
		Observe: func(endpoint string, took time.Duration, err error) { b.observe(conf.Name, endpoint, took, err) },
	}
	if b.member != nil {
		out.Shared = b.member.shared
	}
	if conf.Preflight != config.PreflightOff {
		out.Preflight = &issuer.Preflight{Enforce: conf.Preflight == config.PreflightEnforce, Probe: probeOf(&made.probe)}
	}
	if out.Proxy, err = proxy.URL(conf.Proxy, conf.ProxyAuthFile, config.ReadSecret); err != nil {
		return nil, err
	}
	if conf.EAB != nil {
		hmac, err := conf.EAB.HMAC()
		if err != nil {
			return nil, fmt.Errorf("eab.hmac_file: %w", err)
		}
		out.EAB = &issuer.EAB{KeyID: conf.EAB.KID, HMAC: hmac, Algorithm: conf.EAB.Algorithm}
	}
	return issuer.New(out)
}

func (b *builder) targets(c *config.Config, cert *config.Certificate) (map[string]installers.Installer, error) {
	spec := c.Spec(cert)
	targets := make(map[string]installers.Installer, len(cert.Install))
	for i := range cert.Install {
		id := cert.Install[i].ID()
		t := target(c, &spec)
		t.Journal = journal(c.StateDir, spec.Name, id)
		installer, err := b.installer(c, &cert.Install[i], t)
		if err != nil {
			return nil, fmt.Errorf("install[%s]: %w", id, err)
		}
		targets[id] = installer
	}
	return targets, nil
}

// installer is the list of all plugins.
func (b *builder) installer(all *config.Config, c *config.Install, t installers.Target) (installers.Installer, error) {
	switch {
	case c.Nginx != nil:
		t.Server = b.server(localServer(c))
		return nginx.New(*c.Nginx, t)
	case c.Apache != nil:
		t.Server = b.server(localServer(c))
		return apache.New(*c.Apache, t)
	case c.Helper != nil:
		return helper.New(*c.Helper)
	case c.File != nil:
		if c.File.ServerKey() != "" {
			t.Server = b.server(localServer(c))
		}
		return file.New(*c.File, t)
	case c.HAProxy != nil:
		t.Server = b.server(localServer(c))
		return haproxy.New(*c.HAProxy, t)
	case c.Imperva != nil:
		return imperva.New(all.Imperva(c), t, config.ReadSecret, func(text string) { b.log.Warn(text, zap.String("certificate", t.Certificate)) })
	case c.SSH != nil:
		host := b.host(c.SSH)
		t.Server = b.server("ssh "+c.SSH.ServerID(), func() *installers.Server { return ssh.NewServer(*c.SSH, host) })
		return ssh.New(*c.SSH, t, host)
	case c.Command != nil:
		return command.New(*c.Command, t)
	}
	return nil, errors.New("it has no section")
}

// host returns the one connection to another machine.
func (b *builder) host(c *ssh.Config) *ssh.Host {
	if b.hosts[c.HostID()] == nil {
		b.hosts[c.HostID()] = ssh.NewHost(*c, config.ReadSecret)
	}
	return b.hosts[c.HostID()]
}

// localServer is the server of this machine that a target reloads, with a key that all targets of it share; nil when there is none.
func localServer(in *config.Install) (key string, create func() *installers.Server) {
	switch {
	case in.Nginx != nil:
		return "nginx " + in.Nginx.ServerKey(), func() *installers.Server { return nginx.NewServer(*in.Nginx) }
	case in.Apache != nil:
		return in.Apache.ServerKey(), func() *installers.Server { return apache.NewServer(*in.Apache) }
	case in.HAProxy != nil:
		return "haproxy " + in.HAProxy.ServerKey(), func() *installers.Server { return haproxy.NewServer(*in.HAProxy) }
	case in.File != nil && in.File.ServerKey() != "":
		return in.File.ServerKey(), func() *installers.Server { return file.NewServer(*in.File) }
	}
	return "", nil
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
