package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

var _ control.Backend = (*Daemon)(nil)

// Status describes certificates.
func (d *Daemon) Status(_ context.Context, q control.StatusRequest) (control.Status, error) {
	lost := d.lost(func(name string) bool { return len(q.Names) == 0 || slices.Contains(q.Names, name) })
	asked := slices.DeleteFunc(slices.Clone(q.Names), func(name string) bool {
		return slices.ContainsFunc(lost, func(s renewal.Status) bool { return s.Name == name })
	})
	var names []string
	if len(q.Names) == 0 || len(asked) > 0 {
		var err error
		if names, err = d.names(asked); err != nil {
			return control.Status{}, err
		}
	}
	answer := control.Status{Version: control.Version, Daemon: d.describe(), Certificates: []renewal.Status{}}
	look := d.engine.Status
	if q.Detail {
		look = d.engine.Detail
	}
	for _, name := range names {
		s, err := look(name)
		if err != nil {
			s = unreadable(name, err)
		}
		answer.Certificates = append(answer.Certificates, s)
	}
	answer.Certificates = append(answer.Certificates, lost...)
	answer.Conditions = d.conditions()
	return answer, nil
}

// Renew runs certificates, all of them when none is named.
func (d *Daemon) Renew(ctx context.Context, r control.RenewRequest, progress func(control.Progress)) (control.Report, error) {
	names, err := d.names(r.Names)
	if err != nil {
		return control.Report{}, err
	}
	if r.Spread < 0 {
		return control.Report{}, &control.Error{Code: control.CodeUsage, Message: "--spread needs a time above zero, such as 6h"}
	}
	if r.Spread > 0 {
		return d.spread(ctx, names, r, progress)
	}
	results := make([]control.Result, len(names))
	var group guard.Group
	group.SetLimit(d.concurrency())
	for i, name := range names {
		group.Go(func() {
			if r.Force && d.forcedEnough(name, r) {
				results[i] = refusedForce(name)
				progress(control.Progress{Certificate: name, Result: &results[i]})
				return
			}
			tell := func(s certs.Step) { progress(control.Progress{Certificate: name, Step: s}) }
			result := resultOf(d.work(ctx, name, renewal.Options{Force: r.Force, Again: len(r.Names) > 0, Retry: true, Alone: r.Alone}, tell))
			if result.Outcome == control.OutcomeUnchanged && result.Reason == plan.ReasonNothing && result.Held == "" {
				result.Health = renewal.HealthOK
			} else if s, err := d.engine.Status(name); err == nil {
				result.Health = s.Health
			}
			results[i] = result
			progress(control.Progress{Certificate: name, Result: &result})
		})
	}
	group.Wait()
	return control.Report{Version: control.Version, Results: results}, nil
}

// forceLimit is how often a certificate may be issued within 24 hours before a forced renewal must be asked for twice.
// Public CAs issue the same certificate 5 times a week; whoever forces a third one today is looking for something else.
const forceLimit = 2

// forcedEnough reports whether a forced renewal is refused until the operator says --yes.
func (d *Daemon) forcedEnough(name string, r control.RenewRequest) bool {
	return !r.Again && d.engine.RecentlyIssued(name) >= forceLimit
}

func refusedForce(name string) control.Result {
	return control.Result{
		Certificate: name, Outcome: control.OutcomeFailed, Reason: plan.ReasonIssueLimit,
		Error: fmt.Sprintf("it was already issued %s within 24 hours, and public CAs allow 5 duplicates a week; --yes renews it anyway", text.Count(forceLimit, "time")),
	}
}

// spread stores a time for the renewal of each certificate and leaves the rest to the scheduler. Certificates that were
// issued too often today are left out, and the report names them.
func (d *Daemon) spread(ctx context.Context, names []string, r control.RenewRequest, progress func(control.Progress)) (control.Report, error) {
	if !r.Force {
		return control.Report{}, &control.Error{Code: control.CodeUsage, Message: "--spread needs --force: without it only what is due is renewed"}
	}
	d.mu.Lock()
	scheduler := d.scheduler
	d.mu.Unlock()
	if scheduler == nil {
		return control.Report{}, &control.Error{Code: control.CodeUsage, Message: "--spread needs a running daemon, which renews at the times drawn"}
	}
	report := control.Report{Version: control.Version}
	var asked []string
	for _, name := range names {
		if d.forcedEnough(name, r) {
			report.Results = append(report.Results, refusedForce(name))
		} else {
			asked = append(asked, name)
		}
	}
	times, err := d.engine.Spread(ctx, asked, r.Spread)
	if err != nil {
		return control.Report{}, err
	}
	scheduler.Sweep()
	for _, name := range asked {
		report.Results = append(report.Results, control.Result{
			Certificate: name, Outcome: control.OutcomeScheduled, Reason: plan.ReasonForced, Message: "renewal was asked for", Next: times[name],
		})
	}
	for i := range report.Results {
		progress(control.Progress{Certificate: report.Results[i].Certificate, Result: &report.Results[i]})
	}
	return report, nil
}

func resultOf(r renewal.Result) control.Result {
	out := control.Result{
		Certificate: r.Name, Reason: r.Reason, Message: r.Message, Version: r.Version, NotAfter: r.NotAfter, Next: r.Next, Held: r.Held,
	}
	var limited *certs.RateLimitError
	switch {
	case errors.As(r.Err, &limited) && !limited.Unavailable, renewal.OverBudget(r.Err) != nil:
		out.Outcome = control.OutcomeLimited
	case r.Err != nil:
		out.Outcome = control.OutcomeFailed
	case r.Waiting != nil:
		out.Outcome = control.OutcomeWaiting
	case r.Obtained:
		out.Outcome = control.OutcomeObtained
	case r.Changed:
		out.Outcome = control.OutcomeUpdated
	default:
		out.Outcome = control.OutcomeUnchanged
	}
	if r.Refused {
		out.Next = time.Time{} // it is not tried again
	}
	if err := errors.Join(r.Err, r.Waiting); err != nil {
		out.Error, out.Code = err.Error(), advice.Of(err)
	}
	return out
}

// names checks the names of a request against the configuration; none stands for all.
func (d *Daemon) names(asked []string) ([]string, error) {
	known := d.engine.Names()
	slices.Sort(known)
	if len(asked) == 0 {
		return known, nil
	}
	var unknown []string
	for _, name := range asked {
		if _, ok := slices.BinarySearch(known, name); !ok {
			unknown = append(unknown, fmt.Sprintf("%q", name))
		}
	}
	if len(unknown) == 0 {
		return asked, nil
	}
	message := "no certificate is called " + strings.Join(unknown, ", ")
	if len(known) <= 10 {
		message += "; configured are: " + strings.Join(known, ", ")
	} else {
		message += "; 'acmed status' lists all"
	}
	return nil, &control.Error{Code: control.CodeUnknown, Message: message}
}
