package renewal

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
	_, err := parseSchedule(expr)
	return err
}

func parseSchedule(expr string) (schedule cron.Schedule, err error) {
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
	return schedule, checkInterval(expr, schedule)
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
