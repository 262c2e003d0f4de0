package setup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/cmd/acmed/internal/imports"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestImportHostile: names and notes of another program's files stay what they are: names and comments.
func TestImportHostile(t *testing.T) {
	m, err := Open(t.Context(), filepath.Join(t.TempDir(), "acmed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	tree := &imports.Tree{Program: "lego"}
	for _, name := range []string{"../../etc/cron.d/x", "../../etc/cron.d/x", "a\ncertificates: []", strings.Repeat("n", 300)} {
		l := imports.Lineage{Name: name, Server: "https://ca.example/dir", Versions: []*certs.Bundle{installertest.SelfSigned(t, "a.example")}}
		l.Notes = []string{"x\r\nsolvers: [evil]\x1b[2J\u2028y"}
		l.Hooks = []imports.Hook{{Text: "no-such-program\nhooks: evil"}}
		tree.Lineages = append(tree.Lineages, l)
	}
	out, err := m.Import(t.Context(), tree, ImportOptions{Server: Server{Kind: Nginx, Settings: map[string]any{"binary": "/nonexistent"}}})
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, f := range out.Change.Files {
		if dir := filepath.Dir(f.Path); seen[f.Path] || dir != filepath.Dir(m.Path) && dir != m.dropins {
			t.Errorf("it would write %s", f.Path)
		}
		seen[f.Path] = true
		if strings.Contains(string(f.Content), "\nsolvers: [evil]") || strings.ContainsAny(string(f.Content), "\r\x1b\u2028") {
			t.Errorf("a note became more than a comment:\n%s", f.Content)
		}
	}
	if len(seen) != 6 { // main file, CA, four certificates
		t.Errorf("it would write %v", seen)
	}
}

// TestImportCredentials: credentials go into files of mode 0600, one for each account, and leave with the certificates.
func TestImportCredentials(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "acmed.yaml")
	m, err := Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.stateDir(Main{}); got != config.DefaultStateDir { // whose owner the credentials get
		t.Errorf("without an own state directory it is %s", got)
	}
	tree := &imports.Tree{Program: "lego"}
	for name, token := range map[string]string{"a": "first", "b": "first", "c": "it's other"} {
		tree.Lineages = append(tree.Lineages, imports.Lineage{
			Name: name, Server: "https://ca.example/dir", Versions: []*certs.Bundle{installertest.SelfSigned(t, name+".example.com")},
			Challenge: imports.Challenge{Provider: "cloudflare", Values: map[string]string{"CF_DNS_API_TOKEN": token}},
		})
	}
	opts := ImportOptions{Main: Main{AgreeTOS: true, StateDir: filepath.Join(dir, "state"), Socket: filepath.Join(dir, "s")}, Server: Server{Kind: Nginx, Settings: map[string]any{"binary": "/nonexistent"}}}
	out, err := m.Import(t.Context(), tree, opts)
	if err == nil {
		err = out.Apply(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(dir, "secrets", "*"))
	if err != nil || len(files) != 2 {
		t.Fatalf("credentials are in %v, %v", files, err)
	}
	for _, file := range files {
		if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", file, info.Mode(), err)
		}
	}
	if m, err = Open(t.Context(), path); err != nil {
		t.Fatal(err)
	}
	if again, err := m.Import(t.Context(), tree, opts); err != nil || again.Apply(t.Context()) != nil {
		t.Errorf("the same import cannot be repeated: %v", err)
	}
	// a and b share a file, which stays until both are gone.
	for _, step := range []struct {
		name string
		left int
	}{{"a", 2}, {"c", 1}, {"b", 0}} {
		if m, err = Open(t.Context(), path); err != nil {
			t.Fatal(err)
		}
		if _, err := m.Disable(t.Context(), &config.Certificate{Name: step.name}); err != nil {
			t.Fatal(err)
		}
		if files, err := filepath.Glob(filepath.Join(dir, "secrets", "*")); err != nil || len(files) != step.left {
			t.Errorf("without %s: %v, %v", step.name, files, err)
		}
	}
}
