package renewal

import (
	"context"
	"slices"
	"testing"

	"github.com/acmed/acmed/pkg/certs"
)

// TestForewarn: what will stand in the way of a renewal is looked up with the renewal window, ahead of need, and shown until
// it was looked up again.
func TestForewarn(t *testing.T) {
	b := newBench(t, 90*day)
	warnings, asked := []string{"the CAA records of example.com forbid backup"}, 0
	set := b.set()
	set.Forewarn = func(context.Context, *certs.Spec) []string {
		asked++
		return warnings
	}
	b.engine.Swap(set)
	b.run(t, Options{})
	for _, want := range [][]string{warnings, nil} {
		warnings = want
		l := b.load(t)
		l.State.ARI.CheckAt = b.engine.clock()
		if err := b.store.SaveState("www", &l.State); err != nil {
			t.Fatal(err)
		}
		b.run(t, Options{})
		status, err := b.engine.Status("www")
		if err != nil || !slices.Equal(status.Warnings, want) {
			t.Errorf("got %q, %v, want %q", status.Warnings, err, want)
		}
	}
	if b.run(t, Options{}); asked != 2 {
		t.Errorf("looked up %d times", asked)
	}
}

// TestTargetNotes: what a target notes about an installation is in status until the next look at the target.
func TestTargetNotes(t *testing.T) {
	b := newBench(t, 90*day)
	b.server.notes = []string{"www.example.com has no site on this server"}
	b.run(t, Options{})
	for _, want := range [][]string{{"web: www.example.com has no site on this server"}, nil} {
		status, err := b.engine.Status("www")
		if err != nil || !slices.Equal(status.Notes, want) || status.Health != HealthOK {
			t.Errorf("got %q, %v, want %q", status.Notes, err, want)
		}
		b.server.notes = nil
		b.run(t, Options{Targets: InstallTargets})
	}
}
