package renewal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/store"
)

// reminders lists the days left of the active version at which an operator hears again about one that waits: close
// together where the time gets short.
func reminders() []int { return []int{1, 2, 3, 5, 7, 10, 14, 21, 30} }

// reminder is the smallest number of days in the list within which the active version ends; 0 when that is far away.
func reminder(left time.Duration) int {
	for _, days := range reminders() {
		if left <= time.Duration(days)*day {
			return days
		}
	}
	return 0
}

// stored looks at versions that are on disk and not live. They come before any new order: what was issued is not
// ordered again. A version that has ended is as good as none, and neither pin nor hold outlives the active version, which
// protects nobody from then on.
func stored(in *input) (Plan, bool) {
	st := &in.have.State
	if pin := version(in.have, st.Pinned); pin != nil && !ended(pin, in.now) && (pin.ID != in.have.Version || in.serving()) {
		return pinned(in, pin)
	}
	v := newest(in.have)
	if v == nil || v.ID == in.have.Version || ended(v, in.now) {
		return Plan{}, false
	}
	if h := st.Held; h != nil && h.Version == v.ID && in.serving() {
		return waiting(in, h)
	}
	return activate(in, v.ID, "version "+v.ID+" is stored but not active"), true
}

// waiting leaves a version where it is until its time has come. Force orders another one, which may be better, and so does
// a configuration that asks for something else, or an active version whose key others may know.
func waiting(in *input, h *store.Held) (Plan, bool) {
	at, end := releaseTime(in, h), in.have.Current.Leaf.NotAfter
	switch {
	case in.opts.Force || h.Stale || isCompromised(in.have):
		return Plan{}, false
	case !in.now.Before(at):
		return activate(in, h.Version, "version "+h.Version+" has waited long enough"), true
	case announced(h):
		return deliver(in, Plan{Reason: ReasonNotice, Message: h.Reason + ", goes live on " + at.UTC().Format(time.RFC3339), Next: at}), true
	}
	return wait(in, ReasonHeld, fmt.Sprintf("%s; the active version ends on %s", h.Reason, end.UTC().Format(time.DateOnly)), at), true
}

// pinned keeps the version of a rollback live. Towards its end a successor is ordered, which takes over when it is over.
func pinned(in *input, pin *store.Version) (Plan, bool) {
	if pin.ID != in.have.Version {
		return activate(in, pin.ID, "version "+pin.ID+" was asked for"), true
	}
	_, late := lastTenth(in)
	successor := newest(in.have)
	if in.opts.Force || late && (successor.ID == pin.ID || !successor.NotAfter.After(pin.NotAfter)) {
		return Plan{}, false
	}
	end := in.have.Current.Leaf.NotAfter
	return wait(in, ReasonPinned, fmt.Sprintf("pinned to version %s, which ends on %s", pin.ID, end.UTC().Format(time.DateOnly)), end), true
}

func activate(in *input, id, message string) Plan {
	return Plan{Reason: ReasonActivate, Message: message, Activate: id, Next: in.now}
}

// wait keeps the active version, and reminds the operator.
func wait(in *input, reason Reason, message string, until time.Time) (p Plan) {
	p = deliver(in, Plan{Reason: reason, Message: message, Next: earliest(until, in.now.Add(verifyEvery))})
	days, told := reminder(in.have.Current.Leaf.NotAfter.Sub(in.now)), in.have.State.Alerted
	if days > 0 && (told == 0 || days < told) {
		p.Remind = days
	}
	return p
}

// serving reports whether there is an active version that clients can use.
func (in *input) serving() bool {
	return in.have.Current != nil && in.now.Before(in.have.Current.Leaf.NotAfter)
}

// announced tells a version that waits for the end of its notice from one that is held.
func announced(h *store.Held) bool { return len(h.Clients) == 0 && !h.Until.IsZero() }

// takenBack tells a version that an endpoint did not work with: only an operator, or the end of the active one, makes it live.
func takenBack(h *store.Held) bool { return len(h.Clients) == 0 && h.Until.IsZero() }

// releaseTime is when a held version goes live by itself: at the time that is stored with it, and in any case when the
// active version ends. A notice ends before the last tenth of its lifetime, in which nothing may delay any more.
func releaseTime(in *input, h *store.Held) time.Time {
	end, life := in.life()
	if announced(h) {
		end = end.Add(-life / 10)
	}
	return earliest(end, h.Until)
}

func ended(v *store.Version, now time.Time) bool { return !now.Before(v.NotAfter) }

// version finds a stored version by its ID.
func version(have *store.Lineage, id string) *store.Version {
	i := slices.IndexFunc(have.Versions, func(v store.Version) bool { return v.ID == id })
	if i < 0 {
		return nil
	}
	return &have.Versions[i]
}

// newest is the newest version that is live or may become so: one whose key others may know never does.
func newest(have *store.Lineage) *store.Version {
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
		if v := &have.Versions[i]; strings.Compare(v.ID, have.Version) < 0 && !ended(v, now) && !slices.Contains(have.State.Compromised, v.ID) {
			return v
		}
	}
	return nil
}
