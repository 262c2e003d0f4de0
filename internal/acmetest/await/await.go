// Package await lets a test wait for what must happen.
//
// It has no bound of its own, because a busy machine is slow and not wrong: a wait ends shortly before the timeout of the
// whole test (go test -timeout), and the test then fails with what never happened. It does not wait for what may not happen.
package await

import (
	"errors"
	"testing"
	"time"
)

// every is the pause between two looks.
const every = 50 * time.Millisecond

// True waits until done is true.
func True(t testing.TB, what string, done func() bool) {
	t.Helper()
	never := errors.New("never: " + what)
	NoError(t, func() error {
		if done() {
			return nil
		}
		return never
	})
}

// NoError waits until check has no error; its last one is what the test fails with.
func NoError(t testing.TB, check func() error) {
	t.Helper()
	over := end(t)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-over:
			t.Fatal(err)
		case <-time.After(every):
		}
	}
}

// Value waits for a value or the end of a channel.
func Value[T any](t testing.TB, what string, from <-chan T) T {
	t.Helper()
	select {
	case value := <-from:
		return value
	case <-end(t):
		t.Fatalf("never: %s", what)
		panic("unreachable")
	}
}

// end comes when a tenth of the time that the test has left remains, or half a minute. It is nil without a timeout.
func end(t testing.TB) <-chan time.Time {
	timed, ok := t.(interface{ Deadline() (time.Time, bool) })
	if !ok {
		return nil
	}
	deadline, ok := timed.Deadline()
	if !ok {
		return nil
	}
	left := time.Until(deadline)
	return time.After(left - min(left/10, 30*time.Second))
}
