package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

func TestManualPages(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if code := run([]string{"man", dir}, &out, &out); code != exitOK {
		t.Fatalf("exit code %d: %s", code, out.String())
	}
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		text, err := os.ReadFile(filepath.Join(dir, pageName(cmd)+".1"))
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range []string{".SH NAME\n" + roff(pageName(cmd)), ".SH SYNOPSIS\n.B acmed", ".SH DESCRIPTION\n"} {
			if !strings.Contains(string(text), part) {
				t.Errorf("%s has no %q", pageName(cmd), part)
			}
		}
		for _, sub := range documented(cmd) {
			check(sub)
		}
	}
	check(newRoot(&app{}))
}

// TestReferencePages: every setting that the commented files have at the top is a section with its explanation.
func TestReferencePages(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if code := run([]string{"man", dir, "../../configs/acmed.yaml", "../../configs/installd.yaml"}, &out, &out); code != exitOK {
		t.Fatalf("exit code %d: %s", code, out.String())
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

func TestParagraphs(t *testing.T) {
	got := paragraphs("One\n.two\n\n  a 'list'\n\n  of \\ these\nthree-four")
	want := "One\n\\&.two\n.PP\n.PP\n.nf\n  a \\(aqlist\\(aq\n\n  of \\e these\n.fi\n.PP\nthree\\-four\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
