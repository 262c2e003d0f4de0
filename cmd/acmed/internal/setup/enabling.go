package setup

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/apache"
	"github.com/acmed/acmed/pkg/installers/helper"
	"github.com/acmed/acmed/pkg/installers/nginx"
	"github.com/acmed/acmed/pkg/store"
)

// UsageError is a wish that cannot be fulfilled as it is written.
type UsageError struct{ Err error }

// Error is what is wrong.
func (e *UsageError) Error() string { return e.Err.Error() }

// Unwrap returns it.
func (e *UsageError) Unwrap() error { return e.Err }

func usagef(format string, args ...any) error { return &UsageError{fmt.Errorf(format, args...)} }

// Options are what "acmed enable" was asked for, beside the names. Empty ones keep what an earlier enable set.
type Options struct {
	Main      Main
	Webroot   string
	Listen    string
	Alone     bool
	Solvers   []string
	DNS       *DNS
	Staging   bool
	Directory string
	CAFile    string
	KeyType   string
	Redirect  bool
	HSTS      string
	Expand    bool // add names to a certificate that exists
}

// DNS is a DNS provider whose credentials were given.
type DNS struct {
	Provider string
	Values   map[string]string // by environment variable; nil uses the file that exists
}

// Validates reports whether the options say how names are validated.
func (o *Options) Validates() bool {
	return o.Webroot != "" || o.Alone || o.Listen != "" || len(o.Solvers) > 0 || o.DNS != nil
}

// Wish is one certificate to enable.
type Wish struct {
	Name  string
	Names []string
	Site  *Site                    // nil without a web server
	Root  func(name string) string // the directory from which a name is served; "" when there is none

	Absent []string // names that have no site here

	old      *Dropin        // what an earlier enable wrote
	settings map[string]any // of the web server's section, as planned
	changed  bool           // the certificate existed, and is obtained or validated otherwise now
}

// Enabling is one run of "acmed enable" once it is known what is wanted: Plan, Check and Apply it, then Obtain the
// certificates. Until Apply nothing is written.
type Enabling struct {
	Machine *Machine
	Options Options
	Wishes  []*Wish
	Change  *Change
	Config  *config.Config // with the change; nil before Check
	// Publish gets the TXT records of dns-persist-01 before anything is ordered, and returns when they are published. Optional.
	Publish func(ctx context.Context, records []string) error

	helper *Helper // changes the web server, because the daemon may not; nil: the daemon or this process does
}

// Wish checks the name of a certificate, and that no other one has its names. Without a name it is called after the
// certificate that has one of the names, or after the first of them.
func (m *Machine) Wish(o *Options, name string, names []string, site *Site, root func(string) string) (*Wish, error) {
	w := &Wish{Name: name, Names: names, Site: site, Root: root}
	if w.Name == "" && o.Expand {
		for _, n := range names {
			if c := m.Covering(n); c != nil {
				w.Name = c.Name
				break
			}
		}
	}
	w.Name = cmp.Or(w.Name, strings.TrimPrefix(names[0], "*."))
	if err := certs.CheckName(w.Name); err != nil {
		return nil, usagef("%w; give another one with --name", err)
	}
	for _, n := range names {
		if c := m.Covering(n); c != nil && c.Name != w.Name {
			return nil, usagef("%s is already in the certificate %q; add the other names to that one with --expand, or run 'acmed disable %[2]s' first", n, c.Name)
		}
	}
	var err error
	if w.old, err = m.written(w.Name); err != nil || w.old == nil {
		return w, err
	}
	return w, w.extend(o.Expand)
}

// extend keeps the names of before. Further ones need consent: all clients get another certificate.
func (w *Wish) extend(expand bool) error {
	old := w.old.Certificates[0].Names
	all := slices.Clone(old)
	for _, n := range w.Names {
		switch {
		case slices.Contains(all, n):
		case !expand:
			return usagef("the certificate %q has the names %s; add %s with --expand", w.Name, strings.Join(old, ", "), n)
		default:
			all = append(all, n)
		}
	}
	w.changed = len(all) > len(old)
	w.Names = all
	return nil
}

