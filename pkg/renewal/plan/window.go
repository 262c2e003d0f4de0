package plan

import (
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
)

// CheckWindow reports why a maintenance window cannot be used.
func CheckWindow(w certs.Maintenance) error {
	if err := CheckSchedule(w.Schedule); err != nil {
		return err
	}
	if w.Length < 10*time.Minute || w.Length > 31*day {
		return fmt.Errorf("a maintenance window lasts from 10 minutes to 31 days, not %s", w.Length)
	}
	return nil
}

// windowOpens returns when the certificate's maintenance window opens next, and whether it is open now. Without a window
// it is always open.
func windowOpens(now time.Time, w *certs.Maintenance) (next time.Time, open bool) {
	if w == nil {
		return now, true
	}
	schedule, err := ParseSchedule(w.Schedule)
	if err != nil { // refused when the configuration was read
		return now, true
	}
	if !schedule.Next(now.Add(-w.Length)).After(now) {
		return now, true
	}
	return schedule.Next(now), false
}

// waitForWindow puts an ordinary renewal off until the maintenance window. With half of the renewal time gone nothing is
// put off any more.
func waitForWindow(in *input, due verdict) (Plan, bool) {
	if due.reason != ReasonRenewBefore && due.reason != ReasonARI || in.want.Window == nil {
		return Plan{}, false
	}
	notAfter, life := in.life()
	latest := notAfter.Add(-RenewBefore(life, in.want.RenewBefore) / 2)
	if !in.now.Before(latest) {
		return Plan{}, false
	}
	next, open := windowOpens(in.now, in.want.Window)
	if open {
		return Plan{}, false
	}
	return Plan{Reason: ReasonWindow, Message: due.message + "; waits for the maintenance window", Next: clock.Earlier(next, latest)}, true
}
