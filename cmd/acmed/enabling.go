package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/cmd/acmed/internal/daemon"
	"github.com/acmed/acmed/cmd/acmed/internal/setup"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/helper"
	"github.com/acmed/acmed/pkg/renewal"
)

// undoTime is how long taking back may take after a failure or Ctrl-C. It is some tests and reloads of a web server.
const undoTime = 2 * time.Minute

// enabling is one run of "acmed enable" once it is known what is wanted.
type enabling struct {
	app     *app
	asker   *asker
	machine *setup.Machine
	flags   *enableFlags
	wishes  []wish

	helper *setup.Helper // changes the web server, because the daemon may not; nil: the daemon or this process does
	change *setup.Change
	config *config.Config // with the change
}

func (e *enabling) run(ctx context.Context) error {
	if err := e.chooseHelper(ctx); err != nil {
		return err
	}
	if err := e.app.askMain(ctx, e.asker, e.machine, &e.flags.main, e.flags.caFile != ""); err != nil {
		return err
	}
	if err := e.draft(); err != nil {
		return err
	}
	e.show()
	if err := e.asker.agree(ctx, "go ahead?"); err != nil {
		return err
	}
	if err := e.prepare(ctx); err != nil {
		return err
	}
	if err := e.change.Apply(); err != nil {
		return err
	}
	if e.helper != nil {
		if _, _, err := daemon.CheckHelper(e.helper.Path); err != nil {
			return errors.Join(err, e.revert(ctx))
		}
	}
	return e.obtain(ctx)
}

