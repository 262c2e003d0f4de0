package notify

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
)

// Schedule says when digests are sent, in local time. The zero Schedule sends none.
type Schedule struct {
	Weekly       bool
	Day          time.Weekday // of a weekly one
	Hour, Minute int
	set          bool
}

// IsZero reports whether there are no digests.
func (s Schedule) IsZero() bool { return !s.set }

// ParseSchedule reads how often a digest comes, "daily", "weekly" or "" for never, and when: "08:00", for a weekly one
// also "mon 08:00". Without a time it comes at eight, on Mondays.
func ParseSchedule(every, at string) (Schedule, error) {
	s := Schedule{Weekly: every == "weekly", Day: time.Monday, Hour: 8, set: true}
	switch {
	case every == "" && at == "":
		return Schedule{}, nil
	case every == "":
		return s, errors.New("a time without digest: daily or weekly")
	case every != "daily" && every != "weekly":
		return s, fmt.Errorf("%q is neither daily nor weekly", every)
	case at == "":
		return s, nil
	}
	day, clock, both := strings.Cut(at, " ")
	if !both {
		day, clock = "mon", at
	}
	i := slices.Index([]string{"sun", "mon", "tue", "wed", "thu", "fri", "sat"}, strings.ToLower(day))
	t, err := time.Parse("15:04", clock)
	if err != nil || i < 0 || both && !s.Weekly {
		return s, fmt.Errorf("%q is not a time such as 08:00, for a weekly digest also mon 08:00", at)
	}
	s.Day, s.Hour, s.Minute = time.Weekday(i), t.Hour(), t.Minute()
	return s, nil
}

// next returns the first time of the schedule after t.
func (s Schedule) next(t time.Time) time.Time {
	for day := 0; ; day++ {
		at := time.Date(t.Year(), t.Month(), t.Day()+day, s.Hour, s.Minute, 0, 0, t.Location())
		if at.After(t) && (!s.Weekly || at.Weekday() == s.Day) {
			return at
		}
	}
}

// digestLook is the longest time between two looks at the clock, which may be set.
const digestLook = time.Hour

// digests sends digests until the hub closes. One that was missed while acmed was not running comes at the start.
func (h *Hub) digests() {
	for {
		timer := time.NewTimer(h.sendDigests())
		select {
		case <-timer.C:
		case <-h.replan:
		case <-h.stop:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// sendDigests enqueues those that are due and returns how long to wait for the next.
func (h *Hub) sendDigests() time.Duration {
	due, wait := h.dueDigests()
	if len(due) == 0 {
		return wait
	}
	list := h.conf.Summary(h.ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	e := h.stamp(digest(list))
	for _, c := range due {
		if !c.gone && h.enqueue(c, e) {
			c.DigestAt = h.conf.Clock()
		}
	}
	return min(wait, time.Minute)
}

func (h *Hub) dueDigests() (due []*channel, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.conf.Clock()
	wait = digestLook
	for _, name := range slices.Sorted(maps.Keys(h.channels)) {
		c := h.channels[name]
		if c.Digest.IsZero() {
			continue
		}
		if c.DigestAt.IsZero() || c.DigestAt.After(now) { // the first comes at its time, not at once
			c.DigestAt = now
			h.changed()
		}
		if next := c.Digest.next(c.DigestAt.In(now.Location())); next.After(now) {
			wait = min(wait, next.Sub(now))
		} else {
			due = append(due, c)
		}
	}
	return due, wait
}

// digest makes the event from the states of all certificates: what needs attention first, then what ends first.
func digest(list []State) Event {
	list = slices.Clone(list)
	bad := 0
	for _, s := range list {
		if s.Attention {
			bad++
		}
	}
	slices.SortStableFunc(list, func(a, b State) int {
		switch {
		case a.Attention != b.Attention && a.Attention:
			return -1
		case a.Attention != b.Attention:
			return 1
		}
		if n := a.NotAfter.Compare(b.NotAfter); n != 0 {
			return n
		}
		return strings.Compare(a.Certificate, b.Certificate)
	})
	message := fmt.Sprintf("all is well with %s", text.Count(len(list), "certificate"))
	if bad > 0 {
		message = fmt.Sprintf("%d of %s need attention", bad, text.Count(len(list), "certificate"))
	}
	return Event{Kind: Digest, Summary: list, Message: message}
}
