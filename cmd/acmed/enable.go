package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
)

// enableFlags are the wishes of the operator.
type enableFlags struct {
	domains   []string
	name      string
	server    string
	pairs     []string
	webroot   string
	listen    string
	alone     bool
	solvers   []string
	staging   bool
	directory string
	caFile    string
	main      setup.Main
	yes       bool

	settings map[string]any
}

func newEnable(a *app) *cobra.Command {
	var f enableFlags
	cmd := &cobra.Command{
		Use:   "enable [-d DOMAIN...]",
		Short: "Switch HTTPS on for a site of this machine",
		Long: `Find nginx or Apache and the names they serve, and switch HTTPS on: write a file in conf.d, obtain the certificate,
install it, and prove that it is served. What will happen is shown first, and asked for unless --yes is given. When any
of it fails, or is interrupted, everything is as it was before. "acmed disable" undoes it later.

  acmed enable                                        asks which of the sites found
  acmed enable -d example.com -d www.example.com
  acmed enable -d example.com --staging               a rehearsal, with a certificate that browsers do not trust
  acmed enable -d example.com --webroot /var/www/html for a web server that acmed does not know
  acmed enable -d example.com --standalone            for a machine without a web server

With --webroot and --standalone there is no web server to install into: the certificate and its key are kept in a
directory, and that is printed in the place of a URL. Give the server its paths, or add an install section later.

Names of nginx and Apache are proved through the directories from which they serve plain HTTP. Where a site has none, as
in front of an application, let challenges through ("acmed snippet nginx") and add --listen 127.0.0.1:5080, or name
configured solvers with --solver.

Where the daemon does not run as root, acmed-installd changes the web server: it gets a file in installd.d. The daemon
cannot write into a web server's directories then, so name a solver, or let challenges through and add --listen.

A web server elsewhere than where the distribution puts it is described by --server and --set, with the settings of its
section under install: --server nginx --set config=/opt/nginx/nginx.conf --set pid_file=/run/nginx.pid --set listen=8443.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.enable(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVarP(&f.domains, "domain", "d", nil, "`name` for the certificate; may be given several times")
	flags.StringVar(&f.name, "name", "", "what the certificate is called (default: its first name)")
	flags.StringVar(&f.server, "server", "", "where it is installed: nginx, apache or none (default: whichever has the names)")
	flags.StringArrayVar(&f.pairs, "set", nil, "with --server: a setting of it as `KEY=VALUE`; may be given several times")
	flags.StringVar(&f.webroot, "webroot", "", "`directory` that a web server serves on port 80, to prove the names; installs nothing by itself")
	flags.BoolVar(&f.alone, "standalone", false, "listen on port 80 to prove the names; installs nothing by itself")
	flags.StringVar(&f.listen, "listen", "", "`address` to listen on to prove the names, to which a proxy passes challenges on")
	flags.StringSliceVar(&f.solvers, "solver", nil, "configured solver to prove the names with; may be given several times")
	flags.BoolVar(&f.staging, "staging", false, "a rehearsal with Let's Encrypt's test CA")
	flags.StringVar(&f.directory, "directory", "", "`URL` of the ACME directory of another CA than the configured one")
	flags.StringVar(&f.caFile, "ca-file", "", "with --directory: PEM `file` with the roots of a private CA")
	flags.StringVar(&f.main.Email, "email", "", "mail address for the CA, for a new configuration")
	flags.BoolVar(&f.main.AgreeTOS, "agree-tos", false, "agree to the CA's terms of service, for a new configuration")
	flags.StringVar(&f.main.StateDir, "state-dir", "", "state `directory`, for a new configuration (default "+config.DefaultStateDir+")")
	flags.StringVar(&f.main.Socket, "socket", "", "control socket, for a new configuration")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

// check finds contradictions, and reads names, paths and settings.
func (f *enableFlags) check() error {
	if f.server == "" && (f.webroot != "" || f.alone) {
		f.server = "none"
	}
	if err := f.contradiction(); err != nil {
		return usageError(err)
	}
	for i, name := range f.domains {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			return usageError(err)
		}
		f.domains[i] = id.Value
	}
	var err error
	if f.settings, err = setup.Settings(f.pairs); err != nil {
		return usageError(fmt.Errorf("--set: %w", err))
	}
	if f.webroot != "" {
		f.webroot, err = filepath.Abs(f.webroot)
	}
	return err
}

func (f *enableFlags) contradiction() error {
	ways := slices.DeleteFunc([]bool{f.webroot != "", f.alone, f.listen != "", len(f.solvers) > 0}, func(given bool) bool { return !given })
	for _, bad := range []struct {
		is   bool
		text string
	}{
		{len(ways) > 1, "give only one of --webroot, --standalone, --listen and --solver"},
		{!slices.Contains([]string{"", setup.Nginx, setup.Apache, "none"}, f.server), "--server " + f.server + " is unknown, use nginx, apache or none"},
		{len(f.pairs) > 0 && f.server != setup.Nginx && f.server != setup.Apache, "--set needs --server nginx or --server apache"},
		{f.staging && f.directory != "", "give either --staging or --directory"},
		{f.caFile != "" && f.directory == "", "--ca-file needs --directory"},
		{f.server == "none" && len(f.domains) == 0, "say for which names: -d example.com"},
		{f.server == "none" && len(ways) == 0, "say how the names are proved: --standalone, --webroot, --listen or --solver"},
	} {
		if bad.is {
			return errors.New(bad.text)
		}
	}
	return nil
}

func (a *app) enable(ctx context.Context, f *enableFlags) error {
	if err := f.check(); err != nil {
		return err
	}
	m, err := setup.Open(a.config)
	if err != nil {
		return err
	}
	a.warn(m.Warnings)
	if m.Config != nil && f.main != (setup.Main{}) {
		return usageError(fmt.Errorf("--email, --agree-tos, --state-dir and --socket are for a new configuration; edit %s", m.Path))
	}
	q := newAsker(a, f.yes)
	wishes, err := a.choose(ctx, q, m, f)
	if err != nil {
		return err
	}
	e := &enabling{app: a, asker: q, machine: m, flags: f, wishes: wishes}
	return e.run(ctx)
}

// wish is one certificate to enable.
type wish struct {
	name  string
	names []string
	site  *setup.Site // nil without a web server
	root  func(name string) string
}

// newWish checks the name of the certificate, and that no other one has its names.
func newWish(m *setup.Machine, f *enableFlags, names []string, site *setup.Site, root func(string) string) (wish, error) {
	w := wish{name: f.name, names: names, site: site, root: root}
	if w.name == "" {
		w.name = strings.TrimPrefix(names[0], "*.")
	}
	if err := certs.CheckName(w.name); err != nil {
		return w, usageError(fmt.Errorf("%w; give it another one with --name", err))
	}
	for _, name := range names {
		if c := m.Covering(name); c != nil && c.Name != w.name {
			return w, &exitError{exitUsage, fmt.Errorf("%s is in the certificate %q already; 'acmed disable %s' first, or add the other names to its file", name, c.Name, c.Name)}
		}
	}
	return w, nil
}

// proves reports whether the flags say how the names are proved.
func (f *enableFlags) proves() bool {
	return f.webroot != "" || f.alone || f.listen != "" || len(f.solvers) > 0
}

// dropin is the file for a wish. With usual, the configuration says how names are proved unless the flags do.
func (w *wish) dropin(f *enableFlags, issuer string, usual bool) (*setup.Dropin, error) {
	c := setup.Certificate{Name: w.name, Names: w.names, Solvers: f.solvers}
	if issuer != "" {
		c.Issuers = []string{issuer}
	}
	if w.site != nil {
		c.Install = []setup.Install{{w.site.Server.Kind: w.site.Server.Settings}}
	}
	d := &setup.Dropin{}
	switch {
	case len(f.solvers) > 0, usual && !f.proves():
	case f.listen != "":
		d.Solvers = []setup.Solver{{Name: w.name + "-listen", HTTP01: &setup.HTTP01{Listen: f.listen}}}
	case f.alone:
		c.Solvers = []string{"http-01", "tls-alpn-01"}
	default:
		var without []string
		d.Solvers, without = setup.Webroots(w.name, w.names, w.root)
		if len(without) > 0 {
			return nil, &exitError{exitUsage, fmt.Errorf("%s: %s serves no directory for it, so its name cannot be proved through files; "+
				"let challenges through ('acmed snippet %s') and add --listen 127.0.0.1:5080, or give --webroot or --solver",
				strings.Join(without, ", "), w.site.Server.Kind, w.site.Server.Kind)}
		}
	}
	for _, s := range d.Solvers {
		c.Solvers = append(c.Solvers, s.Name)
	}
	d.Certificates = []setup.Certificate{c}
	return d, nil
}
