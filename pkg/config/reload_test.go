package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/config"
)

// TestReload: what a file said before it broke stays in use for as long as it fits; a new broken file is left out, a file
// that was taken away is gone, and a broken main file changes nothing.
func TestReload(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "acmed.yaml")
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	drop := func(name, host string) string {
		return "certificates:\n  - { name: " + name + ", names: [" + host + ".example.com] }\n"
	}
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	write("acmed.yaml", "agree_tos: true\ninclude: conf.d/*.yaml\n")
	write("conf.d/10-solver.yaml", "solvers:\n  - { name: own, http-01: { listen: \"127.0.0.1:8080\" } }\n")
	write("conf.d/20-a.yaml", drop("a", "one")+"    # uses own\n")
	write("conf.d/30-b.yaml", "certificates:\n  - { name: b, names: [b.example.com], solvers: [own] }\n")
	running, _, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name   string
		change func()
		want   []string // certificate and first name
		kept   string
		says   string // part of the error; "": none
	}{
		{"a file breaks", func() { write("conf.d/20-a.yaml", "certificates: [\n") }, []string{"a one.example.com", "b b.example.com"}, "20-a.yaml", "20-a.yaml:"},
		{"it stays broken in another way", func() { write("conf.d/20-a.yaml", "certificates:\n  - { nam: a }\n") }, []string{"a one.example.com", "b b.example.com"}, "20-a.yaml", "20-a.yaml:"},
		{"what another file needs breaks", func() { write("conf.d/10-solver.yaml", "solvers:\n  - { name: own, http-1: {} }\n") }, []string{"a one.example.com", "b b.example.com"}, "10-solver.yaml 20-a.yaml", "10-solver.yaml:"},
		{"one is mended", func() { write("conf.d/20-a.yaml", drop("a", "two")) }, []string{"a two.example.com", "b b.example.com"}, "10-solver.yaml", "10-solver.yaml:"},
		{"a new one is broken", func() { write("conf.d/40-c.yaml", "certificates:\n  - { name: c }\n") }, []string{"a two.example.com", "b b.example.com"}, "10-solver.yaml", "40-c.yaml:"},
		{"one is taken away", func() { _ = os.Remove(filepath.Join(dir, "conf.d/30-b.yaml")) }, []string{"a two.example.com"}, "10-solver.yaml", "40-c.yaml:"},
		{"another now says what a broken one said", func() {
			write("conf.d/05-a.yaml", drop("a", "three"))
			write("conf.d/20-a.yaml", "certificates: {\n")
		}, []string{"a three.example.com"}, "10-solver.yaml", "20-a.yaml:"},
		{"all is well", func() {
			write("conf.d/10-solver.yaml", "solvers: []\n")
			write("conf.d/20-a.yaml", "certificates: []\n")
			write("conf.d/40-c.yaml", drop("c", "c"))
		}, []string{"a three.example.com", "c c.example.com"}, "", ""},
	}
	for _, step := range steps {
		step.change()
		c, _, err := config.Reload(path, running)
		if c == nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		var got, kept []string
		for _, cert := range c.Certificates {
			got = append(got, cert.Name+" "+cert.Names[0])
		}
		for _, file := range c.Kept() {
			kept = append(kept, filepath.Base(file))
		}
		if diff := cmp.Diff(step.want, got); diff != "" || strings.Join(kept, " ") != step.kept {
			t.Errorf("%s: kept %v\n%s", step.name, kept, diff)
		}
		if (err == nil) != (step.says == "") || err != nil && !strings.Contains(err.Error(), step.says) {
			t.Errorf("%s: %v", step.name, err)
		}
		running = c
	}
	write("acmed.yaml", "agree_tos: tru\n")
	if c, _, err := config.Reload(path, running); c != nil || err == nil {
		t.Error("a broken main file was used")
	}
}
