package daemon

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// reasonConfig is the reason of a certificate whose definition is not in use.
const reasonConfig plan.Reason = "configuration"

// writableFor is how long a good answer about the state directory is used. Asking writes and syncs a file.
const writableFor = time.Minute

// writable remembers whether the state directory takes files.
type writable struct {
	mu    sync.Mutex
	at    time.Time
	since time.Time // of err
	err   error
}

// check asks again when the last answer is old.
func (w *writable) check(ask func() error) (since time.Time, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if now := time.Now(); w.err != nil || w.at.IsZero() || now.Sub(w.at) >= writableFor {
		w.at = now
		err := ask()
		if err != nil && w.err == nil {
			w.since = now
		}
		w.err = err
	}
	return w.since, w.err
}

// conditions lists what is wrong with the daemon or its machine, in the order of the catalogue of package advice.
func (d *Daemon) conditions() []control.Condition {
	d.mu.Lock()
	scheduler, problems, refused, socket := d.scheduler, d.problems, d.refused, d.config.Socket
	d.mu.Unlock()
	found := []control.Condition{}
	if scheduler == nil {
		found = append(found, control.Condition{Code: advice.DaemonNotRunning, Detail: "no process answers on " + socket})
	} else if err := scheduler.Progress(); err != nil && !errors.Is(err, renewal.ErrStarting) {
		found = append(found, control.Condition{Code: advice.DaemonStuck, Detail: err.Error()})
	}
	if since, err := d.writable.check(d.store.CheckWritable); err != nil {
		found = append(found, control.Condition{Code: cmp.Or(advice.Of(err), advice.NoPermission), Detail: err.Error(), Since: since})
	}
	if problem := d.engine.ClockProblem(); problem != "" {
		found = append(found, control.Condition{Code: advice.ClockWrong, Detail: problem})
	}
	if d.member != nil && scheduler != nil {
		if err := d.member.ledger.Usable(); err != nil {
			h := d.member.ledger.Health()
			found = append(found, control.Condition{Code: cmp.Or(advice.Of(err), advice.StoreUnreachable), Detail: err.Error() + "; renewals wait for it", Since: h.Contact})
		}
	}
	found = append(found, brokenFiles(problems, refused)...)
	found = append(found, unavailable(d.engine.Outages())...)
	found = append(found, repairs(d.engine.Repairs())...)
	slices.SortStableFunc(found, func(a, b control.Condition) int { return cmp.Compare(advice.Rank(a.Code), advice.Rank(b.Code)) })
	return found
}

// brokenFiles has one condition for each file of the configuration that is not in use as it is, at its first problem.
func brokenFiles(problems *config.Error, refused error) []control.Condition {
	var found []control.Condition
	_ = errors.As(refused, &problems) // the files on disk, rather than those read before
	if problems != nil {
		for _, p := range problems.Problems {
			if !slices.ContainsFunc(found, func(c control.Condition) bool { return c.File == p.File }) {
				found = append(found, control.Condition{Code: advice.ConfigBroken, Detail: p.String(), File: p.File, Line: p.Line})
			}
		}
	}
	if len(found) == 0 && refused != nil {
		found = append(found, control.Condition{Code: advice.ConfigBroken, Detail: refused.Error()})
	}
	return found
}

// unavailable has one condition for each CA that does not answer, however many certificates wait for it.
func unavailable(list []renewal.Outage) []control.Condition {
	var found []control.Condition
	for _, o := range list {
		waiting := text.Count(o.Certificates, "certificate") + " wait"
		if o.Certificates == 1 {
			waiting += "s"
		}
		detail := fmt.Sprintf("%s since %s, %s", o.Issuer, text.Stamp(o.Since), waiting)
		if !o.Next.IsZero() {
			detail += ", next attempt at " + text.Stamp(o.Next)
		}
		found = append(found, control.Condition{Code: o.Code, Detail: detail + ": " + o.Error, Issuer: o.Issuer, Since: o.Since, Next: o.Next})
	}
	return found
}

// repairs names the certificates whose files in the state directory were repaired, as long as the store remembers it.
func repairs(noted map[string][]string) []control.Condition {
	var found []control.Condition
	for _, name := range slices.Sorted(maps.Keys(noted)) {
		for _, note := range noted[name] {
			found = append(found, control.Condition{Code: advice.StateRepaired, Detail: name + ": " + note})
		}
	}
	return found
}

// lost describes the stored certificates whose definition is in a file that was left out, so that they do not vanish from
// the status because of a typing mistake.
func (d *Daemon) lost(asked func(string) bool) []renewal.Status {
	d.mu.Lock()
	c := d.config
	d.mu.Unlock()
	if !c.Incomplete() {
		return nil
	}
	stored, err := d.store.Names()
	if err != nil {
		return nil
	}
	var list []renewal.Status
	for _, name := range stored {
		if _, configured := d.engine.Certificate(name); configured || !asked(name) {
			continue
		}
		file, line, found := c.Lost(name)
		if !found {
			continue
		}
		s := renewal.Status{Name: name, Names: []string{}}
		if have, err := d.store.Load(name); err == nil && have.Current != nil {
			leaf := have.Current.Leaf
			s.Version, s.Issuer, s.From, s.NotAfter = have.Version, have.Current.Issuer, leaf.NotBefore, leaf.NotAfter
			s.Names = leaf.DNSNames
		}
		where := file
		if line > 0 {
			where = fmt.Sprintf("%s:%d", file, line)
		}
		s.Health, s.Reason, s.Code = renewal.HealthFailing, reasonConfig, advice.ConfigBroken
		s.Message = "not renewed: its definition in " + where + " is not in use"
		s.Error = s.Message
		list = append(list, s)
	}
	return list
}
