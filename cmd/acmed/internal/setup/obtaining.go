package setup

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/helper"
	"github.com/acmed/acmed/pkg/renewal"
)

// undoTime is how long taking back may take after a failure or Ctrl-C. It is some tests and reloads of a web server.
const undoTime = 2 * time.Minute

// Connect returns the running daemon, or the same engine in this process, and what ends the connection or the engine.
type Connect func(context.Context) (control.Backend, func(), error)

// Outcome is what Obtain came to.
type Outcome struct {
	Enabled  []Enabled
	Failed   []*Wish // their configuration is as it was before
	Daemon   bool    // a daemon runs, which renews them
	Detached bool    // interrupted while the daemon goes on with it
	Warnings []string
}

// Enabled is a wish that was fulfilled.
type Enabled struct {
	Wish   *Wish
	Status renewal.Status
}

// Obtain lets the daemon, or this process, obtain, install and verify the certificates. What fails is taken back: the web
// server and the configuration are as they were before. When ctx ends, this process takes everything back, and a daemon
// goes on.
func (e *Enabling) Obtain(ctx context.Context, connect Connect, progress func(control.Progress)) (out Outcome, err error) {
	b, done, err := connect(ctx)
	if err != nil {
		return out, errors.Join(err, e.Revert(ctx))
	}
	defer func() { done() }()
	client, viaDaemon := b.(*control.Client)
	if viaDaemon {
		if err := e.reload(ctx, client, &out); err != nil {
			return out, errors.Join(err, e.Revert(ctx))
		}
	}
	err = e.work(ctx, b, &out, progress)
	if ctx.Err() != nil {
		if viaDaemon {
			return Outcome{Detached: true}, nil
		}
		done() // ends what is running
		if b, done, err = connect(context.WithoutCancel(ctx)); err != nil {
			done = func() {}
			return out, errors.Join(err, e.Revert(ctx))
		}
		out, err = Outcome{Failed: e.Wishes}, errors.New("interrupted; everything is as it was before")
	}
	if len(out.Failed) == 0 && err == nil {
		return out, nil
	}
	undo, cancel := context.WithTimeout(context.WithoutCancel(ctx), undoTime)
	defer cancel()
	return out, errors.Join(err, e.takeBack(undo, b, &out))
}

// reload makes the daemon and the helper use the new files. That some other file is broken was so before.
func (e *Enabling) reload(ctx context.Context, client *control.Client, out *Outcome) error {
	err := client.Reload(ctx)
	var partial *control.Error
	if errors.As(err, &partial) && partial.Code == control.CodePartial {
		out.Warnings = append(out.Warnings, partial.Message)
		err = nil
	}
	if err == nil && e.helper != nil {
		err = helper.Restart(ctx, "")
	}
	return err
}

// work obtains, installs and verifies.
func (e *Enabling) work(ctx context.Context, b control.Backend, out *Outcome, progress func(control.Progress)) error {
	out.Failed = e.Wishes
	var names []string
	for _, w := range e.Wishes {
		names = append(names, w.Name)
	}
	if err := e.publish(ctx, b); err != nil {
		return err
	}
	failed, err := e.order(ctx, b, names, progress)
	if err != nil {
		return err
	}
	status, err := b.Status(ctx, control.StatusRequest{Names: names})
	if err != nil {
		return err
	}
	if err := installAgain(ctx, b, status, failed, progress); err != nil {
		return err
	}
	if status, err = b.Status(ctx, control.StatusRequest{Names: names}); err != nil {
		return err
	}
	out.Failed, out.Daemon = nil, status.Daemon != nil
	for i, c := range status.Certificates {
		if c.Health != renewal.HealthOK || slices.Contains(failed, c.Name) {
			out.Failed = append(out.Failed, e.Wishes[i])
			continue
		}
		out.Enabled = append(out.Enabled, Enabled{e.Wishes[i], c})
	}
	return nil
}

