// Package docs_test holds the guides against the program: the commands and flags that they name exist, their links lead
// somewhere, and the index lists each of them. It does not run the commands.
package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const guides = "../../docs/guides"

var (
	command = regexp.MustCompile(`(?m)^(?:[#$] )?acmed ([a-z]+)([^#&|\n]*)`)
	flag    = regexp.MustCompile(`(?:^|\s)(--[a-z][a-z-]*)`)
	link    = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	block   = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
)

func TestGuides(t *testing.T) {
	acmed := filepath.Join(t.TempDir(), "acmed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", acmed, "../../cmd/acmed").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	index := read(t, filepath.Join(guides, "README.md"))
	pages, err := filepath.Glob(filepath.Join(guides, "*.md"))
	if err != nil || len(pages) < 2 {
		t.Fatalf("guides %v, %v", pages, err)
	}
	for _, page := range pages {
		name := filepath.Base(page)
		t.Run(name, func(t *testing.T) {
			if name != "README.md" && !strings.Contains(index, "("+name+")") {
				t.Errorf("the index does not list %s", name)
			}
			text := read(t, page)
			for _, m := range link.FindAllStringSubmatch(text, -1) {
				if _, err := os.Stat(filepath.Join(guides, m[1])); err != nil {
					t.Errorf("a link leads nowhere: %v", err)
				}
			}
			for _, b := range block.FindAllStringSubmatch(text, -1) {
				if b[1] != "" && b[1] != "console" && b[1] != "sh" {
					continue
				}
				for _, m := range command.FindAllStringSubmatch(b[2], -1) {
					checkCommand(t, acmed, m[1], m[2])
				}
			}
		})
	}
}

// checkCommand looks up the command and each of its long flags in the help of the program.
func checkCommand(t *testing.T, acmed, name, rest string) {
	t.Helper()
	args := []string{name}
	if words := strings.Fields(rest); len(words) > 0 && (name == "import" || name == "notify" || name == "account") {
		args = append(args, words[0])
	}
	help, err := exec.CommandContext(t.Context(), acmed, append(args, "--help")...).CombinedOutput()
	if err != nil || !strings.Contains(string(help), "acmed "+strings.Join(args, " ")) {
		t.Errorf("no command %v: %v", args, err)
		return
	}
	for _, f := range flag.FindAllStringSubmatch(rest, -1) {
		if !regexp.MustCompile(regexp.QuoteMeta(f[1]) + `\b`).Match(help) {
			t.Errorf("acmed %s has no flag %s", strings.Join(args, " "), f[1])
		}
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
