package docs_test

import (
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/docs"
	"github.com/acmed/acmed/pkg/advice"
)

// TestPages: the pages are those of the catalogue, no more and no fewer, the index lists each in the order of
// the catalogue, and each page says what the program says, word for word.
func TestPages(t *testing.T) {
	files, err := fs.Glob(docs.Errors, "errors/*.md")
	if err != nil {
		t.Fatal(err)
	}
	index := read(t, "errors/README.md")
	var want []string
	rows := ""
	for _, e := range advice.All() {
		name := "errors/" + string(e.Code) + ".md"
		want = append(want, name)
		page := read(t, name)
		for _, part := range []string{
			"# " + string(e.Code) + "\n", "**What:** " + e.What, "**Why:** " + e.Why, "**Do:** " + e.Do, e.Do + " (acmed explain " + string(e.Code) + ")",
			"\n## What you see\n", "\n## Why it happens\n", "\n## What to do\n\n1. ", "\n## How to check\n",
		} {
			if !strings.Contains(page, part) {
				t.Errorf("%s does not say %q", name, part)
			}
		}
		rows += "| [`" + string(e.Code) + "`](" + string(e.Code) + ".md) | " + e.What + " |\n"
	}
	if !strings.HasSuffix(index, "\n|---|---|\n"+rows) {
		t.Errorf("the index does not list the codes in the order of the catalogue:\n%s", rows)
	}
	want = append(want, "errors/README.md")
	slices.Sort(want)
	if !slices.Equal(files, want) {
		t.Errorf("pages %v, want %v", files, want)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := docs.Errors.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
