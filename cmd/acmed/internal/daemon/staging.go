package daemon

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// closingTime is how long the account of a staging run may take to be deactivated.
const closingTime = 30 * time.Second

// stagingRun has the issuers of one run, with accounts in a directory that is removed at the end.
type stagingRun struct {
	issuers map[string]*issuer.Issuer
	store   *store.Store
	dir     string
}

// RunStaging orders each certificate from the staging directory of its first issuer, with the solvers of real orders and an
// account that is deactivated afterwards. Nothing is stored, installed or reported to notifiers, and no hook runs.
func (d *Daemon) RunStaging(ctx context.Context, r control.StagingRequest, progress func(control.Progress)) (control.Report, error) {
	names, err := d.names(r.Names)
	if err != nil {
		return control.Report{}, err
	}
	staged, err := d.stage(names)
	if staged != nil {
		defer d.unstage(ctx, staged)
	}
	if err != nil {
		return control.Report{}, err
	}
	results := make([]control.Result, len(names))
	var group guard.Group
	group.SetLimit(d.concurrency())
	for i, name := range names {
		group.Go(func() {
			results[i] = d.orderStaged(ctx, name, staged, func(s certs.Step) { progress(control.Progress{Certificate: name, Step: s}) })
			progress(control.Progress{Certificate: name, Result: &results[i]})
		})
	}
	group.Wait()
	return control.Report{Version: control.Version, Results: results}, nil
}

// stage makes an issuer at each staging directory that the certificates need, as far as there is one. What it made is for
// unstage, also after an error.
func (d *Daemon) stage(names []string) (s *stagingRun, err error) {
	s = &stagingRun{issuers: map[string]*issuer.Issuer{}}
	if s.dir, err = os.MkdirTemp("", "acmed-staging-"); err != nil {
		return nil, fmt.Errorf("make a directory for the test account: %w", err)
	}
	if s.store, err = store.Open(s.dir); err != nil {
		return nil, errors.Join(err, os.RemoveAll(s.dir))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	b := newBuilder(s.store, d.log, d.opts.Version)
	for _, name := range names {
		c, _ := d.engine.Certificate(name)
		conf, ok := d.config.Issuer(c.Spec.Issuers[0])
		if !ok || conf.Staging == "" || s.issuers[conf.Name] != nil {
			continue
		}
		made, err := b.issuer(staging(d.config, conf), d.builder.rungs)
		if err != nil {
			return s, fmt.Errorf("issuers[%s]: %w", conf.Name, err)
		}
		s.issuers[conf.Name] = made
	}
	return s, nil
}

// staging is an issuer at the test directory of its CA. Its binding to an account is that of the CA itself.
func staging(c *config.Config, conf config.Issuer) madeIssuer {
	conf.Directory, conf.OrdersPer3h = conf.Staging, -1
	return madeIssuer{conf: conf, contacts: []string{conf.Email}, agree: c.AgreeTOS || conf.Private, probe: c.Probe}
}

// unstage deactivates the accounts and removes what they left on disk.
func (d *Daemon) unstage(ctx context.Context, s *stagingRun) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingTime)
	defer cancel()
	var errs []error
	for _, i := range s.issuers {
		if i.AccountURI(ctx) != "" {
			errs = append(errs, i.Deactivate(ctx))
		}
		errs = append(errs, i.Close())
	}
	if err := errors.Join(append(errs, s.store.Close(), os.RemoveAll(s.dir))...); err != nil {
		d.log.Warn("test account not removed", zap.Error(err))
	}
}

func (d *Daemon) orderStaged(ctx context.Context, name string, s *stagingRun, tell func(certs.Step)) control.Result {
	c, _ := d.engine.Certificate(name)
	spec := c.Spec
	first := spec.Issuers[0]
	out := control.Result{Certificate: name, Outcome: control.OutcomeFailed, Reason: plan.ReasonForced}
	ca := s.issuers[first]
	if ca == nil {
		out.Error = fmt.Sprintf("no staging directory of %s is known; set issuers[%[1]s].staging to the URL of its test directory", first)
		return out
	}
	spec.Issuers = []string{first}
	bundle, err := ca.Obtain(ctx, certs.Request{Spec: spec, Progress: tell})
	if err != nil {
		out.Error, out.Code = err.Error(), advice.Of(err)
		return out
	}
	out.Outcome, out.NotAfter = control.OutcomeTested, bundle.Leaf.NotAfter
	out.Message = fmt.Sprintf("staging run passed at %s: all names validated; nothing was stored or installed", first)
	return out
}
