package issuer

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/preflight"
)

// Preflight says how names are looked at before their first order.
type Preflight struct {
	Enforce bool             // place no order for a name that no solver is expected to prove; else only the order of the solvers changes
	Probe   preflight.Config // where to look; solvers, thumbprint and CAA identities are filled in
}

// The bounds on a preflight: it makes the first order of a name later, so it gives up long before a CA would.
const (
	preflightProbe = 5 * time.Second  // for one connection with its answer, unless configured
	preflightAll   = 15 * time.Second // for all names of a certificate
	preflightNames = 32               // names at a time
)

// foreseen is what a preflight found out about one name.
type foreseen struct {
	ladder   challenges.Ladder // what should fail at the end
	summary  string            // why another solver comes first; "" if none does
	hopeless []string          // why no solver is expected to work, for people; empty if one is
	code     advice.Code       // the same for programs
}

// preflight looks at the names that were never validated before, all at the same time. The error is about the names, when
// it is to be enforced.
func (j *job) preflight() error {
	if j.i.config.Preflight == nil || j.foreseen != nil {
		return nil
	}
	j.foreseen = map[string]foreseen{}
	ctx, cancel := context.WithTimeout(j.ctx, preflightAll)
	defer cancel()
	var group guard.Group
	var mu sync.Mutex
	group.SetLimit(preflightNames)
	for _, id := range j.req.Spec.Identifiers {
		if j.knows(id) {
			continue
		}
		j.req.Tell(certs.Step{Phase: certs.PhasePreflight, Detail: id.Value})
		group.Go(func() {
			f := j.tryForesee(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			j.foreseen[id.Value] = f
		})
	}
	group.Wait()
	if err := j.i.ended(j.ctx); j.ctx.Err() != nil {
		return err
	}
	if !j.i.config.Preflight.Enforce {
		return nil
	}
	var errs []error
	for _, id := range j.req.Spec.Identifiers {
		if f := j.foreseen[id.Value]; len(f.hopeless) > 0 {
			errs = append(errs, &certs.PreflightError{Identifier: id, Problems: f.hopeless, Code: f.code})
		}
	}
	return errors.Join(errs...)
}

// knows reports whether one of the solvers is remembered to have proved the name.
func (j *job) knows(id certs.Identifier) bool {
	for _, r := range j.ladder.For(id) {
		if r.Name == j.req.Solved[id.Value] {
			return true
		}
	}
	return false
}

// tryForesee expects nothing in particular where looking broke down.
func (j *job) tryForesee(ctx context.Context, id certs.Identifier) (f foreseen) {
	var err error
	f.ladder = j.ladder
	defer j.caught("the preflight", &err)
	return j.foresee(ctx, id)
}

func (j *job) foresee(ctx context.Context, id certs.Identifier) foreseen {
	probe := j.i.config.Preflight.Probe
	probe.Thumbprint, probe.CAAIdentities, probe.AccountURI = j.thumb, j.dir.caaIdentities(), j.account.URI
	probe.Timeout = orDefault(probe.Timeout, preflightProbe)
	o := preflight.Look(ctx, probe, id, upToDNS(j.ladder.For(id)))
	f := foreseen{ladder: j.ladder.Demote(o.Fails), code: o.Report.Advice()}
	if before, after := j.ladder.For(id), f.ladder.For(id); before[0].Name != after[0].Name {
		f.summary = o.Report.Summary()
	}
	switch {
	case o.Hopeless() && len(o.Report.Problems) == 0:
		f.hopeless = []string{"nothing, within its time"}
	case o.Hopeless():
		f.hopeless = o.Report.Problems
	}
	if len(f.hopeless) > 0 || f.summary != "" {
		j.i.config.Log.Info("preflight found obstacles", zapCert(j.req.Spec.Name), zapName(id.Value), zap.String("class", string(o.Report.Class)),
			zap.Strings("problems", o.Report.Problems))
	}
	return f
}

// upToDNS leaves out what comes after the first dns-01 rung: it does not depend on who answers at the name's addresses,
// so they need not be probed for what comes after it.
func upToDNS(ladder challenges.Ladder) challenges.Ladder {
	for n, r := range ladder {
		if r.Solver.Type().DNS() && r.Solver.Type() != challenges.DNSPersist01 {
			return ladder[:n+1]
		}
	}
	return ladder
}

// foretold says of the failed names what the preflight had found, where it expected nothing else.
func (a *attempt) foretold(invalid []*certs.ValidationError) error {
	var errs []error
	told := map[string]bool{}
	for _, v := range invalid {
		id := v.Identifier.Value
		if problems := a.foreseen[id].hopeless; len(problems) > 0 && !told[id] {
			told[id] = true
			errs = append(errs, fmt.Errorf("the preflight of %s had found: %s", id, strings.Join(problems, "; ")))
		}
	}
	return errors.Join(errs...)
}
