package nginx

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// FuzzParse reads any text, then writes a line behind every directive, and takes every directive out.
func FuzzParse(f *testing.F) {
	for _, path := range corpus(f) {
		if text, err := os.ReadFile(path); err == nil && len(text) < 8<<10 {
			f.Add(text)
		}
	}
	for _, seed := range []string{"a { b_by_lua_block { [[ } ]] } }", "a;\f\nb;\n", "a;\v# c\nb;\n", "a;\u00a0\nb;", "a; # c\r", "a;\rb;\r\n", "{};a\n;b;"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		src, err := parse("fuzz.conf", text)
		if err != nil {
			return
		}
		checkSpans(t, src, src.root)
		if got := reassemble(src, src.root, 0, len(text)); got != string(text) {
			t.Errorf("got %q, want %q", got, text)
		}
		added, want := addEverywhere(src.root)
		compareEdited(t, text, added, want)
		var removed []change.Edit
		for _, d := range src.root {
			removed = append(removed, removeDirective(d))
		}
		compareEdited(t, text, removed, nil)
	})
}

// compareEdited makes edits and compares what is read then.
func compareEdited(t *testing.T, text []byte, edits []change.Edit, want [][]string) {
	t.Helper()
	edited, err := change.Splice(text, edits)
	if err != nil {
		t.Fatalf("%q: %v", text, err)
	}
	src, err := parse("edited.conf", edited)
	if err != nil {
		t.Fatalf("%q became %q: %v", text, edited, err)
	}
	if got := flat(src.root); !slices.EqualFunc(want, got, slices.Equal) {
		t.Fatalf("%q became %q:\n%s", text, edited, cmp.Diff(want, got))
	}
}

// addEverywhere adds a line behind every directive and returns what is to be read then.
func addEverywhere(ds []*directive) (edits []change.Edit, want [][]string) {
	for _, d := range ds {
		inside, words := addEverywhere(d.children)
		edits = append(append(edits, inside...), insertAfter(d.src.text, d.end, "  ", []string{"zz y; # z"}))
		want = append(append(want, append([]string{d.name()}, d.args()...)), words...)
		want = append(want, []string{"zz", "y"})
	}
	return edits, want
}

// FuzzLexerAsNginx compares the first statements of any text with nginx's own reading.
func FuzzLexerAsNginx(f *testing.F) {
	needNginx(f)
	for _, seed := range []string{
		"a 'b' \"c\\\"\" d\\ e ${f}g;", "a{b;}#c\n}", "a \"b\"c;", "'a' (\"b\") { }", "a\r\n#x\r\n;", "\\", "a $", "a ${b;", "a\v;\f", "\"\"{",
	} {
		f.Add(seed)
	}
	path := filepath.Join(f.TempDir(), "x.conf")
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) <= 256 && !strings.Contains(text, "\x00") {
			agree(t, path, text)
		}
	})
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
		made, err := full(p)
		if err != nil || len(made.Files) == 0 {
			return
		}
		edited := string(made.Files[0].Content)
		again, err := read(edited)
		if err != nil {
			t.Fatalf("the edited text cannot be read: %v\n%s", err, edited)
		}
		if diff := cmp.Diff(foreign(p, p.tree.main.root), foreign(again, again.tree.main.root)); diff != "" {
			t.Fatalf("the edit changed something else:\n%s\n%s", diff, edited)
		}
		if made, err := full(again); err != nil || len(made.Files) != 0 {
			t.Fatalf("a second run is not empty: %v\n%s\n%+v", err, edited, made)
		}
		n := &editor{target: p.target, cfg: p.cfg}
		got, err := n.unmerge(path, []byte(text), []byte(edited))
		if refused := (*SyntaxError)(nil); err != nil && !errors.As(err, &refused) || err == nil && string(got) != text {
			t.Fatalf("taken out again: %v\ngot  %q\nwant %q", err, got, text)
		}
	})
}

// foreign lists the words of all directives that an installation neither adds nor points elsewhere.
func foreign(p *planner, ds []*directive) [][]string {
	var out [][]string
	for _, d := range p.native(ds) {
		if d.is("ssl_certificate") || d.is("ssl_certificate_key") {
			continue
		}
		args := d.args()
		if d.is("listen") {
			args = slices.DeleteFunc(args, func(a string) bool { return a == "http2" })
		}
		out = append(append(out, append([]string{d.name()}, args...)), foreign(p, d.children)...)
	}
	return out
}
