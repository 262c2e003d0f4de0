package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
)

// enableRequest is the command line of "acmed enable".
type enableRequest struct {
	setup.Options

	domains []string
	name    string
	server  string
	pairs   []string
	dns     string
	manual  bool
	persist bool
	yes     bool

	settings map[string]any
}

func newEnable(a *app) *cobra.Command {
	var f enableRequest
	cmd := &cobra.Command{
		Use:   "enable [-d NAME...]",
		Short: "Switch HTTPS on for a site of this machine",
		Long: `Find nginx or Apache and the names they serve, and switch HTTPS on: write a file in conf.d, obtain the certificate,
install it, and verify that it is served. acmed shows what it will do and asks first, unless --yes is given. If a step
fails or is interrupted, acmed rolls back every change. "acmed disable" undoes it later.

Names are validated through files where the site serves some over plain HTTP. Where the site proxies, redirects or
refuses, acmed adds a location to it that forwards challenges, and nothing else, to acmed on a loopback address. To
validate in another way, give --webroot, --standalone, --listen, --solver, --dns or --manual.

With --webroot and --standalone there is no web server to install into. acmed keeps the certificate and its key in a
directory and prints its path.

If the daemon does not run as root, acmed-installd changes the web server, and gets a file in installd.d.

Run again for a certificate that exists, enable keeps the settings that no option changes. Changed settings are tried
with a new order, and rolled back if it fails. --expand adds names.

If the web server is installed in an unusual place, describe it with --server and --set, by the settings of its section
under install.`,
		Example: `  acmed enable                                        choose among the sites found
  acmed enable -d example.com -d www.example.com
  acmed enable -d example.com --staging               test with a certificate that browsers do not trust
  acmed enable -d example.com -d new.example.com --expand
  acmed enable -d example.com --redirect --hsts       send plain HTTP to HTTPS, and tell browsers to remember
  acmed enable -d example.com --webroot /var/www/html for a web server that acmed does not know
  acmed enable -d example.com --standalone            for a machine without a web server
  acmed enable -d '*.example.com' -d example.com --server none --dns cloudflare
  acmed enable -d example.com --dns-persist           print a TXT record that stays, for a CA that offers dns-persist-01
  acmed enable -d example.com --server nginx --set config=/opt/nginx/nginx.conf --set pid_file=/run/nginx.pid`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.enable(cmd.Context(), &f) },
	}
	flags := cmd.Flags()
	flags.StringSliceVarP(&f.domains, "domain", "d", nil, "`name` for the certificate; may be given several times")
	flags.BoolVar(&f.Expand, "expand", false, "add the names to the certificate that has one of them")
	flags.StringVar(&f.name, "name", "", "name of the certificate in the configuration (default: its first domain)")
	flags.StringVar(&f.server, "server", "", "where to install: nginx, apache or none (default: whichever serves the names)")
	flags.StringArrayVar(&f.pairs, "set", nil, "with --server: a setting of it as `KEY=VALUE`; may be given several times")
	flags.BoolVar(&f.Redirect, "redirect", false, "redirect plain HTTP to HTTPS")
	flags.StringVar(&f.HSTS, "hsts", "", "send Strict-Transport-Security with this max-age, such as 720h")
	flags.Lookup("hsts").NoOptDefVal = "4320h"
	flags.StringVar(&f.KeyType, "key-type", "", "key of the certificate: "+strings.Join(keyTypes(), ", "))
	flags.StringVar(&f.Webroot, "webroot", "", "`directory` that a web server serves on port 80, to validate names; installs nothing")
	flags.BoolVar(&f.Alone, "standalone", false, "listen on port 80 to validate names; installs nothing")
	flags.StringVar(&f.Listen, "listen", "", "`address` to listen on to validate names, to which a proxy forwards challenges")
	flags.StringSliceVar(&f.Solvers, "solver", nil, "configured solver to validate names with; may be given several times")
	flags.StringVar(&f.dns, "dns", "", "DNS `provider` to validate names with; acmed asks for the credentials")
	flags.BoolVar(&f.persist, "dns-persist", false, "print TXT records that stay, and wait until you have published them")
	flags.BoolVar(&f.manual, "manual", false, "print the DNS record for each name, and wait until you have created it")
	flags.BoolVar(&f.Staging, "staging", false, "use Let's Encrypt's staging CA")
	flags.StringVar(&f.Directory, "directory", "", "`URL` of the ACME directory of another CA")
	flags.StringVar(&f.CAFile, "ca-file", "", "with --directory: PEM `file` with the roots of a private CA")
	flags.StringVar(&f.Main.Email, "email", "", "email address for the CA, for a new configuration")
	flags.BoolVar(&f.Main.AgreeTOS, "agree-tos", false, "agree to the CA's terms of service, for a new configuration")
	flags.StringVar(&f.Main.StateDir, "state-dir", "", "state `directory`, for a new configuration (default "+config.DefaultStateDir+")")
	flags.StringVar(&f.Main.Socket, "socket", "", "control socket, for a new configuration")
	flags.BoolVarP(&f.yes, "yes", "y", false, "do not ask")
	return cmd
}

