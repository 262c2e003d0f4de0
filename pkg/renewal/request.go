package renewal

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/store"
)

// requested is a renewal that an operator asked for at a time of its own; see [Engine.Spread].
func requested(in *input) (verdict, bool) {
	at := in.have.State.Requested
	return verdict{ReasonForced, "renewal was asked for"}, !at.IsZero() && !in.now.Before(at)
}

// Spread asks for the renewal of many certificates, each at a time of its own within the given distance from now: those
// that expire first come first. One that was issued too often today comes when it may be issued again. The times are
// stored, so that a restart goes on where it was. It returns them.
func (e *Engine) Spread(names []string, within time.Duration) (map[string]time.Time, error) {
	type entry struct {
		name string
		have *store.Lineage
	}
	list := make([]entry, 0, len(names))
	for _, name := range names {
		have, err := e.store.Load(name)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", name, err)
		}
		list = append(list, entry{name, have})
	}
	slices.SortStableFunc(list, func(a, b entry) int { return cmp.Compare(expiryOf(a.have), expiryOf(b.have)) })
	times, now := make(map[string]time.Time, len(list)), e.clock()
	for i, l := range list {
		at := now.Add(time.Duration(float64(within) * float64(i) / float64(len(list))))
		if recent := issuedLately(&l.have.State, now); len(recent) >= issueLimit {
			at = later(at, issueAgain(recent))
		}
		l.have.State.Requested = at
		if err := e.store.SaveState(l.name, &l.have.State); err != nil {
			return nil, fmt.Errorf("certificate %s: %w", l.name, err)
		}
		times[l.name] = at
	}
	return times, nil
}

// IssuedToday is how often a certificate was issued within the last 24 hours.
func (e *Engine) IssuedToday(name string) int {
	have, err := e.store.Load(name)
	if err != nil {
		return 0
	}
	return len(issuedLately(&have.State, e.clock()))
}

// expiryOf orders certificates by risk: without one comes before all others.
func expiryOf(have *store.Lineage) int64 {
	if have.Current == nil {
		return 0
	}
	return have.Current.Leaf.NotAfter.Unix()
}