// Plan makes the files. Nothing is written.
func (e *Enabling) Plan(ctx context.Context) (err error) {
	if err := e.chooseHelper(ctx); err != nil {
		return err
	}
	if e.Change, err = e.Machine.Begin(e.Options.Main); err != nil {
		return err
	}
	issuer := ""
	switch {
	case e.Options.Staging:
		issuer = staging
	case e.Options.Directory != "":
		if issuer, err = e.Machine.CA(e.Change, e.Options.Directory, e.Options.CAFile); err != nil {
			return err
		}
	}
	for _, w := range e.Wishes {
		if err := e.plan(w, issuer); err != nil {
			return err
		}
	}
	return e.Change.Check()
}

// staging is the issuer of a test certificate. It is not kept by a later enable.
const staging = "letsencrypt-staging"

// chooseHelper finds out who changes the web server: a daemon that runs as another user leaves it to acmed-installd.
func (e *Enabling) chooseHelper(ctx context.Context) (err error) {
	state := e.Machine.stateDir(e.Options.Main)
	owner, err := owner(state)
	if err != nil || e.Wishes[0].Site == nil || owner == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		return fmt.Errorf("%s belongs to user %d, and only root may change %s; run this as root: %w", state, owner, e.Wishes[0].Site.Server.Kind, os.ErrPermission)
	}
	if _, err := control.Dial(ctx, config.Socket(e.Machine.Path)); err != nil {
		return fmt.Errorf("%s belongs to user %d, whose daemon must run: systemctl enable --now acmed, or run everything as root with acmed-single "+
			"after 'chown -R root %[1]s' (%[3]w)", state, owner, err)
	}
	if e.helper, err = e.Machine.Helper(); err != nil {
		return err
	}
	return helper.Restart(ctx, "")
}

func owner(path string) (uid int, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid), nil
	}
	return os.Geteuid(), nil
}

// plan adds the file for a wish, the routes that it needs, and the helper's file.
func (e *Enabling) plan(w *Wish, issuer string) error {
	d := &Dropin{Certificates: []Certificate{{}}}
	if w.old != nil {
		d = w.old.clone()
	}
	c := &d.Certificates[0]
	c.Name, c.Names = w.Name, w.Names
	c.Issuers = issuersOf(c, issuer)
	c.KeyType = cmp.Or(e.Options.KeyType, c.KeyType)
	if w.old == nil || e.Options.Validates() || w.changed && w.generated() {
		if err := e.validation(w, d); err != nil {
			return err
		}
	}
	w.changed = w.changed || w.old != nil && (e.Options.Validates() || w.differs(c))
	if err := e.install(w, c); err != nil {
		return err
	}
	return e.Machine.Add(e.Change, w.Name, d)
}

// issuersOf are the issuers of a certificate for which an issuer was asked for, or none: those of before, but for staging.
func issuersOf(c *Certificate, asked string) []string {
	switch {
	case asked != "":
		return []string{asked}
	case slices.Contains(c.Issuers, staging):
		return nil
	}
	return c.Issuers
}

// differs reports whether the certificate would be another one than an earlier enable wanted.
func (w *Wish) differs(c *Certificate) bool {
	before := &w.old.Certificates[0]
	return !slices.Equal(before.Issuers, c.Issuers) || before.KeyType != c.KeyType
}

// install says where the certificate is installed: as before, with what the options add.
func (e *Enabling) install(w *Wish, c *Certificate) error {
	if w.Site == nil {
		return nil
	}
	kind, settings := w.Site.Server.Kind, map[string]any{}
	helped := slices.ContainsFunc(c.Install, func(i Install) bool { return i["helper"] != nil })
	for _, i := range c.Install {
		for key, value := range i[kind] {
			settings[key] = value
		}
	}
	for key, value := range w.Site.Server.Settings {
		settings[key] = value
	}
	if e.Options.Redirect {
		settings["redirect"] = true
	}
	if e.Options.HSTS != "" {
		settings["hsts"] = e.Options.HSTS
	}
	w.settings = settings
	section := Install{kind: settings}
	if e.helper != nil || helped {
		if e.helper == nil {
			return nil // it stays with the helper
		}
		c.Install = []Install{{"helper": {"target": w.Name}}}
		return e.helper.Add(e.Change, w.Name, HelperTarget{Name: w.Name, Names: w.Names, Install: section})
	}
	c.Install = append(slices.DeleteFunc(slices.Clone(c.Install), func(i Install) bool { return i[kind] != nil }), section)
	return nil
}

