package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// History lists the stored versions of one certificate.
func (d *Daemon) History(_ context.Context, r control.VersionRequest) (control.History, error) {
	have, err := d.lineage(r.Certificate)
	if err != nil {
		return control.History{}, err
	}
	h := control.History{Version: control.Version, Certificate: r.Certificate, Versions: []control.StoredVersion{}}
	for i := range have.Versions {
		v := &have.Versions[i]
		row := control.StoredVersion{
			ID: v.ID, State: stateOf(have, v, time.Now()), Issuer: v.Issuer, Created: v.Created, NotBefore: v.NotBefore, NotAfter: v.NotAfter,
		}
		if row.State == control.VersionHeld || row.State == control.VersionNotice {
			row.Detail = have.State.Held.Reason
		}
		h.Versions = append(h.Versions, row)
	}
	return h, nil
}

// Log returns what happened to one certificate, also to a stored one whose definition is not in use.
func (d *Daemon) Log(_ context.Context, r control.LogRequest) (control.Log, error) {
	have, err := d.lineage(r.Certificate)
	if err != nil {
		stored, listErr := d.store.Names()
		if listErr != nil || !slices.Contains(stored, r.Certificate) {
			return control.Log{}, err
		}
		if have, err = d.store.Load(r.Certificate); err != nil {
			return control.Log{}, err
		}
	}
	log := control.Log{Version: control.Version, Certificate: r.Certificate, Entries: []store.LogEntry{}}
	for _, e := range have.State.Log {
		if !clock.Later(e.At, e.Last).Before(r.Since) {
			log.Entries = append(log.Entries, e)
		}
	}
	return log, nil
}

func (d *Daemon) lineage(name string) (*store.Lineage, error) {
	if _, err := d.names([]string{name}); err != nil {
		return nil, err
	}
	return d.store.Load(name)
}

func stateOf(have *store.Lineage, v *store.Version, now time.Time) control.VersionState {
	switch {
	case !have.State.Revoked[v.ID].DoneAt.IsZero():
		return control.VersionRevoked
	case v.ID == have.Version && v.ID == have.State.Pinned:
		return control.VersionPinned
	case v.ID == have.Version:
		return control.VersionActive
	case !now.Before(v.NotAfter):
		return control.VersionEnded
	case have.State.Held != nil && have.State.Held.Version == v.ID:
		return heldState(have.State.Held)
	case v.ID > have.Version:
		return control.VersionWaiting
	}
	return control.VersionEarlier
}

func heldState(h *store.Held) control.VersionState {
	if len(h.Clients) == 0 && !h.Until.IsZero() {
		return control.VersionNotice
	}
	return control.VersionHeld
}

// Activate makes the newest version live, and ends the pin of a rollback.
func (d *Daemon) Activate(ctx context.Context, r control.ActivateRequest, progress func(control.Progress)) (control.Report, error) {
	if _, err := d.names([]string{r.Certificate}); err != nil {
		return control.Report{}, err
	}
	return d.change(ctx, r.Certificate, renewal.Options{Activate: true, Anyway: r.Anyway, Retry: true}, progress), nil
}

// Rollback makes an earlier version live and keeps it so: the newest valid one before the active one, unless another is
// named.
func (d *Daemon) Rollback(ctx context.Context, r control.VersionRequest, progress func(control.Progress)) (control.Report, error) {
	have, err := d.lineage(r.Certificate)
	if err != nil {
		return control.Report{}, err
	}
	if r.StoredAs == "" {
		v := plan.Previous(have, time.Now())
		if v == nil {
			return control.Report{}, &control.Error{Code: control.CodeUnknown, Message: "there is no earlier version that is still valid"}
		}
		r.StoredAs = v.ID
	}
	return d.change(ctx, r.Certificate, renewal.Options{Pin: r.StoredAs, Retry: true}, progress), nil
}

// change runs one certificate for an operator.
func (d *Daemon) change(ctx context.Context, name string, opts renewal.Options, progress func(control.Progress)) control.Report {
	tell := func(s certs.Step) { progress(control.Progress{Certificate: name, Step: s}) }
	result := resultOf(d.work(ctx, name, opts, tell))
	progress(control.Progress{Certificate: name, Result: &result})
	return control.Report{Version: control.Version, Results: []control.Result{result}}
}
