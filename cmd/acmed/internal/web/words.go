package web

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

const day = 24 * time.Hour

// stamp writes a time for people. The zone is always UTC: the visitor's is not known, and the machine's is of no use to
// somebody who looks after machines in many.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return text.Stamp(t)
}

func date(t time.Time) string {
	if t.IsZero() {
		return "—"
	}
	return t.UTC().Format(time.DateOnly)
}

// span rounds a distance in time to the unit that matters.
func span(d time.Duration) string {
	d = d.Abs()
	switch {
	case d >= 2*day:
		return plural(int(d/day), "day")
	case d >= 2*time.Hour:
		return plural(int(d/time.Hour), "hour")
	case d >= 2*time.Minute:
		return plural(int(d/time.Minute), "minute")
	}
	return plural(int(d/time.Second), "second")
}

// relative says how far a time is from now: "in 3 days", "3 days ago".
func relative(now, t time.Time) string {
	switch d := t.Sub(now); {
	case t.IsZero():
		return "—"
	case d < 0:
		return span(d) + " ago"
	default:
		return "in " + span(d)
	}
}

func plural(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return number(n) + " " + what
}

// number groups the digits of large numbers.
func number(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0 && text[i-1] != '-'; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// label is a state as a reader sees it.
func label(h renewal.Health) string { return strings.ReplaceAll(string(h), "-", " ") }

// tone is the colour that a state has.
func tone(h renewal.Health) string {
	switch h {
	case renewal.HealthOK:
		return "good"
	case renewal.HealthHeld, renewal.HealthHookFailed:
		return "warn"
	}
	return "bad"
}

// because explains why the active version is renewed at the planned time.
func because(r *renewal.RenewalStatus, notAfter time.Time) string {
	if r.Reason == plan.ReasonARI {
		return fmt.Sprintf("The CA suggests a renewal between %s and %s. acmed chose a random time in this window, once for this version.",
			stamp(r.Start), stamp(r.End))
	}
	text := fmt.Sprintf("%s before expiry, as configured.", span(notAfter.Sub(r.At)))
	if r.Start.IsZero() {
		return text + " The CA suggests no renewal window."
	}
	return text + fmt.Sprintf(" The CA suggests %s to %s, which is not earlier.", stamp(r.Start), stamp(r.End))
}
