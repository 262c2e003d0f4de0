package store

import (
	"maps"
	"slices"
	"time"

	"github.com/acmed/acmed/internal/clock"
)

// longestWish is the furthest in the future that an operator can ask for a renewal.
const longestWish = 31 * 24 * time.Hour

// Believe drops or corrects every time that a clock like the present one cannot have written (see [clock.Believable]), and
// reports whether there was one. A pause ends, a look is repeated, an issuance and a failed validation do not count, and
// what lasts since some time lasts since now. RenewAt and ARI's window are the CA's times and stay.
func (st *State) Believe(now time.Time) (changed bool) {
	b := believer{now: now}
	b.since(&st.LastErrorAt)
	b.since(&st.FailingSince)
	b.since(&st.Limited)
	b.drop(&st.RetryAt, clock.LongestPause)
	b.drop(&st.Requested, longestWish)
	b.drop(&st.ARI.CheckAt, clock.LongestPause)
	st.Issued = b.past(st.Issued)
	for id := range st.Invalid {
		st.Invalid[id] = b.past(st.Invalid[id])
	}
	for issuer, since := range st.Down {
		b.since(&since)
		st.Down[issuer] = since
	}
	for _, id := range slices.Collect(maps.Keys(st.Installed)) {
		in := st.Installed[id]
		b.since(&in.At)
		b.drop(&in.VerifiedAt, 0)
		b.drop(&in.RetryAt, clock.LongestPause)
		st.Installed[id] = in
	}
	for id, rev := range st.Revoked {
		b.since(&rev.At)
		b.since(&rev.DoneAt)
		b.drop(&rev.RetryAt, clock.LongestPause)
		st.Revoked[id] = rev
	}
	for i := range st.Log { // for people only, so no reason to look at anything again
		b := believer{now: now}
		b.since(&st.Log[i].At)
		b.since(&st.Log[i].Last)
	}
	for record, in := range st.TLSA {
		b.since(&in.Seen)
		b.since(&in.Unused)
		st.TLSA[record] = in
	}
	if st.Chains != nil {
		b.retry(&st.Chains.RetryAt)
	}
	if st.Hook != nil {
		b.drop(&st.Hook.RetryAt, clock.LongestPause)
	}
	if st.Fleet != nil {
		b.drop(&st.Fleet.RetryAt, clock.LongestPause)
		b.drop(&st.Fleet.UnableUntil, clock.LongestPause)
	}
	if st.Held != nil {
		b.held(st.Held)
	}
	return b.changed
}

// held begins a hold anew that began ahead of now; a notice keeps its length.
func (b *believer) held(h *Held) {
	if clock.Believable(b.now, h.Since, 0) {
		return
	}
	if !h.Until.IsZero() {
		h.Until = b.now.Add(h.Until.Sub(h.Since))
	}
	h.Since, b.changed = b.now, true
}

type believer struct {
	now     time.Time
	changed bool
}

// drop forgets a time that lies too far ahead.
func (b *believer) drop(t *time.Time, ahead time.Duration) {
	if !clock.Believable(b.now, *t, ahead) {
		*t, b.changed = time.Time{}, true
	}
}

// retry moves a time of which zero means never to now.
func (b *believer) retry(t *time.Time) {
	if !clock.Believable(b.now, *t, clock.LongestPause) {
		*t, b.changed = b.now, true
	}
}

// since moves a beginning that lies ahead to now.
func (b *believer) since(t *time.Time) {
	if !clock.Believable(b.now, *t, 0) {
		*t, b.changed = b.now, true
	}
}

func (b *believer) past(list []time.Time) []time.Time {
	kept := slices.DeleteFunc(list, func(t time.Time) bool { return !clock.Believable(b.now, t, 0) })
	b.changed = b.changed || len(kept) < len(list)
	return kept
}
