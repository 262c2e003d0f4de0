package renewal

import (
	"errors"
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/clock"
)

// lateAfter is how late the scheduler may wake up. A loaded machine delays it by seconds.
const lateAfter = 5 * time.Minute

// move notes that Run goes on.
func (s *Scheduler) move(busy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.moved, s.busy = s.Clock(), busy
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
	case s.moved.IsZero():
		return ErrStarting
	case s.busy && now.Sub(s.moved) > stuckAfter:
		return fmt.Errorf("no job has ended since %s", s.moved.UTC().Format(time.RFC3339))
	case !s.busy && now.Sub(clock.Later(s.timer, s.moved)) > lateAfter:
		return fmt.Errorf("certificates should have been looked at on %s", s.timer.UTC().Format(time.RFC3339))
	}
	return nil
}
