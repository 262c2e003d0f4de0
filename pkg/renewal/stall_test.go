package renewal

import (
	"testing"
	"time"
)

func TestProgress(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	s := &Scheduler{SchedulerConfig: SchedulerConfig{Clock: func() time.Time { return now }}}
	if s.Progress() == nil {
		t.Error("a scheduler that never ran is fine")
	}
	begun := now
	s.move(true)
	for _, tt := range []struct {
		busy  bool
		timer time.Duration // after the last move
		now   time.Duration
		fine  bool
	}{
		{true, -time.Hour, stuckAfter, true}, // a long queue
		{true, -time.Hour, stuckAfter + 1, false},
		{false, time.Hour, time.Hour + lateAfter, true}, // asleep until the timer
		{false, time.Hour, time.Hour + lateAfter + 1, false},
		{false, -time.Hour, lateAfter, true}, // something due in the past was just done
	} {
		s.busy, s.timer, now = tt.busy, begun.Add(tt.timer), begun.Add(tt.now)
		if err := s.Progress(); (err == nil) != tt.fine {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
