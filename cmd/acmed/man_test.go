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

func TestParagraphs(t *testing.T) {
	got := paragraphs("One\n.two\n\n  a 'list'\n\n  of \\ these\nthree-four")
	want := "One\n\\&.two\n.PP\n.PP\n.nf\n  a \\(aqlist\\(aq\n\n  of \\e these\n.fi\n.PP\nthree\\-four\n"
	if got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
