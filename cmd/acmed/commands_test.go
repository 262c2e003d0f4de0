package main

import (
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// TestEveryCommandIsArranged: each has a task in the help and an example, and no example names an option that the command
// does not have.
func TestEveryCommandIsArranged(t *testing.T) {
	root := newRoot(&app{out: io.Discard, err: io.Discard})
	var look func(cmd *cobra.Command)
	look = func(cmd *cobra.Command) {
		switch {
		case !cmd.IsAvailableCommand() && cmd.HasParent(), cmd.Name() == "completion", cmd.Name() == "help":
			return
		case cmd.Parent() == root && cmd.GroupID == "":
			t.Errorf("%s belongs to no task", cmd.CommandPath())
		case cmd.Example == "":
			t.Errorf("%s has no example", cmd.CommandPath())
		}
		for line := range strings.Lines(cmd.Example) {
			if cmd != root && !strings.HasPrefix(line, "  "+cmd.CommandPath()) {
				t.Errorf("%s: the example %q is one of another command", cmd.CommandPath(), line)
			}
			for _, word := range strings.Fields(line) {
				name, isFlag := strings.CutPrefix(word, "--")
				if isFlag && cmd.Flags().Lookup(name) == nil {
					t.Errorf("%s: the example %q has an unknown option", cmd.CommandPath(), line)
				}
			}
		}
		for _, sub := range cmd.Commands() {
			look(sub)
		}
	}
	look(root)
	for _, g := range groups() {
		for name := range strings.FieldsSeq(g.commands) {
			if cmd, _, err := root.Find([]string{name}); err != nil || cmd == root {
				t.Errorf("%s: no command %q", g.id, name)
			}
		}
	}
}
