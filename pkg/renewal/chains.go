package renewal

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// chainPauses are how long the CA is left alone before it is asked each time for the alternate chains that it did not
// deliver. After the last one they come with the next certificate.
func chainPauses() []time.Duration {
	return []time.Duration{time.Hour, 4 * time.Hour, 16 * time.Hour, 40 * time.Hour, 40 * time.Hour, 40 * time.Hour}
}

// noteChains notes what chains are missing of a new certificate.
func (r *record) noteChains(b *certs.Bundle) {
	m := &store.Chains{For: b.Fingerprint(), Missing: b.Missing}
	if b.RSA != nil {
		m.RSA = b.RSA.Missing
	}
	r.setChains(m)
}

// setChains sets what is missing, and when it is asked for.
func (r *record) setChains(m *store.Chains) {
	st := r.edit()
	if m.Missing == nil && m.RSA == nil {
		st.Chains = nil
		return
	}
	m.RetryAt = time.Time{}
	if list := chainPauses(); m.Asked < len(list) {
		pause := list[max(m.Asked, 0)]
		m.RetryAt = r.now().Add(pause + time.Duration(spread()*float64(pause)/10))
	}
	st.Chains = m
}

// askChains asks for the missing chains of the newest version when it is time. When clients would refuse the chain that it
// presents and accept one that came, that is stored as a version of its own, which goes live like any other.
func (j *job) askChains(ctx context.Context) error {
	r, m := j.record, j.record.State.Chains
	id := j.lacksChains()
	if id == "" {
		return nil
	}
	if j.engine.clock().Before(m.RetryAt) {
		j.chainsAgain = m.RetryAt
		return nil
	}
	b, err := j.engine.store.Bundle(r.Name, id)
	if err != nil {
		return err
	}
	fresh, next := *b, store.Chains{For: m.For, Asked: m.Asked + 1}
	next.Missing = j.fetchChains(ctx, &fresh, m.Missing)
	if b.RSA != nil {
		twin := *b.RSA
		next.RSA = j.fetchChains(ctx, &twin, m.RSA)
		fresh.RSA = &twin
	}
	if err := j.stopped(); err != nil {
		return err
	}
	r.setChains(&next)
	if r.State.Chains != nil {
		j.chainsAgain = r.State.Chains.RetryAt
	}
	o := j.judge(&fresh)
	if err := r.save(); err != nil || len(o.failing) > 0 || o.bundle.SameChain(b) {
		return err
	}
	if _, err := j.engine.store.AddVersion(r.Name, o.bundle, j.engine.clock()); err != nil {
		return fmt.Errorf("store the certificate with another chain: %w", err)
	}
	j.engine.log.Info("stored the certificate with a chain that clients need", zap.String("certificate", r.Name))
	return r.reread()
}

// lacksChains is the newest version if the CA is to be asked for chains of it, and another chain could make a difference: it
// is live, or held for clients.
func (j *job) lacksChains() string {
	r, m := j.record, j.record.State.Chains
	v := plan.Newest(r.Lineage)
	if m == nil || m.RetryAt.IsZero() || j.set.Chains == nil || v == nil || v.Fingerprint != m.For {
		return ""
	}
	if h := r.State.Held; v.ID == r.Version || h != nil && h.Version == v.ID && len(h.Clients) > 0 {
		return v.ID
	}
	return ""
}

// fetchChains adds the chains that the CA has by now to a unit, and says which are still missing.
func (j *job) fetchChains(ctx context.Context, unit *certs.Bundle, before *certs.Missing) *certs.Missing {
	if before == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, ariPatience)
	defer cancel()
	chains, missing, err := j.set.Chains(ctx, unit, j.Spec.Name, before.Address)
	if err != nil {
		j.engine.log.Debug("no alternate chains", zap.String("certificate", j.Spec.Name), zap.Error(err))
		return before
	}
	unit.Alternates = slices.Clone(unit.Alternates)
	for _, chain := range chains {
		same := func(known []byte) bool { return bytes.Equal(known, chain) }
		if !same(unit.ChainPEM) && !slices.ContainsFunc(unit.Alternates, same) {
			unit.Alternates = append(unit.Alternates, chain)
		}
	}
	return missing
}

// renewChain makes every target be installed again before a version goes live that has the certificate of the active one and
// another chain: what a target serves is remembered by the certificate alone.
func (j *job) renewChain(id string) error {
	r := j.record
	v := plan.Find(r.Lineage, id)
	if v == nil || r.Current == nil || v.Fingerprint != r.Current.Fingerprint() {
		return nil
	}
	b, err := j.engine.store.Bundle(r.Name, id)
	if err != nil || b.SameChain(r.Current) {
		return err
	}
	for target, t := range r.State.Installed {
		t.Fingerprint, t.RetryAt = "", time.Time{}
		r.setTarget(target, t)
	}
	if j.Hooks.Post != nil {
		r.edit().Hook = &store.Hook{For: b.Fingerprint()}
	}
	return r.save()
}

// chainsWarning is what status says about missing chains of the newest version.
func chainsWarning(have *store.Lineage) (list []string) {
	m := have.State.Chains
	if v := plan.Newest(have); m == nil || v == nil || v.Fingerprint != m.For {
		return nil
	}
	again := "acmed queries the CA for it again with the next certificate"
	if !m.RetryAt.IsZero() {
		again = "next attempt at " + m.RetryAt.UTC().Format(time.RFC3339)
	}
	for _, missing := range []*certs.Missing{m.Missing, m.RSA} {
		if missing == nil {
			continue
		}
		for _, chain := range missing.Chains {
			list = append(list, fmt.Sprintf("alternate chain unavailable: %s; %s", text.Line(chain, errorText), again))
		}
	}
	return list
}
