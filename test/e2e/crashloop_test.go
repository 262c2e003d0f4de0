package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestCrashLoop kills the daemon in ten orders in a row. The second try comes at the next start, and then a start places
// no order before 1, 10, 100 minutes and a day have passed, so that the CA hears of one order for each step at most. To
// pass the time, what was stored as the time of the next try is moved into the past.
func TestCrashLoop(t *testing.T) {
	for _, c := range []struct {
		in     acmetest.Endpoint
		orders int // one that was being finalized is taken up again
	}{{acmetest.NewOrder, 10}, {acmetest.Challenge, 10}, {acmetest.Finalize, 1}} {
		t.Run(string(c.in), func(t *testing.T) {
			t.Parallel()
			s := newSite(t, acmetest.WithAlwaysValid())
			s.prepare(phase{})
			for try := 1; try <= 10; try++ {
				s.dieIn(c.in)
				s.checkWait(try)
				if try == 1 {
					continue
				}
				before := s.ca.Requests(acmetest.NewOrder)
				if out, code := s.run("run", "--once"); code == 0 {
					t.Errorf("after try %d: exit %d: %s", try, code, out)
				}
				if n := s.ca.Requests(acmetest.NewOrder) - before; n != 0 {
					t.Fatalf("a start after try %d placed %d orders before their time", try, n)
				}
				s.passTime()
			}
			t.Logf("%d orders placed by 10 starts that were killed", s.ca.Requests(acmetest.NewOrder))
			if n := s.ca.Requests(acmetest.NewOrder); n > c.orders {
				t.Errorf("the CA saw %d orders, want at most %d", n, c.orders)
			}
			s.start()
			s.waitFor("well in the end", isOK)
		})
	}
}

// dieIn starts the daemon, kills it while it waits for the answer of an endpoint, and mends the CA.
func (s *site) dieIn(e acmetest.Endpoint) {
	s.t.Helper()
	fault, reached := stall(e, false)
	s.ca.Use(fault)
	defer s.ca.Use()
	s.start()
	await.Value(s.t, fmt.Sprintf("%s is asked", e), reached)
	s.kill(syscall.SIGKILL)
}

func (s *site) stateFile() (path string, state map[string]any) {
	s.t.Helper()
	path = "state/certs/www/state.json"
	if err := json.Unmarshal([]byte(s.read(path)), &state); err != nil {
		s.t.Fatal(err)
	}
	return filepath.Join(s.dir, path), state
}

// checkWait compares the time of the next try with the schedule.
func (s *site) checkWait(try int) {
	s.t.Helper()
	_, state := s.stateFile()
	text, waits := state["retry_at"].(string)
	if try == 1 {
		if waits {
			s.t.Errorf("after the first try it waits until %s", text)
		}
		return
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		s.t.Fatal(err)
	}
	schedule := []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}
	want := schedule[min(try-2, len(schedule)-1)]
	if off := time.Until(at) - want; off.Abs() > want/10+20*time.Second {
		s.t.Errorf("after try %d it waits for %s, want about %s", try, time.Until(at), want)
	}
}

// passTime makes the next try due.
func (s *site) passTime() {
	s.t.Helper()
	path, state := s.stateFile()
	state["retry_at"] = time.Now().Add(-time.Second).UTC().Format(time.RFC3339)
	text, err := json.Marshal(state)
	if err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(path, text, 0o600); err != nil {
		s.t.Fatal(err)
	}
}