// publish hands the records of dns-persist-01 to who asked for them. They name the account, which is registered if need be.
func (e *Enabling) publish(ctx context.Context, b control.Backend) error {
	if e.Publish == nil {
		return nil
	}
	var records []string
	seen := map[string]bool{}
	for _, w := range e.Wishes {
		i := slices.IndexFunc(e.Config.Certificates, func(c config.Certificate) bool { return c.Name == w.Name })
		if i < 0 {
			continue
		}
		issuer := e.Config.Spec(&e.Config.Certificates[i]).Issuers[0]
		if seen[issuer] {
			continue
		}
		seen[issuer] = true
		account, err := b.Account(ctx, control.AccountRequest{Issuer: issuer, Action: control.AccountShow})
		if err != nil {
			return err
		}
		records = append(records, account.PersistRecords...)
	}
	return e.Publish(ctx, records)
}

// installAgain installs where disable took a certificate away before: such a target is left alone until it is asked for.
func installAgain(ctx context.Context, b control.Backend, status control.Status, failed []string, progress func(control.Progress)) error {
	for _, c := range status.Certificates {
		if !anyTarget(c, func(t renewal.TargetStatus) bool { return t.Off }) || slices.Contains(failed, c.Name) {
			continue
		}
		if _, err := b.Install(ctx, control.InstallRequest{Certificate: c.Name}, progress); err != nil {
			return err
		}
	}
	return nil
}

// order obtains what is missing. A certificate whose settings changed is ordered at once: an order is the proof that they
// work. A failed attempt is not repeated.
func (e *Enabling) order(ctx context.Context, b control.Backend, names []string, progress func(control.Progress)) (failed []string, err error) {
	status, err := b.Status(ctx, control.StatusRequest{Names: names})
	if err != nil {
		return nil, err
	}
	var forced []string
	for i, c := range status.Certificates {
		if e.Wishes[i].changed && len(c.Versions) > 0 {
			forced = append(forced, c.Name)
		}
	}
	for _, req := range []control.RenewRequest{{Names: forced, Force: true, Again: true}, {Names: names}} {
		req.Names = slices.DeleteFunc(slices.Clone(req.Names), func(name string) bool { return slices.Contains(failed, name) }) // CAs count failures
		if len(req.Names) == 0 {
			continue
		}
		report, err := b.Renew(ctx, req, progress)
		if err != nil {
			return nil, err
		}
		for _, r := range report.Results {
			if r.Outcome == control.OutcomeFailed {
				failed = append(failed, r.Certificate)
			}
		}
	}
	return failed, nil
}

func anyTarget(c renewal.Status, is func(renewal.TargetStatus) bool) bool {
	return slices.ContainsFunc(c.Targets, is)
}

// takeBack removes what failed: from the web server unless it was there before, from the configuration, and from the
// daemon's.
func (e *Enabling) takeBack(ctx context.Context, b control.Backend, out *Outcome) error {
	var errs []error
	for _, w := range out.Failed {
		status, err := b.Status(ctx, control.StatusRequest{Names: []string{w.Name}})
		if err != nil || w.old != nil || !anyTarget(status.Certificates[0], func(t renewal.TargetStatus) bool { return t.Installed && !t.Off }) {
			continue // nothing was changed there, or the configuration never was in use
		}
		_, err = b.Install(ctx, control.InstallRequest{Certificate: w.Name, Undo: true}, func(control.Progress) {})
		errs = append(errs, err)
	}
	if len(out.Failed) == len(e.Wishes) {
		errs = append(errs, e.Change.Revert(ctx))
	} else {
		for _, w := range out.Failed {
			errs = append(errs, e.Change.RevertCertificate(ctx, w.Name))
		}
	}
	if e.helper != nil {
		errs = append(errs, helper.Restart(ctx, ""))
	}
	if client, ok := b.(*control.Client); ok {
		errs = append(errs, e.reload(ctx, client, out))
	}
	return errors.Join(errs...)
}

// ClosedRoots lists the webroots that acmed-single.service does not open.
func (e *Enabling) ClosedRoots() []string {
	var dirs []string
	for _, w := range e.Wishes {
		for _, name := range e.Certificate(w.Name).Solvers {
			i := slices.IndexFunc(e.Config.Solvers, func(s config.Solver) bool { return s.Name == name })
			if i < 0 || e.Config.Solvers[i].HTTP01 == nil {
				continue
			}
			dir := e.Config.Solvers[i].HTTP01.Webroot
			open := slices.ContainsFunc([]string{"/var/www/", "/srv/", "/usr/share/nginx/"}, func(o string) bool { return strings.HasPrefix(dir+"/", o) })
			if dir != "" && !open && !slices.Contains(dirs, dir) {
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}
