package manual_test

import (
	"strings"
	"testing"

	"github.com/acmed/acmed/cmd/acmed-dns/internal/manual"
)

// TestPage: the page has every command of the help, and the version as it is.
func TestPage(t *testing.T) {
	page := manual.Page("v1.2-3")
	if !strings.Contains(page, `"acmed v1.2\-3"`) || strings.Contains(page, "VERSION") {
		t.Errorf("no version: %.80s", page)
	}
	commands := 0
	for line := range strings.Lines(manual.Usage) {
		if words := strings.Fields(line); strings.HasPrefix(line, "  acmed-dns ") {
			commands++
			if !strings.Contains(page, `.B acmed\-dns `+words[1]+"\n") {
				t.Errorf("%s is not in the synopsis", words[1])
			}
		}
	}
	if commands != 3 {
		t.Errorf("the help has %d commands", commands)
	}
}
