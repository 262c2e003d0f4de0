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
	s.round, s.moved = begun, begun
	for _, tt := range []struct {
		queue []string
		timer time.Duration // after the last round
		now   time.Duration
		fine  bool
	}{
		{[]string{"www"}, stuckAfter, stuckAfter, true}, // a long queue
		{[]string{"www"}, stuckAfter, stuckAfter + 1, false},
		{nil, time.Hour, time.Hour + lateAfter, true}, // asleep until the timer
		{nil, time.Hour, time.Hour + lateAfter + 1, false},
		{nil, -time.Hour, lateAfter, true}, // something due in the past was just done
	} {
		s.queue, s.timer, now = tt.queue, begun.Add(tt.timer), begun.Add(tt.now)
		if err := s.Progress(); (err == nil) != tt.fine {
			t.Errorf("%+v: %v", tt, err)
		}
	}
}
