package plan

import (
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/store"
)

// issueLimit keeps a CA that always answers "renew now" from being asked for ever: within the window, which is a day, one
// renewal and one mistake are plausible, a third issuance is a loop. Public CAs allow 5 duplicates a week.
const issueLimit = 2

// issueWindow is the time within which issuances are limited: shorter than the distance of two renewals.
func issueWindow(have *store.Lineage) time.Duration { return share(day, lifetimeOf(have), 4) }

// Recent are the issuances that count for the limit.
func Recent(have *store.Lineage, now time.Time) []time.Time {
	cut := now.Add(-issueWindow(have))
	return slices.DeleteFunc(slices.Clone(have.State.Issued), func(t time.Time) bool { return !t.After(cut) })
}

// IssueAgain is when the next certificate may be issued; the zero Time when one may now.
func IssueAgain(have *store.Lineage, now time.Time) time.Time {
	recent := Recent(have, now)
	if len(recent) < issueLimit {
		return time.Time{}
	}
	slices.SortFunc(recent, time.Time.Compare)
	return recent[len(recent)-issueLimit].Add(issueWindow(have))
}

// limitedUntil says until when the number of issuances keeps another one from being ordered. Where waiting would be an
// outage, in the last tenth and without a usable certificate, it only spaces them out, which bounds a loop; unless the CA
// issued and acmed refused, which another one does not mend.
func limitedUntil(in *input) (until time.Time, limited bool) {
	_, late := lastTenth(in)
	if in.have.Current != nil && !late || in.have.State.LastCode == advice.CertificateRefused {
		until = IssueAgain(in.have, in.now)
		return until, !until.IsZero()
	}
	var today []time.Time
	for _, at := range in.have.State.Issued {
		if at.After(in.now.Add(-day)) {
			today = append(today, at)
		}
	}
	if len(today) < issueLimit {
		return time.Time{}, false
	}
	space := min(Backoff(len(today)-1, 0, 0, 0.5), share(100*time.Minute, lifetimeOf(in.have), 20))
	until = slices.MaxFunc(today, time.Time.Compare).Add(space)
	return until, in.now.Before(until)
}
