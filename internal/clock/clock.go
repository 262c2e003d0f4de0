// Package clock judges times that were stored, by whatever the clock showed then.
//
// A machine's clock may have been wrong for a while: ahead by a year before NTP corrected it, or at 1970 after a boot
// without a battery. Everything that reads a stored time asks [Believable] before it waits for it or counts it.
package clock

import "time"

const (
	// Slack is how far ahead a time may lie that was written as the present: NTP steps clocks by less.
	Slack = time.Hour
	// LongestPause is more than the longest pause that is ever stored: a day with its jitter, or a CA's Retry-After,
	// which is cut to a day.
	LongestPause = 48 * time.Hour
)

// Believable reports whether a clock like the present one can have written t, a time that was at most ahead in the future
// when it was written: 0 for something that had happened, [LongestPause] for a pause. A time that is not believable is as
// good as none.
func Believable(now, t time.Time, ahead time.Duration) bool {
	return !t.After(now.Add(ahead + Slack))
}

// Later returns the later of two times.
func Later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}

// Earlier returns the earlier of two times, of which the zero Time stands for never.
func Earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
