package await

import (
	"errors"
	"runtime"
	"testing"
	"time"
)

// strict is a test that is about to time out.
type strict struct {
	testing.TB
	left time.Duration
	said []any
}

func (s *strict) Deadline() (time.Time, bool) { return time.Now().Add(s.left), true }

func (s *strict) Helper() {}

func (s *strict) Fatal(args ...any) {
	s.said = args
	runtime.Goexit()
}

func TestNoError(t *testing.T) {
	looks := 0
	NoError(t, func() error {
		if looks++; looks < 3 {
			return errors.New("not yet")
		}
		return nil
	})
	if looks != 3 {
		t.Errorf("%d looks", looks)
	}
}

// TestEnd: a wait for what never happens ends with its last error before the test times out.
func TestEnd(t *testing.T) {
	s := &strict{TB: t, left: time.Second}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		True(s, "it rains", func() bool { return false })
	}()
	<-ended
	if len(s.said) != 1 || s.said[0].(error).Error() != "never: it rains" {
		t.Errorf("it said %v", s.said)
	}
}

func TestValue(t *testing.T) {
	from := make(chan int, 1)
	from <- 7
	if got := Value(t, "a number", from); got != 7 {
		t.Errorf("got %d", got)
	}
	close(from)
	Value(t, "the end", from)
}
