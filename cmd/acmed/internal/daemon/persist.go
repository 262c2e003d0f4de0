package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
	"github.com/acmed/acmed/pkg/config"
)

// persistRecords are the lines of zone files for the names that are validated by dns-persist-01 at an issuer.
func persistRecords(c *config.Config, issuer string, identities []string, uri string) []string {
	if len(identities) == 0 || uri == "" {
		return nil
	}
	var ids []certs.Identifier
	for i := range c.Certificates {
		spec := c.Spec(&c.Certificates[i])
		if slices.Contains(spec.Issuers, issuer) && slices.ContainsFunc(spec.Solvers, func(name string) bool {
			s, ok := c.Solver(name)
			return ok && s.Type() == challenges.DNSPersist01
		}) {
			ids = append(ids, spec.Identifiers...)
		}
	}
	return dnspersist01.Records(ids, identities, uri, time.Time{})
}

// persistWarnings looks at the dns-persist-01 records of a certificate for its first issuer: what is wrong now, and what
// expires soon.
func (b *builder) persistWarnings(ctx context.Context, rungs map[string]challenges.Rung, issuers map[string]madeIssuer, want *certs.Spec) []string {
	var list []string
	for _, name := range want.Solvers {
		solver, ok := rungs[name].Solver.(*dnspersist01.Solver)
		if !ok || len(want.Issuers) == 0 {
			continue
		}
		made, ok := issuers[want.Issuers[0]]
		if !ok {
			continue
		}
		uri := made.AccountURI(ctx)
		identities, err := made.CAAIdentities(ctx)
		if err != nil || uri == "" || len(identities) == 0 {
			continue // nothing can be said without them
		}
		for _, id := range want.Identifiers {
			if !rungs[name].Fits(id) {
				continue
			}
			if text := solver.Warn(ctx, dnspersist01.Want{Identifier: id, Issuers: identities, AccountURI: uri}); text != "" {
				list = append(list, text)
			}
		}
	}
	return list
}
