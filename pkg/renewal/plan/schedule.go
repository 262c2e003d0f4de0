package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// minInterval is the shortest time between two sweeps. A sweep is cheap, but nothing in a certificate's life changes
// within a minute.
const minInterval = time.Minute

// CheckSchedule reports why a cron expression cannot be the sweep schedule: not five fields or a descriptor such as
// @hourly, a time zone of its own, never firing (31 February), or more often than once a minute.
func CheckSchedule(expr string) error {
	_, err := ParseSchedule(expr)
	return err
}

// ParseSchedule reads a cron expression that [CheckSchedule] accepts.
func ParseSchedule(expr string) (schedule cron.Schedule, err error) {
	defer func() {
		if r := recover(); r != nil { // the parser panics on some malformed expressions
			err = fmt.Errorf("schedule %q cannot be read", expr)
		}
	}()
	if strings.Contains(expr, "TZ=") {
		return nil, fmt.Errorf("schedule %q: a time zone is not allowed, the machine's local time is used", expr)
	}
	schedule, err = cron.ParseStandard(expr)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w; use five cron fields or @hourly, @daily, @every 30m", expr, err)
	}
	if spec, ok := schedule.(*cron.SpecSchedule); ok && spec.Hour&everyHour == 0 {
		schedule = wallSchedule{spec}
	}
	return schedule, checkInterval(expr, schedule)
}

// everyHour marks a schedule whose hour is a star: it goes by the time that passes, not by the hour that the clock shows.
const everyHour = 1 << 63

// wallSchedule runs once for each time that its expression names, whatever summer time does to the clock: a time that the
// clock leaves out is run at the first moment after the gap, one that it shows twice only the first time.
type wallSchedule struct{ named cron.Schedule }

// Next is the first run after t, in t's time zone.
func (s wallSchedule) Next(t time.Time) time.Time {
	for face := s.named.Next(wallClock(t)); !face.IsZero(); face = s.named.Next(face) {
		if at := firstTimeShowing(face, t.Location()); at.After(t) {
			return at
		}
	}
	return time.Time{}
}

// wallClock is what a local clock shows at t, as a time without summer time.
func wallClock(t time.Time) time.Time {
	return time.Date(t.Year(), t.Month(), t.Day(), t.Hour(), t.Minute(), t.Second(), t.Nanosecond(), time.UTC)
}

// firstTimeShowing is the first moment at which a clock in loc shows face, or the end of the gap in which it would have.
func firstTimeShowing(face time.Time, loc *time.Location) time.Time {
	_, before := face.In(loc).Add(-day).Zone()
	_, after := face.In(loc).Add(day).Zone()
	late := face.Add(-time.Duration(min(before, after)) * time.Second).In(loc)
	early := face.Add(-time.Duration(max(before, after)) * time.Second).In(loc)
	for _, at := range []time.Time{early, late} {
		if wallClock(at).Equal(face) {
			return at
		}
	}
	gap, _ := late.ZoneBounds()
	return gap
}

func checkInterval(expr string, schedule cron.Schedule) error {
	if _, ok := schedule.(cron.ConstantDelaySchedule); ok {
		// The parser rounds the delay up to a second, so the text itself is looked at.
		text := strings.TrimSpace(strings.TrimPrefix(expr, "@every"))
		if d, err := time.ParseDuration(text); err != nil || d < minInterval {
			return fmt.Errorf("schedule %q: at least %s must lie between two sweeps", expr, minInterval)
		}
		return nil
	}
	if schedule.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return fmt.Errorf("schedule %q never fires", expr)
	}
	return nil
}
