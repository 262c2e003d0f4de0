package guard_test

import (
	"errors"
	"strings"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/acmed/acmed/internal/guard"
)

// deep panics some calls below, twice through a group.
func deep() {
	var g guard.Group
	g.Go(func() {})
	g.Go(whereItBegan)
	g.Wait()
}

func whereItBegan() { panic("lost") }

func TestPanics(t *testing.T) {
	err := guard.Err(func() error {
		var g guard.Group
		g.Go(deep)
		g.Wait()
		return nil
	})()
	var p *guard.PanicError
	if !errors.As(err, &p) || p.Value != "lost" || !strings.Contains(string(p.Stack), "whereItBegan") || err.Error() != "internal error: lost" {
		t.Errorf("%v", err)
	}
	if err := guard.Err(func() error { return nil })(); err != nil {
		t.Error(err)
	}
	core, logs := observer.New(zap.ErrorLevel)
	guard.Logged(zap.New(core), "the test", deep)()
	done := make(chan struct{})
	guard.Go(zap.New(core), "the test", func() { defer close(done); deep() })
	<-done
	for logs.Len() < 2 { // it is logged after f ended
	}
	for _, entry := range logs.All() {
		if entry.ContextMap()["where"] != "the test" || entry.ContextMap()["panic"] != "lost" {
			t.Errorf("%v", entry.ContextMap())
		}
	}
}
