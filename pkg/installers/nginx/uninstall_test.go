package nginx

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// applyHunks makes one list out of the other by the hunks alone.
func applyHunks(before, after []string, hunks []hunk) []string {
	var out []string
	at := 0
	for _, h := range hunks {
		out = append(out, before[at:h.a]...)
		out = append(out, after[h.c:h.d]...)
		at = h.b
	}
	return append(out, before[at:]...)
}

func TestCompareLines(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	random := func() []string {
		list := make([]string, rng.IntN(12))
		for i := range list {
			list[i] = string(rune('a' + rng.IntN(4)))
		}
		return list
	}
	for range 5000 {
		before, after := random(), random()
		hunks, ok := compareLines(before, after)
		if got := applyHunks(before, after, hunks); !ok || !slices.Equal(got, after) {
			t.Fatalf("%q to %q: %v gives %q", before, after, hunks, got)
		}
		changed := 0
		for _, h := range hunks {
			changed += h.b - h.a + h.d - h.c
		}
		if want := len(before) + len(after) - 2*longestCommon(before, after); changed != want {
			t.Fatalf("%q to %q: %v changes %d lines, %d are enough", before, after, hunks, changed, want)
		}
	}
	many := func(prefix string) []string {
		list := make([]string, maxDistance)
		for i := range list {
			list[i] = fmt.Sprint(prefix, i)
		}
		return list
	}
	if _, ok := compareLines(many("a"), many("b")); ok {
		t.Error("files without a common line were compared")
	}
}

func longestCommon(a, b []string) int {
	row := make([]int, len(b)+1)
	for i := range a {
		diagonal := 0
		for j := range b {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(row[j], above)
			}
			diagonal = above
		}
	}
	return row[len(b)]
}

