package renewal

import (
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// FleetStatus is what a node knows about one certificate of its fleet.
type FleetStatus struct {
	N         int64     `json:"n,omitempty"`         // the fleet's newest version; 0: it has none
	Active    int64     `json:"active,omitempty"`    // number of the active version here; 0: it is not the fleet's newest
	Node      string    `json:"node,omitempty"`      // that obtained the newest version
	Committed time.Time `json:"committed,omitzero"`  // when
	Served    string    `json:"served,omitempty"`    // node that served it first; "" until one does
	Working   string    `json:"working,omitempty"`   // node that works on the certificate now
	Since     time.Time `json:"since,omitzero"`      // when it began
	Unshared  string    `json:"unshared,omitempty"`  // version that was obtained here and is not the fleet's
	Broken    string    `json:"broken,omitempty"`    // why a node took the newest version back
	NotTaken  string    `json:"not_taken,omitempty"` // why this node does not take the newest version
}

// look is the record of a certificate with what the fleet's memory says about it, and the options to decide with. It asks
// no store and keeps nothing.
func (e *Engine) look(c *Certificate) (*record, plan.Options, error) {
	r, err := e.open(c.Spec.Name)
	if err != nil {
		return nil, plan.Options{}, err
	}
	j := &job{Certificate: *c, engine: e, record: r, looks: true}
	return r, plan.Options{Clock: e.suspicion(c.Spec.Issuers), Fleet: j.consult(context.Background())}, nil
}

// fleetStatus is nil on a single machine.
func (e *Engine) fleetStatus(r *record) *FleetStatus {
	if e.fleet == nil {
		return nil
	}
	h, _ := e.fleet.Head(r.Name)
	s := &FleetStatus{N: h.N, Node: h.Node, Committed: h.Committed, Served: h.Served, Broken: h.Broken}
	if h.Void {
		s.NotTaken = "its key is known to others"
	}
	if st := r.State.Fleet; st != nil {
		s.Unshared, s.NotTaken = st.Unshared, st.LastError
	}
	if r.Current != nil && h.N > 0 && r.Current.Fingerprint() == h.Fingerprint {
		s.Active, s.NotTaken = h.N, ""
	}
	if c, ok := e.fleet.Claimed(r.Name); ok {
		s.Working, s.Since = c.Node, c.Since
	}
	if problem := e.fleet.Problems()[r.Name]; problem != "" {
		s.NotTaken = problem
	}
	return s
}

// imports reports whether a version that never was in a fleet becomes the fleet's: it is what the configuration asks for, and
// the fleet has none, or an operator wants the later one.
func (j *job) imports(mine, head certs.Head) bool {
	r := j.record
	if mine.Fingerprint == "" || mine.N != 0 || r.Current == nil || plan.IsStale(&j.Spec, r.Current) {
		return false
	}
	return head.N == 0 || j.opts.Import && mine.NotBefore.After(head.NotBefore)
}

// ImportFate says what an import makes of the certificate that this machine has.
func (e *Engine) ImportFate(name string) string {
	c, ok := e.Certificate(name)
	if !ok {
		return ""
	}
	r, _, err := e.look(&c)
	if err != nil {
		return err.Error()
	}
	j := &job{Certificate: c, engine: e, record: r, looks: true, opts: Options{Import: true}}
	h, _ := e.fleet.Head(name)
	mine := j.newest()
	switch {
	case mine.Fingerprint == "" && h.N == 0:
		return "there is none yet; it is ordered"
	case mine.Fingerprint == h.Fingerprint:
		return fmt.Sprintf("is the fleet's version %d already", h.N)
	case j.imports(mine, h):
		return fmt.Sprintf("becomes the fleet's version %d", h.N+1)
	case h.N == 0:
		return "is not what the configuration asks for, and stays here until it is replaced"
	}
	return fmt.Sprintf("the fleet's version %d takes its place", h.N)
}

// Standing is what the other nodes are told about one certificate of this one.
type Standing struct {
	Behind   bool   // the active version is not the fleet's newest, and is not held here on purpose
	Failed   string // why it is not served
	NotAfter time.Time
}

// Standing looks one certificate up. Without a usable version, or when it is not configured, it is false.
func (e *Engine) Standing(name string) (Standing, bool) {
	c, ok := e.Certificate(name)
	if !ok || e.fleet == nil {
		return Standing{}, false
	}
	r, err := e.open(name)
	if err != nil || r.Current == nil {
		return Standing{}, false
	}
	h, _ := e.fleet.Head(name)
	s := Standing{NotAfter: r.Current.Leaf.NotAfter, Behind: h.N > 0 && r.Current.Fingerprint() != h.Fingerprint && r.State.Held == nil && r.State.Pinned == ""}
	for _, id := range c.Spec.Targets {
		if t := r.State.Installed[id]; t.LastError != "" && !t.Off {
			s.Failed = cut(id + ": " + t.LastError)
		}
	}
	return s, true
}

// unable reports whether an order failed because of this machine alone: no answer to the CA could be presented.
func unable(err error) bool {
	list := certs.Validations(err)
	return len(list) > 0 && !slices.ContainsFunc(list, func(v *certs.ValidationError) bool { return !v.Local })
}

// leaveTurn leaves the certificate to another node for a while. It is no failure of the fleet.
func (j *job) leaveTurn(err error) {
	j.record.cancelOrder()
	st := j.record.share()
	st.Unable, st.UnableUntil = shorten(err), j.engine.clock().Add(plan.Retries()[1])
	j.engine.log.Warn("this node cannot answer challenges, another one may", zap.String("certificate", j.Spec.Name), zap.String("code", string(advice.Of(err))), zap.Error(err))
}

// noteNumber remembers which of the fleet's versions is active here.
func (e *Engine) noteNumber(have *store.Lineage) {
	st := have.State.Fleet
	if e.fleet == nil || st == nil {
		return
	}
	n := st.N
	if st.Version != have.Version {
		n--
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.numbers[have.Name] = n
}

// behind reports whether the fleet has a later version than was active here at the end of the certificate's last job.
func (e *Engine) behind(name string) bool {
	if e.fleet == nil {
		return false
	}
	e.mu.Lock()
	n, known := e.numbers[name]
	e.mu.Unlock()
	return known && e.fleet.Number(name) > n
}
