package issuer

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

// The budget of a name. Public CAs allow 5 failed validations of a name in an hour (Let's Encrypt, per account); the rest
// stays for the operator's own tries.
const (
	maxInvalid    = 3
	invalidWindow = time.Hour
)

// attempt is what the jobs of one Obtain share: what was learnt about the ways to prove each name.
type attempt struct {
	req      *certs.Request
	ladder   challenges.Ladder
	foreseen map[string]foreseen // by identifier; nil: no preflight yet

	mu      sync.Mutex                 // guards the fields below
	tried   map[string]map[string]bool // solvers that failed, by identifier
	history map[string][]string        // how they failed, by identifier
	invalid map[string][]time.Time     // failed validations, by identifier
}

func newAttempt(req *certs.Request, ladder challenges.Ladder) *attempt {
	a := &attempt{req: req, ladder: ladder, tried: map[string]map[string]bool{}, history: map[string][]string{}, invalid: maps.Clone(req.Invalid)}
	if a.invalid == nil {
		a.invalid = map[string][]time.Time{}
	}
	return a
}

// pick chooses the solver for a name, the one that worked last time first.
func (a *attempt) pick(id certs.Identifier, offered []challenges.Type) (challenges.Rung, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.ladderOf(id).Pick(id, offered, a.tried[id.Value], a.req.Solved[id.Value])
}

// ladderOf is the ladder as the preflight sorted it.
func (a *attempt) ladderOf(id certs.Identifier) challenges.Ladder {
	if f, ok := a.foreseen[id.Value]; ok {
		return f.ladder
	}
	return a.ladder
}

// noteFailure remembers that a solver did not prove a name. Unless the CA was never asked, that counts against the name's budget.
func (a *attempt) noteFailure(v *certs.ValidationError, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id := v.Identifier.Value
	if a.tried[id] == nil {
		a.tried[id] = map[string]bool{}
	}
	a.tried[id][v.Solver] = true
	a.history[id] = append(a.history[id], fmt.Sprintf("%s failed: %s", v.Solver, text.Short(v.Err.Error(), maxReason)))
	if v.Local {
		return
	}
	a.invalid[id] = append(slices.Clone(a.invalid[id]), now)
	if a.req.Failed != nil {
		a.req.Failed(v)
	}
}

// withinBudget returns a [*certs.BudgetError] for the first name that failed too often to be ordered again.
func (a *attempt) withinBudget(now time.Time) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, id := range a.req.Spec.Identifiers {
		recent := slices.DeleteFunc(slices.Clone(a.invalid[id.Value]), func(at time.Time) bool { return now.Sub(at) >= invalidWindow })
		if len(recent) < maxInvalid {
			continue
		}
		slices.SortFunc(recent, time.Time.Compare)
		return &certs.BudgetError{Identifier: id, Failed: len(recent), At: recent[len(recent)-maxInvalid].Add(invalidWindow)}
	}
	return nil
}

// maxReason bounds each of the reasons that [attempt.why] joins.
const maxReason = 200

// why explains in one line why a name was proved through this solver.
func (a *attempt) why(id certs.Identifier, rung challenges.Rung) string {
	a.mu.Lock()
	defer a.mu.Unlock()
	reasons := slices.Clone(a.history[id.Value])
	if f := a.foreseen[id.Value]; f.summary != "" {
		reasons = slices.Insert(reasons, 0, "preflight: "+text.Short(f.summary, maxReason))
	}
	fit := a.ladder.For(id)
	switch {
	case len(reasons) > 0:
		return strings.Join(reasons, "; ")
	case a.req.Solved[id.Value] == rung.Name:
		return a.asBefore(id, rung)
	case len(fit) > 0 && fit[0].Name != rung.Name:
		return "the CA does not offer what the solvers before it answer"
	case len(a.ladder) > 0 && a.ladder[0].Name != rung.Name:
		return "the first of its solvers that is fit for the name"
	}
	return "the first of its solvers"
}

// asBefore is the reason for which the replaced certificate was proved in this way.
func (a *attempt) asBefore(id certs.Identifier, rung challenges.Rung) string {
	if a.req.Replaces != nil {
		for _, v := range a.req.Replaces.Validations {
			if v.Identifier == id.Value && v.Solver == rung.Name && v.Reason != "" {
				return v.Reason
			}
		}
	}
	return "it worked before"
}