func TestUnmerge(t *testing.T) {
	n := &Installer{target: installers.Target{Certificate: "www", FullChain: "/live/fullchain.pem", Key: "/live/privkey.pem"}}
	original := "server {\n  listen 80;\n  root /x;\n}\n"
	plain := "server {\n  listen 80;\n  listen 443 ssl; # acmed: www\n  root /x;\n}\n"
	secure := "server {\n  listen 443 ssl;\n  ssl_certificate a.pem;\n  ssl_certificate_key a.key;\n  root /x;\n}\n"
	pointed := strings.NewReplacer("a.pem", "/live/fullchain.pem", "a.key", "/live/privkey.pem").Replace(secure)
	for _, tt := range []struct{ name, original, now, want, refused string }{
		{"ours alone", original, plain, original, ""},
		{"edit elsewhere", original, strings.Replace(plain, "/x", "/y", 1) + "# end\n", strings.Replace(original, "/x", "/y", 1) + "# end\n", ""},
		{"line beside ours", original, strings.Replace(plain, "www\n", "www\n  index a;\n", 1), strings.Replace(original, "80;\n", "80;\n  index a;\n", 1), ""},
		{"ours edited", original, strings.Replace(plain, "ssl;", "ssl http2;", 1), original, ""},
		{"ours moved", original, "server {\n  listen 80;\n  root /x;\n  listen 443 ssl; # acmed: www\n}\n", original, ""},
		{"another certificate's", original, strings.Replace(plain, "www\n", "www\n  gzip on; # acmed: other\n", 1), strings.Replace(original, "80;\n", "80;\n  gzip on; # acmed: other\n", 1), ""},
		{"already gone", original, original + "# x\n", original + "# x\n", ""},
		{"replaced pair", secure, pointed + "# x\n", secure + "# x\n", ""},
		{"edit beside a replaced pair", secure, strings.Replace(pointed, "  root /x;", "  root /y;", 1), "", "x.conf:3: acmed's lines and later changes meet here"},
		{"line shared with others", original, "server {\n  listen 80; listen 443 ssl; # acmed: www\n  root /x;\n}\n", "", "x.conf:2: this line is acmed's and would stay"},
		{"pair removed", secure, "server {\n  listen 443 ssl;\n  root /x;\n}\n", "", "x.conf:3: acmed's lines and later changes meet here"},
		{"block with the pair removed", secure + original, original, original, "x.conf:2: acmed's lines and later"},
		{"copied pair", secure, pointed + strings.Replace(pointed, "root /x", "root /z", 1), "", "x.conf:"},
		{"broken lines of two certificates", "server { a b; }\nserver { c d; }\n",
			"server { a b;\n gzip on; # acmed: www\n }\nserver { c d;\n gzip on; # acmed: other\n }\n",
			"server { a b; }\nserver { c d;\n gzip on; # acmed: other\n }\n", ""},
		{"the other certificate's lines are gone", "server { a b;\n gzip on; # acmed: other\n }\nserver { c d; }\n",
			"server { a b; }\nserver { c d;\n gzip on; # acmed: www\n }\n", "server { a b; }\nserver { c d; }\n", ""},
		{"broken now", original, plain + "x", "", `x.conf:6: "x" has no terminating`},
		{"rewritten", original, strings.Repeat("a b;\nc d;\n", maxDistance), "", "x.conf:1: the file was rewritten"},
	} {
		got, err := n.unmerge("x.conf", []byte(tt.original), []byte(tt.now))
		switch {
		case tt.refused != "":
			if err == nil || !strings.Contains(err.Error(), tt.refused) {
				t.Errorf("%s: got %q, %v, want %s", tt.name, got, err, tt.refused)
			}
		case err != nil || string(got) != tt.want:
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

// TestPlanOnCorpus plans an installation in every file of the corpus, plans it again and takes it out again.
func TestPlanOnCorpus(t *testing.T) {
	planned, refused := 0, 0
	for _, path := range corpus(t) {
		c, name := corpusCase(t, path)
		if c == nil {
			continue
		}
		original := c.files["sites/a.conf"]
		p := c.planner(t)
		if _, err := p.make(); err != nil {
			refused++
			t.Logf("%s: %s: refused: %v", path, name, err)
			continue
		}
		planned++
		edited, _ := c.apply(t)
		if _, again := c.apply(t); len(again.files) != 0 {
			t.Errorf("%s: a second run edits %s", path, again.files[0].Path)
		}
		n := &Installer{target: p.target}
		edited = strings.ReplaceAll(edited, "{conf}", "/conf")
		got, err := n.unmerge(path, []byte(original), []byte(edited))
		if err != nil || string(got) != original {
			t.Errorf("%s: taken out again it is another file: %v", path, err)
		}
	}
	t.Logf("%d planned, %d refused", planned, refused)
	if planned < 3 {
		t.Errorf("only %d files were planned", planned)
	}
}

// TestPlanOnTrees plans an installation for every name of whole configurations.
func TestPlanOnTrees(t *testing.T) {
	trees, err := filepath.Glob("../../../../shared/testdata/nginx/trees/*/nginx")
	if err != nil || len(trees) == 0 {
		t.Skip("the shared corpus is not here")
	}
	for _, tree := range trees {
		dir := t.TempDir()
		if err := os.CopyFS(dir, os.DirFS(tree)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(dir, "nginx.conf")
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(readFile(t, path), "/etc/nginx", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
		planned, refused := 0, 0
		for _, name := range serverNames(t, path) {
			p := newPlanner(t, path, Config{Redirect: true}, []string{name}, installertest.Bundle(t, name))
			made, err := p.make()
			if err != nil {
				refused++
				t.Logf("%s: %v", name, err)
				continue
			}
			planned++
			if len(made.files) == 0 || len(made.endpoints) == 0 {
				t.Errorf("%s: the plan is %+v", name, made)
			}
		}
		t.Logf("%s: %d planned, %d refused", tree, planned, refused)
		if planned == 0 {
			t.Errorf("%s: nothing could be planned", tree)
		}
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
		for _, n := range s.names {
			if id, _, err := certs.ParseIdentifier(n); err == nil && strings.Contains(n, ".") && !slices.Contains(names, id.Value) {
				names = append(names, id.Value)
			}
		}
	}
	return names
}

// corpusCase makes a configuration of one file of the corpus; nil when it has no server block with a name.
func corpusCase(t *testing.T, path string) (*planCase, string) {
	t.Helper()
	text := readFile(t, path)
	src, err := parse(path, []byte(text))
	if err != nil {
		return nil, ""
	}
	for _, d := range src.root {
		if !d.isBlock("server") {
			continue
		}
		for _, c := range d.children {
			if !c.is("server_name") {
				continue
			}
			for _, name := range c.args() {
				if strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-.") == "" && strings.Contains(strings.Trim(name, "."), ".") && name[0] != '.' {
					cfg := Config{Redirect: true, HSTS: time.Hour, HTTP2: true, TLSDefaults: true}
					text := strings.ReplaceAll(text, "include ", "#nclude ")
					return &planCase{files: map[string]string{"sites/a.conf": text}, names: []string{name}, cfg: cfg}, name
				}
			}
		}
	}
	return nil, ""
}

// FuzzPlan plans an installation in any text, plans it again and takes it out again.
func FuzzPlan(f *testing.F) {
	for _, path := range corpus(f) {
		if text := readFile(f, path); len(text) < 4<<10 {
			f.Add("http { " + text + "\n}")
		}
	}
	f.Add("http{server{server_name a.example;}}")
	f.Add("http { server { listen 80; listen 443 ssl; server_name .example; ssl_certificate x; ssl_certificate_key y; return 204; } }")
	b := installertest.Bundle(f, "a.example")
	name, _, err := certs.ParseIdentifier("a.example")
	if err != nil {
		f.Fatal(err)
	}
	const path = "/nowhere/nginx.conf"
	read := func(text string) (*planner, error) {
		tree, err := load(path, map[string][]byte{path: []byte(text)})
		if err != nil {
			return nil, err
		}
		m, err := buildModel(tree, func(host string) []string { return []string{host} })
		return &planner{
			cfg:    Config{Redirect: true, HSTS: time.Hour, HTTP2: true}.withDefaults(),
			target: installers.Target{Certificate: "www", FullChain: "/live/fullchain.pem", Key: "/live/privkey.pem"},
			names:  []certs.Identifier{name}, bundle: b, tree: tree, m: m, http2: http2Param,
		}, err
	}
	f.Fuzz(func(t *testing.T, text string) {
		text = strings.ReplaceAll(strings.ReplaceAll(text, "include", "inclvde"), "acmed", "adcme")
		p, err := read(text)
		if err != nil {
			return
		}
		made, err := p.make()
		if err != nil || len(made.files) == 0 {
			return
		}
		edited := string(made.files[0].Content)
		again, err := read(edited)
		if err != nil {
			t.Fatalf("the edited text cannot be read: %v\n%s", err, edited)
		}
		if made, err := again.make(); err != nil || len(made.files) != 0 {
			t.Fatalf("a second run is not empty: %v\n%s\n%+v", err, edited, made)
		}
		n := &Installer{target: p.target, cfg: p.cfg}
		got, err := n.unmerge(path, []byte(text), []byte(edited))
		if refused := (*SyntaxError)(nil); err != nil && !errors.As(err, &refused) || err == nil && string(got) != text {
			t.Fatalf("taken out again: %v\ngot  %q\nwant %q", err, got, text)
		}
	})
}
