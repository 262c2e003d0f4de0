package plan

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// stored looks at versions that are on disk and not live. They come before any new order: what was issued is not
// ordered again. A version that has ended is as good as none, and neither pin nor hold outlives the active version, which
// protects nobody from then on.
func stored(in *input) (Plan, bool) {
	st := &in.have.State
	if pin := Find(in.have, st.Pinned); pin != nil && !Ended(pin, in.believed()) && (pin.ID != in.have.Version || in.serving()) {
		return pinned(in, pin)
	}
	v := in.next()
	if v == nil || v.ID == in.have.Version || Ended(v, in.believed()) {
		return Plan{}, false
	}
	if h := st.Held; h != nil && h.Version == v.ID && in.serving() {
		return waiting(in, h)
	}
	return activate(in, v.ID, "version "+v.ID+" is stored but not active"), true
}

// next is the version that comes after the active one. Where none can be used, what is left on the disk is judged like a
// new version: by its names and dates, and the store has looked at its key. In a fleet the names may be another node's.
func (in *input) next() *store.Version {
	if in.have.Current != nil {
		return Newest(in.have)
	}
	st, names := &in.have.State, certs.JoinNames(in.want.Names())
	for i := range in.have.Versions {
		v := &in.have.Versions[i]
		_, revoked := st.Revoked[v.ID]
		switch {
		case v.ID == in.have.Version:
			return v
		case slices.Contains(st.Compromised, v.ID), revoked, Ended(v, in.believed()), v.NotBefore.After(in.now.Add(clock.Slack)):
		case v.Names == "", v.Names == names, st.Fleet != nil && st.Fleet.Version == v.ID:
			return v
		}
	}
	return nil
}

// waiting leaves a version where it is until its time has come. Force orders another one, which may be better, and so does
// a configuration that asks for something else, or an active version whose key others may know. While clients refuse the
// version that waits, the CA is asked again on a schedule: one that issues from several intermediates in turn may have
// another.
func waiting(in *input, h *store.Held) (Plan, bool) {
	at, end := ReleaseTime(in.have, h), in.have.Current.Leaf.NotAfter
	switch {
	case in.opts.Force || h.Stale || IsCompromised(in.have) && !h.Keys:
		return Plan{}, false
	case !in.believed().Before(at):
		return activate(in, h.Version, "version "+h.Version+" has waited long enough"), true
	case Announced(h):
		return addTargets(in, Plan{Reason: ReasonNotice, Message: h.Reason + ", becomes active on " + at.UTC().Format(time.RFC3339), Next: at}), true
	}
	p := keep(in, ReasonHeld, fmt.Sprintf("%s; the active version ends on %s", h.Reason, end.UTC().Format(time.DateOnly)), at)
	if TakenBack(h) || h.Keys { // another certificate would not help
		return p, true
	}
	again := in.askAgain(h)
	if due, isDue := orderDue(in); isDue && !in.now.Before(again) {
		wait, must := mustWait(in, due)
		if !must {
			return Plan{Reason: due.reason, Message: due.message + ", and clients would refuse version " + h.Version, Obtain: true, Next: in.now}, true
		}
		again = wait.Next
	}
	p.Next = clock.Earlier(p.Next, clock.Later(again, RuleTime(in.want, in.have)))
	return p, true
}

// askAgain is when another version than the one that clients refuse is ordered: ten times in the renewal time, and never
// so often that the limit on issuances would keep an urgent one back.
func (in *input) askAgain(h *store.Held) time.Time {
	leaf, last := in.have.Current.Leaf, h.Since
	if v := Find(in.have, h.Version); !v.Created.IsZero() && clock.Believable(in.now, v.Created, 0) {
		last = v.Created
	}
	return last.Add(max(Before(in.want, leaf)/10, issueWindow(in.have)/issueLimit))
}

