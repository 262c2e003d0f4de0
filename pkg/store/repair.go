package store

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
)

// The bounds on what can have got into state.json by acmed itself. Anything beyond was edited by hand or by a bad disk.
const (
	maxCount = 1_000_000 // failures; the longest delay is reached after five
	maxTimes = 100       // entries of one list of times
	maxText  = 4096      // bytes of one message or URL
	minYear  = 2000
	maxYear  = 2200
)

// repair drops or clamps every value that makes no sense, and says which. Whether a time that does make sense is too far
// away is for those who know the time of day. has tells which versions are stored.
func (st *State) repair(has func(version string) bool) []string {
	r := repairer{}
	r.count("attempts", &st.Attempts)
	r.count("failures", &st.Failures)
	r.count("alerted", &st.Alerted)
	r.text("last_error", &st.LastError)
	r.text("asked", &st.Asked)
	r.time("last_error_at", &st.LastErrorAt)
	r.time("failing_since", &st.FailingSince)
	r.time("retry_at", &st.RetryAt)
	r.time("requested", &st.Requested)
	r.time("renew_at", &st.RenewAt)
	r.ari(&st.ARI)
	r.times("issued", &st.Issued)
	r.time("limited", &st.Limited)
	for _, id := range slices.Sorted(maps.Keys(st.Installed)) {
		in := st.Installed[id]
		r.installed("installed."+id, &in)
		st.Installed[id] = in
	}
	for _, id := range slices.Sorted(maps.Keys(st.Invalid)) {
		list := st.Invalid[id]
		r.times("invalid."+id, &list)
		st.Invalid[id] = list
	}
	for _, issuer := range slices.Sorted(maps.Keys(st.Down)) {
		since := st.Down[issuer]
		if r.time("down."+issuer, &since); since.IsZero() {
			delete(st.Down, issuer)
		}
	}
	r.tlsa(st)
	r.texts("warnings", &st.Warnings)
	r.texts("ignored", &st.Ignored)
	if st.Pinned != "" && !has(st.Pinned) {
		r.say("pinned", "version %q is not stored", text.Cut(st.Pinned, text.Value))
		st.Pinned = ""
	}
	st.Compromised = slices.DeleteFunc(st.Compromised, func(id string) bool { return !has(id) }) // they are gone, as they should
	maps.DeleteFunc(st.Revoked, func(id string, _ Revocation) bool { return !has(id) })
	for _, id := range slices.Sorted(maps.Keys(st.Revoked)) {
		rev := st.Revoked[id]
		r.revocation("revoked."+id, &rev)
		st.Revoked[id] = rev
	}
	st.Held = r.held(st.Held, has)
	r.log(&st.Log)
	r.fleet(st.Fleet, has)
	if st.Hook != nil {
		r.count("hook.failures", &st.Hook.Failures)
		r.text("hook.last_error", &st.Hook.LastError)
		r.time("hook.retry_at", &st.Hook.RetryAt)
	}
	return r.said
}

// repairer collects what was repaired.
type repairer struct{ said []string }

func (r *repairer) say(field, format string, args ...any) {
	r.said = append(r.said, fmt.Sprintf("%s ignored: %s", text.Cut(field, text.Value), fmt.Sprintf(format, args...)))
}

func (r *repairer) count(field string, n *int) {
	if *n < 0 || *n > maxCount {
		r.say(field, "impossible number %d", *n)
		*n = min(max(*n, 0), maxCount)
	}
}

func (r *repairer) tlsa(st *State) {
	for _, record := range slices.Sorted(maps.Keys(st.TLSA)) {
		in := st.TLSA[record]
		r.time("tlsa."+record+".seen", &in.Seen)
		r.time("tlsa."+record+".unused", &in.Unused)
		st.TLSA[record] = in
	}
	r.text("tlsa_error", &st.TLSAError)
}

// texts drops a list that is too long, and clamps its entries.
func (r *repairer) texts(field string, list *[]string) {
	if len(*list) > maxTimes {
		r.say(field, "%d of them", len(*list))
		*list = nil
	}
	for i := range *list {
		r.text(field, &(*list)[i])
	}
}

func (r *repairer) text(field string, s *string) {
	if len(*s) > maxText {
		r.say(field, "%d bytes of text", len(*s))
		*s = strings.ToValidUTF8((*s)[:maxText], "")
	}
}

func sane(t time.Time) bool {
	year := t.UTC().Year()
	return t.IsZero() || year >= minYear && year < maxYear
}

func (r *repairer) time(field string, t *time.Time) {
	if !sane(*t) {
		r.say(field, "impossible time %s", t.Format(time.RFC3339))
		*t = time.Time{}
	}
}

func (r *repairer) times(field string, list *[]time.Time) {
	kept := slices.DeleteFunc(slices.Clone(*list), func(t time.Time) bool { return t.IsZero() || !sane(t) })
	if len(kept) != len(*list) {
		r.say(field, "%d impossible times", len(*list)-len(kept))
	}
	slices.SortFunc(kept, time.Time.Compare)
	if len(kept) > maxTimes {
		r.say(field, "more than %d times", maxTimes)
		kept = kept[len(kept)-maxTimes:]
	}
	*list = kept
}

func (r *repairer) ari(a *ARI) {
	r.time("ari.check_at", &a.CheckAt)
	if !sane(a.Start) || !sane(a.End) || a.End.Before(a.Start) {
		r.say("ari", "impossible window %s to %s", a.Start.Format(time.RFC3339), a.End.Format(time.RFC3339))
		a.Start, a.End, a.For = time.Time{}, time.Time{}, ""
	}
	r.text("ari.url", &a.URL)
}

func (r *repairer) installed(field string, in *Installed) {
	r.time(field+".at", &in.At)
	r.time(field+".verified_at", &in.VerifiedAt)
	r.time(field+".retry_at", &in.RetryAt)
	r.count(field+".failures", &in.Failures)
	r.text(field+".last_error", &in.LastError)
	r.text(field+".asked", &in.Asked)
	r.texts(field+".notes", &in.Notes)
}

func (r *repairer) revocation(field string, rev *Revocation) {
	r.count(field+".failures", &rev.Failures)
	r.text(field+".last_error", &rev.LastError)
	r.time(field+".at", &rev.At)
	r.time(field+".done_at", &rev.DoneAt)
	r.time(field+".retry_at", &rev.RetryAt)
}

func (r *repairer) fleet(f *Fleet, has func(string) bool) {
	if f == nil {
		return
	}
	if f.Unshared != "" && !has(f.Unshared) {
		r.say("fleet.unshared", "version %q is not stored", text.Cut(f.Unshared, text.Value))
		f.Unshared = ""
	}
	if f.N < 0 || f.Base < 0 || f.Version != "" && !has(f.Version) {
		r.say("fleet", "version %d, %q is not stored", f.N, text.Cut(f.Version, text.Value))
		f.N, f.Version, f.Base = 0, "", max(f.Base, 0)
	}
	r.text("fleet.last_error", &f.LastError)
	r.time("fleet.retry_at", &f.RetryAt)
}

func (r *repairer) held(h *Held, has func(string) bool) *Held {
	if h == nil {
		return nil
	}
	if !has(h.Version) {
		r.say("held", "version %q is not stored", text.Cut(h.Version, text.Value))
		return nil
	}
	r.time("held.since", &h.Since)
	r.time("held.until", &h.Until)
	r.text("held.reason", &h.Reason)
	return h
}
