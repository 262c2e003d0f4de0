package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/acmed/acmed/internal/manual"
)

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	if err := manual.Write(newRoot(&app{}), "v1.2", dir); err != nil {
		t.Fatal(err)
	}
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
		text, err := os.ReadFile(filepath.Join(dir, name+".1"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{".SH NAME\n" + strings.ReplaceAll(name, "-", `\-`), ".SH SYNOPSIS\n.B acmed", ".SH DESCRIPTION\n"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s has no %q", name, part)
			}
		}
		for _, sub := range cmd.Commands() {
			if sub.IsAvailableCommand() && cmd.Name() != "completion" {
				check(sub)
			}
		}
	}
	check(newRoot(&app{}))
}

// TestReferencePages: every setting that the commented files have at the top is a section with its explanation.
func TestReferencePages(t *testing.T) {
	dir := t.TempDir()
	if err := manual.Write(newRoot(&app{}), "v1.2", dir, "../../configs/acmed.yaml", "../../configs/installd.yaml"); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string][]string{
		"acmed.yaml":    {".SS email\nWhere CAs send notices about the account.", ".SS certificates\n", ".SS solvers\n", ".nf\nagree_tos: true\n.fi\n", "      \\- nginx:"},
		"installd.yaml": {".SS targets\nWhere certificates may be put.", ".SS user\n", "  \\- name: postgres\n"},
	} {
		text, err := os.ReadFile(filepath.Join(dir, name+".5"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range append(want, ".SH DESCRIPTION\n"+name+": every setting", ".SH SETTINGS\n") {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s(5) has no %q", name, part)
			}
		}
		if strings.Contains(string(text), "\n#") {
			t.Errorf("%s(5) has a comment that is no text", name)
		}
	}
}