// chooseHelper finds out who changes the web server: a daemon that runs as another user leaves it to acmed-installd.
func (e *enabling) chooseHelper(ctx context.Context) (err error) {
	state := config.DefaultStateDir
	if c := e.machine.Config; c != nil {
		state = c.StateDir
	}
	info, err := os.Stat(cmp.Or(e.flags.main.StateDir, state))
	if err != nil || e.wishes[0].site == nil {
		return nil
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok || int(owner.Uid) == os.Geteuid() {
		return nil
	}
	if os.Geteuid() != 0 {
		return &exitError{exitPermission, fmt.Errorf("%s belongs to user %d, and only root may change %s; run this as root", state, owner.Uid, e.wishes[0].site.Server.Kind)}
	}
	if _, err := control.Dial(ctx, config.Socket(e.app.config)); err != nil {
		return fmt.Errorf("%s belongs to user %d, whose daemon must run: systemctl enable --now acmed, or run all as root with acmed-single "+
			"after 'chown -R root %[1]s' (%[3]w)", state, owner.Uid, err)
	}
	if e.helper, err = e.machine.Helper(); err != nil {
		return err
	}
	return helper.Restart(ctx, "")
}

// revert takes the files back, also for a helper that runs.
func (e *enabling) revert(ctx context.Context) error {
	err := e.change.Revert()
	if e.helper != nil {
		err = errors.Join(err, helper.Restart(context.WithoutCancel(ctx), ""))
	}
	return err
}

// draft makes the files.
func (e *enabling) draft() (err error) {
	if e.change, err = e.machine.Begin(e.flags.main); err != nil {
		return err
	}
	issuer := ""
	switch {
	case e.flags.staging:
		issuer = "letsencrypt-staging"
	case e.flags.directory != "":
		if issuer, err = e.machine.CA(e.change, e.flags.directory, e.flags.caFile); err != nil {
			return err
		}
	}
	for _, w := range e.wishes {
		d, err := e.dropin(&w, issuer)
		if err != nil {
			return err
		}
		if err := e.machine.Add(e.change, w.name, d); err != nil {
			return err
		}
	}
	return e.change.Check()
}

// dropin is the file for a wish. With a helper, the change also gets the helper's file.
func (e *enabling) dropin(w *wish, issuer string) (*setup.Dropin, error) {
	defaults := e.machine.Config != nil && len(e.machine.Config.Defaults.Solvers) > 0
	if e.helper != nil && !e.flags.proves() && !defaults {
		return nil, &exitError{exitUsage, fmt.Errorf("the daemon does not run as root, so it cannot put challenges into the directories of %s; "+
			"let challenges through ('acmed snippet %[1]s') and add --listen 127.0.0.1:5080, or name a configured solver with --solver", w.site.Server.Kind)}
	}
	d, err := w.dropin(e.flags, issuer, e.helper != nil)
	if err != nil || e.helper == nil {
		return d, err
	}
	cert := &d.Certificates[0]
	t := setup.HelperTarget{Name: w.name, Names: w.names, Install: cert.Install[0]}
	cert.Install = []setup.Install{{"helper": {"target": w.name}}}
	return d, e.helper.Add(e.change, w.name, t)
}

// show prints what will happen.
func (e *enabling) show() {
	for _, f := range e.change.Files {
		e.app.printf("%s:\n", f.Path)
		for line := range strings.Lines(string(f.Content)) {
			if !strings.HasPrefix(line, "#") {
				e.app.printf("  %s", line)
			}
		}
	}
	for _, w := range e.wishes {
		where := "is kept in files"
		if w.site != nil {
			where = fmt.Sprintf("goes into %s (%s)", w.site.Server.Kind, w.site.Place)
		}
		e.app.printf("a certificate for %s is obtained and %s\n", strings.Join(w.names, ", "), where)
	}
}

// prepare looks at the configuration as a whole as it will be, and at the names as a CA would. Nothing is written.
func (e *enabling) prepare(ctx context.Context) error {
	planned := map[string][]byte{}
	for _, f := range e.change.Files {
		planned[f.Path] = f.Content
	}
	c, _, err := config.Preview(e.machine.Path, planned)
	if err != nil {
		return err
	}
	e.config = c
	var names []string
	for _, w := range e.wishes {
		cert := e.certificate(w.name)
		if cert == nil {
			return fmt.Errorf("%s does not include %s", e.machine.Path, e.machine.Dropin(w.name))
		}
		is, _ := c.Issuer(c.Spec(cert).Issuers[0])
		if is.Preflight != config.PreflightOff {
			names = append(names, w.name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return e.preflight(ctx, names)
}

// preflight looks at the names, and asks what to do when a CA will not be able to validate them. It is advice: with
// nobody to ask, the order is tried.
func (e *enabling) preflight(ctx context.Context, names []string) error {
	d, err := daemon.Preflight(ctx, e.config, names)
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
			e.app.errf("%s\n  why: %s\n  do:  %s\n", f.What, oneLine(f.Why), f.Do)
		}
	}
	if !doubts || !e.asker.can() {
		return nil
	}
	if ok, err := e.asker.confirm(ctx, "the CA will probably refuse; try nevertheless?", false); err != nil || ok {
		return err
	}
	return errors.New("nothing was changed")
}

func (e *enabling) certificate(name string) *config.Certificate {
	for i := range e.config.Certificates {
		if e.config.Certificates[i].Name == name {
			return &e.config.Certificates[i]
		}
	}
	return nil
}

// obtain lets the daemon, or this process, do the work. What could not be done is taken back.
func (e *enabling) obtain(ctx context.Context) error {
	b, done, err := e.app.backend(ctx)
	if err != nil {
		return errors.Join(err, e.revert(ctx))
	}
	client, viaDaemon := b.(*control.Client)
	if viaDaemon {
		err = e.reload(ctx, client)
		if err == nil && e.helper != nil {
			err = helper.Restart(ctx, "")
		}
		if err != nil {
			return errors.Join(err, e.revert(ctx))
		}
	}
	bad, err := e.work(ctx, b)
	switch {
	case viaDaemon && ctx.Err() != nil:
		e.app.errf("interrupted; the daemon goes on, 'acmed status' shows how far it is and 'acmed disable' takes it back\n")
		return &exitError{code: exitFailed}
	case ctx.Err() != nil:
		done() // ends what is running
		if b, done, err = e.app.backend(context.WithoutCancel(ctx)); err != nil {
			return errors.Join(err, e.revert(ctx))
		}
		bad, err = e.wishes, errors.New("interrupted; everything is as it was before")
	}
	defer done()
	if err == nil && len(bad) == 0 {
		return nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return errors.Join(err, e.takeBack(undo, b, bad))
}

// reload makes the daemon use the new files. That some other file is broken was so before.
func (e *enabling) reload(ctx context.Context, client *control.Client) error {
	err := client.Reload(ctx)
	var partial *control.Error
	if errors.As(err, &partial) && partial.Code == control.CodePartial {
		e.app.errf("warning: %s\n", partial.Message)
		return nil
	}
	return err
}

// work obtains, installs and verifies, and returns the wishes that failed.
func (e *enabling) work(ctx context.Context, b control.Backend) (bad []wish, err error) {
	var names []string
	for _, w := range e.wishes {
		names = append(names, w.name)
	}
	display := newDisplay(e.app.out)
	defer display.close()
	if err := tryAgain(ctx, b, names, display); err != nil {
		return e.wishes, err
	}
	report, err := b.Renew(ctx, control.RenewRequest{Names: names}, display.update)
	if err != nil {
		return e.wishes, err
	}
	status, err := b.Status(ctx, control.StatusRequest{Names: names})
	if err != nil {
		return e.wishes, err
	}
	if err := putBack(ctx, b, status, report, display); err != nil {
		return e.wishes, err
	}
	display.close()
	if status, err = b.Status(ctx, control.StatusRequest{Names: names}); err != nil {
		return e.wishes, err
	}
	for i, c := range status.Certificates {
		if c.Health != renewal.HealthOK {
			bad = append(bad, e.wishes[i])
			continue
		}
		e.tell(e.wishes[i], c)
	}
	if len(bad) < len(e.wishes) {
		e.tellNext(status.Daemon != nil)
	}
	return bad, nil
}

// tryAgain orders at once what an earlier try could not obtain: somebody has mended since what was wrong.
func tryAgain(ctx context.Context, b control.Backend, names []string, display *display) error {
	status, err := b.Status(ctx, control.StatusRequest{Names: names})
	if err != nil {
		return err
	}
	var failed []string
	for _, c := range status.Certificates {
		if c.Failures > 0 && len(c.Versions) == 0 {
			failed = append(failed, c.Name)
		}
	}
	if len(failed) == 0 {
		return nil
	}
	_, err = b.Renew(ctx, control.RenewRequest{Names: failed, Force: true}, display.update)
	return err
}

// putBack installs where disable took a certificate away before: such a target is left alone until it is asked for.
func putBack(ctx context.Context, b control.Backend, status control.Status, report control.Report, display *display) error {
	for i, c := range status.Certificates {
		if !anyOff(c) || report.Results[i].Outcome == control.OutcomeFailed {
			continue
		}
		if _, err := b.Install(ctx, control.InstallRequest{Certificate: c.Name}, display.update); err != nil {
			return err
		}
	}
	return nil
}

func anyOff(c renewal.Status) bool {
	for _, t := range c.Targets {
		if t.Off {
			return true
		}
	}
	return false
}

// tell says what works now, and until when.
func (e *enabling) tell(w wish, c renewal.Status) {
	if w.site == nil {
		e.app.printf("%s: the certificate and its key are in %s/\n", c.Name, filepath.Join(e.config.StateDir, "certs", c.Name, "current"))
	} else {
		port := ""
		if n, ok := w.site.Server.Settings["listen"].(int); ok && n != 443 {
			port = ":" + strconv.Itoa(n)
		}
		for _, name := range w.names {
			e.app.printf("https://%s%s/ works now\n", name, port)
		}
	}
	if c.Renewal != nil {
		e.app.printf("%s: valid until %s, will be renewed about %s\n", c.Name, c.NotAfter.Local().Format(time.DateOnly), c.Renewal.At.Local().Format(time.DateOnly))
	}
}

// tellNext says what is left to do.
func (e *enabling) tellNext(renewed bool) {
	if e.flags.staging {
		e.app.printf("this was a rehearsal: browsers do not trust the certificate until you do the same without --staging\n")
	}
	if renewed {
		return
	}
	for _, dir := range e.closedRoots() {
		e.app.printf("%s is not among the directories that the daemon may write to; open it with systemctl edit acmed-single:\n[Service]\nReadWritePaths=%[1]s\n", dir)
	}
	e.app.printf("no daemon is running, so nothing renews it yet; start it with: systemctl enable --now acmed-single\n")
}

// closedRoots lists the webroots that acmed-single.service does not open by itself.
func (e *enabling) closedRoots() []string {
	var dirs []string
	for _, w := range e.wishes {
		for _, name := range e.certificate(w.name).Solvers {
			i := slices.IndexFunc(e.config.Solvers, func(s config.Solver) bool { return s.Name == name })
			if i < 0 || e.config.Solvers[i].HTTP01 == nil {
				continue
			}
			dir := e.config.Solvers[i].HTTP01.Webroot
			open := slices.ContainsFunc([]string{"/var/www/", "/srv/", "/usr/share/nginx/"}, func(o string) bool { return strings.HasPrefix(dir+"/", o) })
			if dir != "" && !open && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// takeBack removes what failed: from the web server, from the configuration, and from the daemon's.
func (e *enabling) takeBack(ctx context.Context, b control.Backend, bad []wish) error {
	var errs []error
	for _, w := range bad {
		status, err := b.Status(ctx, control.StatusRequest{Names: []string{w.name}})
		if err != nil || !anyInstalled(status.Certificates[0]) {
			continue // nothing was changed there, or the configuration never was in use
		}
		_, err = b.Install(ctx, control.InstallRequest{Certificate: w.name, Undo: true}, func(control.Progress) {})
		errs = append(errs, err)
	}
	if len(bad) == len(e.wishes) {
		errs = append(errs, e.change.Revert())
	} else {
		for _, w := range bad {
			errs = append(errs, e.change.RevertCertificate(w.name))
		}
	}
	if e.helper != nil {
		errs = append(errs, helper.Restart(ctx, ""))
	}
	if client, ok := b.(*control.Client); ok {
		errs = append(errs, e.reload(ctx, client))
	}
	for _, w := range bad {
		e.app.errf("%s is not enabled; its configuration was taken back\n", w.name)
	}
	code := exitFailed
	if len(bad) < len(e.wishes) {
		code = exitAttention
	}
	return errors.Join(append(errs, &exitError{code: code})...)
}

func anyInstalled(c renewal.Status) bool {
	for _, t := range c.Targets {
		if t.Installed && !t.Off {
			return true
		}
	}
	return false
}
