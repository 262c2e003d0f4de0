package daemon

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
)

// TestReloadSchedule: a reload changes the times of the sweeps, and says which settings need a restart.
func TestReloadSchedule(t *testing.T) {
	m := newMachine(t, freeAddress(t))
	sweeps := func() time.Time {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.scheduler == nil {
			return time.Time{}
		}
		return m.scheduler.Summary().Next
	}
	for end := time.Now().Add(2 * time.Minute); sweeps().IsZero(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("no sweep was planned")
		}
	}
	m.configure("renewal: { schedule: \"* * * * *\", splay: 0s }")
	if err := m.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		next := sweeps()
		if wait := time.Until(next); wait > 0 && wait <= time.Minute && next.Equal(next.Truncate(time.Minute)) {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the next sweep is at %s", next)
		}
	}
	for more, key := range map[string]string{"log: { level: debug }": "log.level", "log: { format: json }": "log.format"} {
		m.configure(more)
		var answer *control.Error
		if err := m.Reload(t.Context()); !errors.As(err, &answer) || answer.Code != control.CodeConfig || !strings.Contains(answer.Message, key+" cannot change") {
			t.Errorf("%s: %v", more, err)
		}
	}
}

// TestSpreadBackwards: what a client asks for is checked by the daemon, too.
func TestSpreadBackwards(t *testing.T) {
	m := newMachine(t, freeAddress(t))
	var answer *control.Error
	_, err := m.Renew(t.Context(), control.RenewRequest{Force: true, Spread: -time.Hour}, func(control.Progress) {})
	if !errors.As(err, &answer) || answer.Code != control.CodeUsage || !strings.Contains(answer.Message, "above zero") {
		t.Errorf("got %v", err)
	}
}
