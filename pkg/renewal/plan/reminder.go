package plan

import (
	"slices"
	"time"
)

// reminders lists the days left of the active version at which an operator hears again about one that waits: close
// together where the time gets short.
func reminders() []int { return []int{1, 2, 3, 5, 7, 10, 14, 21, 30} }

// Reminder is the smallest number of days in the list within which the active version ends; 0 when that is far away.
func Reminder(left time.Duration) int {
	for _, days := range reminders() {
		if left <= time.Duration(days)*day {
			return days
		}
	}
	return 0
}

// AlertDays are the numbers of days left at which people are told that the active version nears its end. A renewal that
// should have come weeks ago is news at 14; on the last days nobody minds hearing it again.
func AlertDays() []int { return []int{14, 7, 3, 1} }

// AlertDue returns the threshold that a certificate has crossed and was not told about. Thresholds above half of the
// renewal time say nothing: a certificate of 6 days is not late with 3 days left. One that lives too shortly for all of
// them is told about once, with half of the renewal time gone.
func AlertDue(now, notAfter time.Time, before time.Duration, told int) (days int, due bool) {
	left := notAfter.Sub(now)
	if before/2 < day && left <= before/2 {
		return 1, told == 0
	}
	for _, d := range slices.Backward(AlertDays()) {
		limit := time.Duration(d) * day
		if limit <= before/2 && left <= limit {
			return d, told == 0 || d < told
		}
	}
	return 0, false
}