// pinned keeps the version of a rollback live. Towards its end a successor is ordered, which takes over when it is over.
func pinned(in *input, pin *store.Version) (Plan, bool) {
	if pin.ID != in.have.Version {
		return activate(in, pin.ID, "version "+pin.ID+" was asked for"), true
	}
	_, late := lastTenth(in)
	successor := Newest(in.have)
	if in.opts.Force || late && (successor.ID == pin.ID || !successor.NotAfter.After(pin.NotAfter)) {
		return Plan{}, false
	}
	end := in.have.Current.Leaf.NotAfter
	return keep(in, ReasonPinned, fmt.Sprintf("pinned to version %s, which ends on %s", pin.ID, end.UTC().Format(time.DateOnly)), end), true
}

func activate(in *input, id, message string) Plan {
	return Plan{Reason: ReasonActivate, Message: message, Activate: id, Next: in.now}
}

// keep keeps the active version, and reminds the operator.
func keep(in *input, reason Reason, message string, until time.Time) (p Plan) {
	p = addTargets(in, Plan{Reason: reason, Message: message, Next: clock.Earlier(until, in.now.Add(verifyEvery(lifetimeOf(in.have))))})
	days, told := Reminder(in.have.Current.Leaf.NotAfter.Sub(in.now)), in.have.State.Alerted
	if days > 0 && (told == 0 || days < told) {
		p.Remind = days
	}
	return p
}

// serving reports whether there is an active version that clients can use.
func (in *input) serving() bool {
	return in.have.Current != nil && in.believed().Before(in.have.Current.Leaf.NotAfter)
}

// believed is the time that versions are judged by: what waits does not go live because the clock jumped.
func (in *input) believed() time.Time { return in.now.Add(-in.opts.Clock.Ahead) }

// Announced tells a version that waits for the end of its notice from one that is held.
func Announced(h *store.Held) bool { return len(h.Clients) == 0 && !h.Until.IsZero() }

// TakenBack tells a version that an endpoint did not work with: only an operator, or the end of the active one, makes it live.
func TakenBack(h *store.Held) bool { return len(h.Clients) == 0 && h.Until.IsZero() && !h.Keys }

// ReleaseTime is when a held version goes live by itself: at the time that is stored with it, and in any case a margin
// before the active version ends. A notice ends before the last tenth of its lifetime, in which nothing may delay any more.
func ReleaseTime(have *store.Lineage, h *store.Held) time.Time {
	leaf := have.Current.Leaf
	end := ReleaseBy(leaf.NotBefore, leaf.NotAfter)
	if Announced(h) && !h.Keys {
		end = leaf.NotAfter.Add(-lifetimeOf(have) / 10)
	}
	return clock.Earlier(end, h.Until)
}

// ReleaseBy is when nothing is held any more for the sake of a certificate: a day before it ends, or a tenth of a shorter
// life, so that another order can still be placed if the version that goes live then turns out not to work.
func ReleaseBy(notBefore, notAfter time.Time) time.Time {
	return notAfter.Add(-share(day, Lifetime(notBefore, notAfter), 10))
}

// Ended reports whether a version is not valid any more.
func Ended(v *store.Version, now time.Time) bool { return !now.Before(v.NotAfter) }

// Find finds a stored version by its ID.
func Find(have *store.Lineage, id string) *store.Version {
	i := slices.IndexFunc(have.Versions, func(v store.Version) bool { return v.ID == id })
	if i < 0 {
		return nil
	}
	return &have.Versions[i]
}

// Newest is the newest version that is live or may become so: one whose key others may know never does.
func Newest(have *store.Lineage) *store.Version {
	for i := range have.Versions {
		if v := &have.Versions[i]; v.ID == have.Version || !slices.Contains(have.State.Compromised, v.ID) {
			return v
		}
	}
	return nil
}

// Previous is the version that a rollback goes back to: the newest one before the active one that is still valid and whose
// key nobody else is known to have; nil when there is none.
func Previous(have *store.Lineage, now time.Time) *store.Version {
	for i := range have.Versions {
		if v := &have.Versions[i]; strings.Compare(v.ID, have.Version) < 0 && !Ended(v, now) && !slices.Contains(have.State.Compromised, v.ID) {
			return v
		}
	}
	return nil
}
