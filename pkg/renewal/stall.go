package renewal

import (
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/clock"
)

const (
	// lateAfter is how late the scheduler may wake up. A loaded machine delays it by seconds.
	lateAfter = 5 * time.Minute
	// stuckAfter is how long certificates may wait for a job to end. Orders have deadlines far below it, so then the jobs
	// hang, and whoever listens to the beat should know.
	stuckAfter = time.Hour
)

// stuck reports whether certificates wait and no job ends. The caller holds mu.
func (s *Scheduler) stuck(now time.Time) bool {
	return len(s.queue) > 0 && now.Sub(s.moved) > stuckAfter
}

// ErrStarting says that the scheduler has not begun its first round.
var ErrStarting = errors.New("acmed is starting")

// Progress is nil while certificates are looked after. Otherwise Run was not called, did not wake up when it had to, or
// all jobs hang.
func (s *Scheduler) Progress() error {
	now := s.Clock()
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.round.IsZero():
		return ErrStarting
	case s.stuck(now):
		return fmt.Errorf("no job has ended since %s", s.moved.UTC().Format(time.RFC3339))
	case now.Sub(clock.Later(s.timer, s.round)) > lateAfter:
		return fmt.Errorf("certificates should have been looked at on %s", s.timer.UTC().Format(time.RFC3339))
	}
	return nil
}