func keyTypes() []string { return []string{"ec256", "ec384", "rsa2048", "rsa3072", "rsa4096"} }

// check finds contradictions, and reads names, paths and settings.
func (f *enableRequest) check() error {
	if f.server == "" && (f.Webroot != "" || f.Alone) {
		f.server = "none"
	}
	if err := f.contradiction(); err != nil {
		return usageError(err)
	}
	if f.persist {
		f.Solvers = []string{"dns-persist-01"}
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
	return f.checkWebroot()
}

func (f *enableRequest) checkWebroot() (err error) {
	if f.Webroot == "" {
		return nil
	}
	if f.Webroot, err = filepath.Abs(f.Webroot); err != nil {
		return err
	}
	info, err := os.Stat(f.Webroot)
	if err == nil && !info.IsDir() {
		err = fmt.Errorf("%s is not a directory", f.Webroot)
	}
	if err != nil {
		return usageError(fmt.Errorf("--webroot: %w", err))
	}
	return nil
}

// ways counts the options that say how the names are validated.
func (f *enableRequest) ways() int {
	given := []bool{f.Webroot != "", f.Alone, f.Listen != "", len(f.Solvers) > 0, f.dns != "", f.manual, f.persist}
	return len(slices.DeleteFunc(given, func(given bool) bool { return !given }))
}

// hardens reports options that only a web server has.
func (f *enableRequest) hardens() bool { return f.Redirect || f.HSTS != "" }

// isOther reports a value that was given and is none of a list.
func isOther(value string, list ...string) bool { return value != "" && !slices.Contains(list, value) }

func (f *enableRequest) contradiction() error {
	ways := f.ways()
	none := f.server == "none"
	named := len(f.domains) > 0
	for _, bad := range []struct {
		is   bool
		text string
	}{
		{ways > 1, "give only one of --webroot, --standalone, --listen, --solver, --dns, --dns-persist and --manual"},
		{isOther(f.server, setup.Nginx, setup.Apache, "none"), "--server: unknown server " + strconv.Quote(f.server) + ", use nginx, apache or none"},
		{isOther(f.KeyType, keyTypes()...), "--key-type: unknown type " + strconv.Quote(f.KeyType) + ", use " + strings.Join(keyTypes(), ", ")},
		{len(f.pairs) > 0 && (none || f.server == ""), "--set needs --server nginx or --server apache"},
		{none && f.hardens(), "--redirect and --hsts need a web server to install into"},
		{f.Staging && f.Directory != "", "give either --staging or --directory"},
		{f.CAFile != "" && f.Directory == "", "--ca-file needs --directory"},
		{f.Expand && !named, "--expand needs the names to add: -d example.com"},
		{none && !named, "name the certificate's domains: -d example.com"},
		{none && ways == 0 && !f.Expand, "choose how to validate the names: --standalone, --webroot, --listen, --solver, --dns, --dns-persist or --manual"},
	} {
		if bad.is {
			return errors.New(bad.text)
		}
	}
	return nil
}

func (a *app) enable(ctx context.Context, f *enableRequest) error {
	if err := f.check(); err != nil {
		return err
	}
	m, err := setup.Open(ctx, a.config)
	if err != nil {
		return err
	}
	a.warn(m.Warnings)
	if m.Config != nil && f.Main != (setup.Main{}) {
		return usageError(fmt.Errorf("--email, --agree-tos, --state-dir and --socket are for a new configuration; edit %s", m.Path))
	}
	q := newAsker(a, f.yes)
	wishes, err := a.choose(ctx, q, m, f)
	if err != nil {
		return err
	}
	if f.DNS, err = a.askDNS(ctx, q, m, f); err != nil {
		return err
	}
	if err := a.askMain(ctx, q, m, &f.Main, f.CAFile != ""); err != nil {
		return err
	}
	e := &setup.Enabling{Machine: m, Options: f.Options, Wishes: wishes}
	if err := e.Plan(ctx); err != nil {
		return err
	}
	a.showPlan(e)
	if err := q.agree(ctx, "go ahead?"); err != nil {
		return err
	}
	if err := a.apply(ctx, q, e); err != nil {
		return err
	}
	if f.persist {
		e.Publish = func(ctx context.Context, records []string) error { return a.publish(ctx, q, records) }
	}
	return a.obtain(ctx, e)
}

// publish prints TXT records and waits until the operator has published them. When nobody can be asked, the order is tried.
func (a *app) publish(ctx context.Context, q *asker, records []string) error {
	a.printf("publish these records, and keep them:\n")
	for _, line := range records {
		a.printf("  %s\n", text.Printable(line))
	}
	if !q.can() {
		return nil
	}
	ok, err := q.confirm(ctx, "are they published?", true)
	if err == nil && !ok {
		err = errors.New("nothing was obtained; publish the records and run this again")
	}
	return err
}

// showPlan prints what will happen.
func (a *app) showPlan(e *setup.Enabling) {
	for _, f := range e.Change.Files {
		a.printf("%s:\n", f.Path)
		if f.Secret {
			a.printf("  (credentials, mode 0600)\n")
			continue
		}
		for line := range strings.Lines(string(f.Content)) {
			if !strings.HasPrefix(line, "#") {
				a.printf("  %s", line)
			}
		}
	}
	for _, r := range e.Change.Routes {
		a.printf("acmed will add a location to %s that forwards challenges for %s to %s\n", r.Server.Kind, strings.Join(r.Names, ", "), r.Upstream)
	}
	for _, w := range e.Wishes {
		if w.Site == nil {
			a.printf("acmed will obtain a certificate for %s and keep it in files\n", strings.Join(w.Names, ", "))
			continue
		}
		a.printf("acmed will obtain a certificate for %s and install it in %s (%s)\n", strings.Join(w.Names, ", "), w.Site.Server.Kind, w.Site.Place)
	}
}

// apply checks what will be, and writes it. Names whose challenges a web server will forward can be looked at only then.
func (a *app) apply(ctx context.Context, q *asker, e *setup.Enabling) error {
	now, later, err := e.Check(ctx)
	if err != nil {
		return err
	}
	if err := a.preflight(ctx, q, e.Config, now); err != nil {
		return err
	}
	if err := e.Apply(ctx); err != nil {
		return err
	}
	if err = e.TryDNS(ctx); err == nil {
		err = a.preflight(ctx, q, e.Config, later)
	}
	if err != nil {
		return errors.Join(err, e.Revert(ctx))
	}
	return nil
}

// preflight looks at names as a CA does, and asks what to do when it will not be able to validate them. It is advice: when
// nobody can be asked, the order is tried.
func (a *app) preflight(ctx context.Context, q *asker, c *config.Config, names []string) error {
	if len(names) == 0 {
		return nil
	}
	d, err := daemon.Preflight(ctx, c, names)
	switch {
	case ctx.Err() != nil:
		return errInterrupted
	case err != nil:
		return err
	}
	doubts := false
	for _, f := range d.Findings {
		if f.Attention {
			doubts = true
			a.errf("%s\n  why: %s\n  do:  %s\n", f.What, oneLine(f.Why), f.Do)
		}
	}
	if !doubts || !q.can() {
		return nil
	}
	if ok, err := q.confirm(ctx, "the CA will probably refuse; try anyway?", false); err != nil || ok {
		return err
	}
	return errors.New("nothing was changed")
}

// obtain obtains, installs and verifies, and says what came of it.
func (a *app) obtain(ctx context.Context, e *setup.Enabling) error {
	d := newDisplay(a.out)
	stop := a.watchManual(ctx, e, d)
	out, err := e.Obtain(ctx, a.backend, d.update)
	stop()
	d.close()
	for _, text := range out.Warnings {
		a.errf("warning: %s\n", text)
	}
	if out.Detached {
		a.errf("interrupted; the daemon continues. Check with 'acmed status', undo with 'acmed disable'\n")
		return &exitError{code: exitFailed}
	}
	for _, done := range out.Enabled {
		a.printEnabled(e, done)
	}
	if len(out.Enabled) > 0 {
		a.printNext(e, out.Daemon)
	}
	for _, w := range out.Failed {
		a.errf("%s is not enabled; acmed restored its previous configuration\n", w.Name)
	}
	switch {
	case err != nil:
		return err
	case len(out.Failed) > 0 && len(out.Enabled) > 0:
		return &exitError{code: exitAttention}
	case len(out.Failed) > 0:
		return &exitError{code: exitFailed}
	}
	return nil
}

// printEnabled says what works now, and until when.
func (a *app) printEnabled(e *setup.Enabling, done setup.Enabled) {
	w, c := done.Wish, done.Status
	if w.Site == nil {
		a.printf("%s: the certificate and its key are in %s/\n", c.Name, filepath.Join(e.Config.StateDir, "certs", c.Name, "current"))
	} else {
		port := ""
		if n, ok := w.Site.Server.Settings["listen"].(int); ok && n != 443 {
			port = ":" + strconv.Itoa(n)
		}
		for _, name := range w.Names {
			if slices.Contains(w.Absent, name) {
				continue // a note says so
			}
			a.printf("https://%s%s/ works now\n", name, port)
		}
	}
	a.printNotes(&c)
	if c.Renewal != nil {
		a.printf("%s: valid until %s, will be renewed about %s\n", c.Name, date(c.NotAfter), date(c.Renewal.At))
	}
}

// printNext says what is left to do.
func (a *app) printNext(e *setup.Enabling, renewed bool) {
	if e.Options.Staging {
		a.printf("staging certificate, not trusted by browsers; run again without --staging\n")
	}
	if renewed {
		return
	}
	for _, dir := range e.ClosedRoots() {
		a.printf("the daemon may not write to %s; open it with systemctl edit acmed-single:\n[Service]\nReadWritePaths=%[1]s\n", dir)
	}
	a.printf("no daemon is running, so nothing renews it yet; start it with: systemctl enable --now acmed-single\n")
}
