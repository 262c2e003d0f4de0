// Package docs_test holds the documents against the program: the commands, flags and codes that they name exist, their
// links lead somewhere, the README's configuration is one, and the index of the guides lists each of them. It does not run
// the commands of the guides; test/systemd does.
package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/config"
)

const root = "../.."

var (
	command = regexp.MustCompile(`(?m)^(?:[#$] )?acmed ([a-z]+)([^#&|\n]*)`)
	flag    = regexp.MustCompile(`(?:^|\s)(--[a-z][a-z-]*)`)
	link    = regexp.MustCompile(`\]\(([^)#:]+)\)`)
	explain = regexp.MustCompile(`acmed explain ([a-z][a-z-]*)`)
	block   = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")
)

func TestDocuments(t *testing.T) {
	acmed := filepath.Join(t.TempDir(), "acmed")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", acmed, "../../cmd/acmed").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var pages []string
	for _, dir := range []string{"", "docs", "docs/guides", "docs/errors"} {
		list, err := filepath.Glob(filepath.Join(root, dir, "*.md"))
		if err != nil || len(list) == 0 {
			t.Fatalf("%s: %v, %v", dir, list, err)
		}
		pages = append(pages, list...)
	}
	index := read(t, filepath.Join(root, "docs/guides/README.md"))
	for _, page := range pages {
		name := strings.TrimPrefix(page, root+"/")
		if name == "CHANGELOG.md" { // it names what there was
			continue
		}
		t.Run(name, func(t *testing.T) {
			if dir, base := filepath.Split(name); dir == "docs/guides/" && base != "README.md" && !strings.Contains(index, "("+base+")") {
				t.Errorf("the index does not list %s", name)
			}
			checkPage(t, acmed, page)
		})
	}
}

func checkPage(t *testing.T, acmed, page string) {
	text := read(t, page)
	for _, m := range link.FindAllStringSubmatch(text, -1) {
		if _, err := os.Stat(filepath.Join(filepath.Dir(page), m[1])); err != nil {
			t.Errorf("a link leads nowhere: %v", err)
		}
	}
	for _, m := range explain.FindAllStringSubmatch(text, -1) {
		if out, err := exec.CommandContext(t.Context(), acmed, "explain", m[1]).CombinedOutput(); err != nil {
			t.Errorf("%s: %v: %s", m[0], err, out)
		}
	}
	for _, b := range block.FindAllStringSubmatch(text, -1) {
		if b[1] != "" && b[1] != "console" && b[1] != "sh" {
			continue
		}
		for _, m := range command.FindAllStringSubmatch(b[2], -1) {
			if m[1] != "will" { // "acmed will obtain ..." is what enable prints
				checkCommand(t, acmed, m[1], m[2])
			}
		}
	}
}

// TestReadme: the configuration that a newcomer sees first is taken as it is.
func TestReadme(t *testing.T) {
	for _, b := range block.FindAllStringSubmatch(read(t, filepath.Join(root, "README.md")), -1) {
		if b[1] != "yaml" {
			continue
		}
		file := filepath.Join(t.TempDir(), "acmed.yaml")
		if err := os.WriteFile(file, []byte(b[2]), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, warnings, err := config.Load(file); err != nil || len(warnings) > 0 {
			t.Errorf("%v, %v:\n%s", err, warnings, b[2])
		}
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
