package renewal

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// Outage is a CA from which certificates could not be obtained because it was unavailable.
type Outage struct {
	Issuer       string
	Since        time.Time // of the first failed order
	Next         time.Time // when the next order is placed
	Certificates int       // that wait for it
	Error        string    // of the last failed order
	Code         advice.Code
}

// caOutages remember which CAs failed for which certificates, as far as states were read.
type caOutages struct {
	failed   map[string]failedOrders // by certificate
	answered map[string]time.Time    // issuer to when it last issued a certificate
}

// failedOrders is what the state of one certificate says about CAs.
type failedOrders struct {
	down     map[string]time.Time
	at, next time.Time
	text     string
	code     advice.Code
}

// noteStored remembers what the state of a certificate says about CAs, and what the store repaired in it.
func (e *Engine) noteStored(have *store.Lineage) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if delete(e.repairs, have.Name); len(have.Notes) > 0 {
		e.repairs[have.Name] = have.Notes
	}
	if v := plan.Newest(have); v != nil {
		e.outages.answered[v.Issuer] = clock.Later(e.outages.answered[v.Issuer], v.Created)
	}
	st := &have.State
	if len(st.Down) == 0 {
		delete(e.outages.failed, have.Name)
		return
	}
	e.outages.failed[have.Name] = failedOrders{maps.Clone(st.Down), st.LastErrorAt, st.RetryAt, st.LastError, st.LastCode}
}

// Repairs lists what the store repaired within the last day, by certificate, as far as states were read.
func (e *Engine) Repairs() map[string][]string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return maps.Clone(e.repairs)
}

// Outages lists the CAs that are unavailable, by the states that were read: in a daemon those of all certificates. A CA that
// issued a certificate after it failed is available again.
func (e *Engine) Outages() []Outage {
	e.mu.Lock()
	defer e.mu.Unlock()
	found := map[string]Outage{}
	for name, f := range e.outages.failed {
		c, configured := e.set.Certificates[name]
		for issuer, since := range f.down {
			at := clock.Later(f.at, since)
			if !configured || !slices.Contains(c.Spec.Issuers, issuer) || e.outages.answered[issuer].After(at) {
				continue
			}
			o, known := found[issuer]
			if !known {
				o = Outage{Issuer: issuer, Since: since, Next: f.next, Code: cmp.Or(f.code, advice.CAUnreachable), Error: f.text}
			}
			o.Since, o.Certificates = clock.Earlier(o.Since, since), o.Certificates+1
			if !f.next.IsZero() {
				o.Next = clock.Earlier(o.Next, f.next)
			}
			found[issuer] = o
		}
	}
	return slices.SortedFunc(maps.Values(found), func(a, b Outage) int { return cmp.Compare(a.Issuer, b.Issuer) })
}
