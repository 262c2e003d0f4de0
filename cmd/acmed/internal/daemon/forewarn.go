package daemon

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/preflight"
	"github.com/acmed/acmed/pkg/renewal"
)

// caaTimeout bounds the look-up of one CAA record. Nobody waits for it.
const caaTimeout = 5 * time.Second

// forewarn returns the look for what would stand in the way of the next renewal: solvers that could not present an answer,
// and CAA records that forbid an issuer of the certificate.
func (b *builder) forewarn(rungs map[string]challenges.Rung, issuers map[string]madeIssuer) func(context.Context, *certs.Spec) []string {
	return func(ctx context.Context, want *certs.Spec) []string {
		return slices.Concat(notReady(rungs, want), accountNotes(issuers, want), b.persistWarnings(ctx, rungs, issuers, want), b.forbidden(ctx, issuers, want))
	}
}

// notReady asks those solvers of a certificate that know it whether they could present an answer.
func notReady(rungs map[string]challenges.Rung, want *certs.Spec) []string {
	var list []string
	for _, name := range want.Solvers {
		solver, ok := rungs[name].Solver.(interface{ Ready() error })
		if !ok {
			continue
		}
		if err := solver.Ready(); err != nil {
			list = append(list, fmt.Sprintf("the solver %s cannot validate names now: %v; create the directory, or allow it in "+
				"the unit: ReadWritePaths= in a drop-in (systemctl edit)", name, err))
		}
	}
	return list
}

// accountNotes says what is odd about the accounts of a certificate's issuers.
func accountNotes(issuers map[string]madeIssuer, want *certs.Spec) []string {
	var list []string
	for _, name := range want.Issuers {
		if made, ok := issuers[name]; ok {
			for _, note := range made.Notes() {
				list = append(list, fmt.Sprintf("the account of the issuer %s: %s", name, note))
			}
		}
	}
	return list
}

// forbidden looks up the CAA records for every issuer that a certificate may come from: the backup CA's too, so that it
// does not turn out to be forbidden on the day it is needed. Private CAs have no CAA records.
func (b *builder) forbidden(ctx context.Context, issuers map[string]madeIssuer, want *certs.Spec) []string {
	cas, resolver := map[string][]string{}, ""
	for _, name := range want.Issuers {
		made, ok := issuers[name]
		if !ok || made.conf.Private {
			continue
		}
		identities, err := made.CAAIdentities(ctx)
		if err != nil {
			b.log.Debug("CAA identities not known", zap.String("issuer", name), zap.Error(err))
			continue
		}
		cas[name] = identities
		if server, err := made.probe.Server(); err == nil { // the configuration was checked when it was read
			resolver = server
		}
	}
	if len(cas) == 0 {
		return nil
	}
	return preflight.CheckCAA(ctx, resolver, caaTimeout, want.Identifiers, cas)
}

// clockOffsets asks all CAs at once how far this machine's clock is ahead of theirs.
func clockOffsets(issuers map[string]madeIssuer) func(context.Context) map[string]time.Duration {
	return func(ctx context.Context) map[string]time.Duration {
		var mu sync.Mutex
		var wg guard.Group
		offsets := map[string]time.Duration{}
		for name, made := range issuers {
			wg.Go(func() {
				if ahead, err := made.ClockOffset(ctx); err == nil {
					mu.Lock()
					defer mu.Unlock()
					offsets[name] = ahead
				}
			})
		}
		wg.Wait()
		return offsets
	}
}

var _ renewal.Issuer = madeIssuer{}