// Check looks at the configuration as a whole as it will be, and at what the web server makes of the certificates, before
// anything is written or ordered. It returns the names of certificates whose validation can be looked at now, and of those
// for which that is possible only after Apply.
func (e *Enabling) Check(ctx context.Context) (now, later []string, err error) {
	planned := map[string][]byte{}
	for _, f := range e.Change.Files {
		planned[f.Path] = f.Content
	}
	var opts []config.Option
	if e.Options.DNS != nil { // the credentials are written with the configuration
		opts = []config.Option{config.WithoutFiles}
	}
	if e.Config, _, err = config.Preview(e.Machine.Path, planned, opts...); err != nil {
		return nil, nil, err
	}
	for _, w := range e.Wishes {
		cert := e.Certificate(w.Name)
		if cert == nil {
			return nil, nil, fmt.Errorf("%s does not include %s", e.Machine.Path, e.Machine.Dropin(w.Name))
		}
		if err := e.checkServer(ctx, w, cert); err != nil {
			return nil, nil, err
		}
		is, _ := e.Config.Issuer(e.Config.Spec(cert).Issuers[0])
		switch {
		case is.Preflight == config.PreflightOff:
		case slices.ContainsFunc(e.Change.Routes, func(r Route) bool { return r.Certificate == w.Name }):
			later = append(later, w.Name)
		default:
			now = append(now, w.Name)
		}
	}
	return now, later, nil
}

// checkServer asks what the web server's installer would change: what it refuses is known before a certificate is ordered.
func (e *Enabling) checkServer(ctx context.Context, w *Wish, cert *config.Certificate) error {
	if w.Site == nil {
		return nil
	}
	spec, paths := e.Config.Spec(cert), store.PathsIn(e.Config.StateDir, w.Name)
	t := installers.Target{
		Certificate: w.Name, Names: spec.Identifiers, Cert: paths.Cert, Chain: paths.Chain, FullChain: paths.FullChain, Key: paths.Key,
		Journal: filepath.Join(e.Config.StateDir, "none"), // nothing is written
	}
	var plugin installers.Previewer
	var err error
	switch w.Site.Server.Kind {
	case Nginx:
		var cfg nginx.Config
		if err = decode(w.settings, &cfg, cfg.Validate); err == nil {
			plugin, err = nginx.New(cfg, t)
		}
	case Apache:
		var cfg apache.Config
		if err = decode(w.settings, &cfg, cfg.Validate); err == nil {
			plugin, err = apache.New(cfg, t)
		}
	}
	if err == nil && plugin != nil {
		_, err = plugin.Preview(ctx, &certs.Bundle{Leaf: expected(spec.Identifiers)})
	}
	if err != nil {
		return fmt.Errorf("%s: %s cannot serve the certificate, so it was not ordered: %w", w.Name, w.Site.Server.Kind, err)
	}
	return nil
}

// expected is a certificate for the names as far as web servers are concerned.
func expected(ids []certs.Identifier) *x509.Certificate {
	leaf := &x509.Certificate{}
	for _, id := range ids {
		if ip := net.ParseIP(id.Value); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
			continue
		}
		leaf.DNSNames = append(leaf.DNSNames, id.Value)
	}
	return leaf
}

// Certificate is one of the configuration with the change, or nil.
func (e *Enabling) Certificate(name string) *config.Certificate {
	for i := range e.Config.Certificates {
		if e.Config.Certificates[i].Name == name {
			return &e.Config.Certificates[i]
		}
	}
	return nil
}

// Apply writes the files. On an error everything is as it was before.
func (e *Enabling) Apply(ctx context.Context) error {
	if err := e.Change.Apply(ctx); err != nil {
		return err
	}
	if e.helper == nil {
		return nil
	}
	if _, _, err := daemon.CheckHelper(e.helper.Path); err != nil {
		return errors.Join(err, e.Revert(ctx))
	}
	return nil
}

// Revert takes the files back, also for a helper that runs.
func (e *Enabling) Revert(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	err := e.Change.Revert(ctx)
	if e.helper != nil {
		err = errors.Join(err, helper.Restart(ctx, ""))
	}
	return err
}
