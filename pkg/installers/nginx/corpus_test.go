package nginx

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestPlanOnCorpus plans an installation in every file of the corpus that has a name, plans it again and takes it out
// again. From the first line that was added on, nginx reads what acmed reads.
func TestPlanOnCorpus(t *testing.T) {
	t.Parallel()
	_, err := os.Stat(defaultBinary)
	hasNginx, scratch := err == nil, filepath.Join(t.TempDir(), "x.conf")
	planned := 0
	for _, path := range corpus(t) {
		c, file := corpusCase(t, path)
		if c == nil {
			continue
		}
		planned++
		original := c.files[file]
		c.apply(t)
		edited := c.files[file]
		if diff := lost(original, edited, "www"); diff != "" {
			t.Errorf("%s:\n%s", path, diff)
		}
		if _, again := c.apply(t); len(again.Files) != 0 {
			t.Errorf("%s: a second run edits %s", path, again.Files[0].Path)
		}
		n := &editor{target: c.planner(t).target}
		edited = strings.ReplaceAll(edited, "{conf}", "/conf")
		got, err := n.unmerge(path, []byte(original), []byte(edited))
		if err != nil || string(got) != original {
			t.Errorf("%s: taken out again it is another file: %v", path, err)
		}
		if at := strings.Index(edited, "# acmed: www"); at >= 0 && hasNginx {
			agree(t, scratch, edited[lineStart([]byte(edited), at):])
		}
	}
	t.Logf("%d files were edited", planned)
	if planned < 80 {
		t.Errorf("only %d files were edited", planned)
	}
}

// corpusCase makes a configuration of one file of the corpus, and says which of its files that is; nil when no server
// block has a name. What the file includes is somewhere else, so it is left out.
func corpusCase(t *testing.T, path string) (*planCase, string) {
	t.Helper()
	text := strings.ReplaceAll(readFile(t, path), "include ", "#nclude ")
	src, err := parse(path, []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c := &planCase{files: map[string]string{}, cfg: Config{Redirect: true, HSTS: time.Hour, HTTP2: true, TLSDefaults: true}}
	file, servers := "sites/a.conf", src.root
	for _, d := range src.root {
		if d.isBlock("http") {
			file, servers = "nginx.conf", d.children
		}
	}
	c.files[file] = text
	for _, d := range servers {
		if !d.isBlock("server") {
			continue
		}
		for _, directive := range d.children {
			if !directive.is("server_name") {
				continue
			}
			for _, name := range directive.args() {
				if c.names = []string{name}; isFixed(name) && plans(c.planner(t)) {
					return c, file
				}
			}
		}
	}
	return nil, ""
}

// isFixed reports whether a server_name is one that a certificate can have.
func isFixed(name string) bool {
	id, _, err := certs.ParseIdentifier(name)
	return err == nil && id.Type == certs.DNS && !id.IsWildcard() && strings.Contains(name, ".")
}

func plans(p *planner) bool {
	_, err := full(p)
	return err == nil
}

// lost compares a file with what an installation made of it, without the lines that it added. Nothing else may differ but
// the paths of a certificate and its key, and where a line was broken to make room for another.
func lost(before, after, certificate string) string {
	ours := regexp.MustCompile(`(?m)^.* # acmed: ` + regexp.QuoteMeta(certificate) + `\r?\n`)
	paths := regexp.MustCompile(`\b(ssl_certificate|ssl_certificate_key)(\s+)[^;]+;`)
	normal := func(text string) []string {
		text = paths.ReplaceAllString(text, "$1$2;")
		return strings.Split(strings.NewReplacer("\r\n", "", "\n", "").Replace(text), ";")
	}
	return cmp.Diff(normal(before), normal(ours.ReplaceAllString(after, "")))
}

// treeInstance is an nginx that does not run, with the configuration of a whole server.
func treeInstance(t *testing.T) (n *instance, texts map[string]string) {
	t.Helper()
	n = newInstance(t, nil)
	moved := strings.NewReplacer("/etc/nginx", n.conf, "/var/log/nginx", n.run, "/run/nginx.pid", filepath.Join(n.run, "nginx.pid"))
	err := filepath.WalkDir(realTree, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(realTree, path)
		n.write(name, moved.Replace(readFile(t, path)))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	n.nginx("-t")
	return n, treeTexts(t, n.conf)
}

// treeTexts are the contents of all files below dir.
func treeTexts(t *testing.T, dir string) map[string]string {
	t.Helper()
	texts := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			texts[path] = readFile(t, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return texts
}

// TestTree installs for every name of a whole server, first each alone and then all in one certificate, and takes it out
// again.
func TestTree(t *testing.T) {
	t.Parallel()
	n, before := treeInstance(t)
	var names []string
	for _, name := range serverNames(t, n.path("nginx.conf")) {
		p := newPlanner(t, n.path("nginx.conf"), Config{Redirect: true}, []string{name}, installertest.Bundle(t, name))
		made, err := full(p)
		if refused := (*SyntaxError)(nil); errors.As(err, &refused) {
			t.Logf("%s: %v", name, err)
			continue
		}
		if err != nil || len(made.Files) == 0 || len(made.Endpoints) == 0 {
			t.Fatalf("%s: the plan is %+v, %v", name, made, err)
		}
		names = append(names, name)
		for _, f := range made.Files {
			if diff := lost(before[f.Path], string(f.Content), "www"); diff != "" {
				t.Errorf("%s: %s:\n%s", name, f.Path, diff)
			}
		}
	}
	if len(names) < 60 {
		t.Errorf("only %d names could be planned", len(names))
	}

	l := newLineage(t, names...)
	cfg := n.config()
	cfg.Listen, cfg.Redirect, cfg.HSTS, cfg.TLSDefaults = 443, true, time.Hour, true
	i := n.installer(cfg, l)
	b := installertest.Bundle(t, names...)
	l.publish(b)
	var installed map[string]string
	for round := range 2 {
		var stopped *installers.NotRunningError
		if err := i.Install(t.Context(), b); !errors.As(err, &stopped) {
			t.Fatal(err)
		}
		n.nginx("-t")
		if now := treeTexts(t, n.conf); round == 0 {
			installed = now
		} else if diff := cmp.Diff(installed, now); diff != "" {
			t.Errorf("the second run changed something:\n%s", diff)
		}
	}
	edited := 0
	for path, text := range before {
		if diff := lost(text, installed[path], "test"); diff != "" {
			t.Errorf("%s:\n%s", path, diff)
		}
		if text != installed[path] {
			edited++
		}
	}
	t.Logf("%d names in %d files", len(names), edited)
	if err := i.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, treeTexts(t, n.conf)); diff != "" {
		t.Errorf("after Uninstall:\n%s", diff)
	}
}

// serverNames lists the names of a configuration that a certificate could have.
func serverNames(t *testing.T, path string) []string {
	t.Helper()
	tree, err := load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := buildModel(tree, resolver(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, s := range m.servers {
		for _, name := range s.names {
			if isFixed(name) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}
