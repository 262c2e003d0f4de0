package issuer_test

import (
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/issuer"
)

// The offset is positive when this machine's clock is ahead of the CA's, and negative when it is behind.
func TestClockOffset(t *testing.T) {
	w := newWorld(t)
	for _, want := range []time.Duration{400 * time.Second, 0, -400 * time.Second} {
		w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return time.Now().Add(want) } })
		got, err := w.ClockOffset(t.Context())
		if err != nil || (got-want).Abs() > 2*time.Second {
			t.Errorf("got %s, %v, want %s", got, err, want)
		}
	}
}
