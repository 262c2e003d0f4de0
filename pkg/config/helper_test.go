package config_test

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/pkg/config"
)

func TestHelper(t *testing.T) {
	const target = "targets:\n  - {name: www, names: [a.example], install: {nginx: {}}}\n"
	tests := []struct{ name, text, err string }{
		{"good", target, ""},
		{"wildcard and address", "targets: [{name: www, names: ['*.a.example', 192.0.2.1], install: {nginx: {}}}]", ""},
		{"empty", "", "targets: there is no target"},
		{"unknown key", target + "target: []\n", `:3: unknown key "target"; did you mean "targets"?`},
		{"twice", target + "  - {name: www, names: [a.example], install: {nginx: {}}}\n", ":3: targets[www]: the name is already used in line 2"},
		{"a path for a name", "targets: [{name: ../x, names: [a.example], install: {nginx: {}}}]", `targets["../x"].name: `},
		{"no names", "targets: [{name: www, install: {nginx: {}}}]", "targets[www].names: a certificate has 1 to 100 names"},
		{"bad name", "targets: [{name: www, names: [a..b], install: {nginx: {}}}]", "targets[www].names[0]: "},
		{"no section", "targets: [{name: www, names: [a.example]}]", "targets[www].install: it has exactly one section"},
		{"two sections", "targets: [{name: www, names: [a.example], install: {nginx: {}, file: {dir: /x}}}]", "this one has 2"},
		{"itself", "targets: [{name: www, names: [a.example], install: {helper: {target: www}}}]", "targets[www].install.helper: this is the helper"},
		{"a plugin's problem", "targets:\n  - name: www\n    names: [a.example]\n    install:\n      nginx: {binary: nginx}\n", ":5: targets[www].install.nginx.binary: "},
		{"a secret that others read", "targets: [{name: www, names: [a.example], install: {file: {dir: /x, pkcs12: a, password_file: PASSWORD}}}]", "can be read by others"},
		{"no user", target + "user: ''\n", ":3: user: "},
		{"log", target + "log: {format: xml}\n", "log.format: "},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file, password := filepath.Join(dir, "installd.yaml"), filepath.Join(dir, "password")
			writeFile(t, password, "secret", 0o644)
			writeFile(t, file, strings.ReplaceAll(tt.text, "PASSWORD", password), 0o644)
			h, warnings, err := config.LoadHelper(file)
			if len(warnings) > 0 {
				t.Error(warnings)
			}
			if tt.err == "" {
				if err != nil || len(h.Targets) != 1 || h.User != "acmed" || h.StateDir != "/var/lib/acmed-installd" {
					t.Errorf("got %+v, %v", h, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) || h != nil {
				t.Errorf("the error is %v, want %q", err, tt.err)
			}
		})
	}
}

func TestHelperFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "installd.yaml")
	if _, _, err := config.LoadHelper(file); err == nil {
		t.Error("a missing file is no error")
	}
	writeFile(t, file, "", 0o666)
	if _, _, err := config.LoadHelper(file); err == nil || !strings.Contains(err.Error(), "can be changed by others") {
		t.Errorf("a file that others can write: %v", err)
	}
}

// TestHelperInclude: targets come from several files, each once, and a problem is where it is.
func TestHelperInclude(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "installd.yaml")
	writeFile(t, main, "include: installd.d/*.yaml\n", 0o644)
	if _, _, err := config.LoadHelper(main); err == nil || !strings.Contains(err.Error(), "installd.yaml:1: include[0]: ") {
		t.Errorf("without the directory: %v", err)
	}
	if err := os.Mkdir(filepath.Join(dir, "installd.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	if h, _, err := config.LoadHelper(main); err != nil || len(h.Targets) != 0 {
		t.Errorf("with nothing in it: %+v, %v", h, err)
	}
	for _, name := range []string{"a", "b"} {
		writeFile(t, filepath.Join(dir, "installd.d", name+".yaml"), "targets: [{name: "+name+", names: [a.example], install: {nginx: {}}}]\n", 0o644)
	}
	if h, _, err := config.LoadHelper(main); err != nil || len(h.Targets) != 2 || h.Targets[1].Name != "b" {
		t.Errorf("two files: %+v, %v", h, err)
	}
	for text, want := range map[string]string{
		"\ntargets: [{name: a, names: [b.example], install: {nginx: {}}}]": "installd.d/b.yaml:2: targets[a]: already defined in ",
		"targets: [{name: b, install: {nginx: {}}}]":                       "installd.d/b.yaml:1: targets[b].names: ",
		"include: x.yaml": "installd.d/b.yaml:1: include: already defined in ",
	} {
		writeFile(t, filepath.Join(dir, "installd.d", "b.yaml"), text, 0o644)
		if _, _, err := config.LoadHelper(main); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
}

// TestHelperReference: the reference loads, and shows and explains every key of the helper's own.
func TestHelperReference(t *testing.T) {
	dir := place(t, configs)
	if err := os.Mkdir(filepath.Join(dir, "installd.d"), 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "installd.yaml")
	if _, warnings, err := config.LoadHelper(file); err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	all, explained := map[string]bool{}, map[string]bool{}
	written(&root, "", all, explained)
	keys(reflect.TypeFor[config.Helper](), "", func(path string, _ reflect.Type) {
		if plain := strings.TrimSuffix(path, "[]"); strings.HasPrefix(path, ".targets[].install.") {
			return // in acmed.yaml
		} else if !all[plain] || !explained[plain] && !strings.HasSuffix(plain, ".name") {
			t.Errorf("%s is missing or has no comment", path)
		}
	})
}
