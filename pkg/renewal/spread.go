package renewal

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// Spread asks for the renewal of many certificates, each at a time of its own within the given distance from now: those
// that expire first come first. One that was issued too often today comes when it may be issued again. The times are
// stored, so that a restart goes on where it was. It returns them. It waits for running jobs of these certificates.
func (e *Engine) Spread(ctx context.Context, names []string, within time.Duration) (map[string]time.Time, error) {
	type entry struct {
		name string
		ends int64
	}
	list := make([]entry, 0, len(names))
	for _, name := range names {
		have, err := e.store.Load(name)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", name, err)
		}
		list = append(list, entry{name, expiryOf(have)})
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(a.ends, b.ends) })
	times, now := make(map[string]time.Time, len(list)), e.clock()
	for i, l := range list {
		at := now.Add(time.Duration(float64(within) * float64(i) / float64(len(list))))
		err := e.update(ctx, l.name, func(r *record) {
			at = clock.Later(at, plan.IssueAgain(r.Lineage, now))
			r.edit().Requested = at
		})
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", l.name, err)
		}
		times[l.name] = at
	}
	return times, nil
}

// RecentlyIssued is how often a certificate was issued lately: within 24 hours, or less if it does not live long.
func (e *Engine) RecentlyIssued(name string) int {
	have, _, err := e.load(name)
	if err != nil {
		return 0
	}
	return len(plan.Recent(have, e.clock()))
}

// expiryOf orders certificates by risk: without one comes before all others.
func expiryOf(have *store.Lineage) int64 {
	if have.Current == nil {
		return 0
	}
	return have.Current.Leaf.NotAfter.Unix()
}
