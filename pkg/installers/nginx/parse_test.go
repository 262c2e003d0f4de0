package nginx

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/google/go-cmp/cmp"
)

// flat lists the words of every directive, children behind their parent.
func flat(ds []*directive) [][]string {
	var out [][]string
	for _, d := range ds {
		out = append(out, append([]string{d.name()}, d.args()...))
		out = append(out, flat(d.children)...)
	}
	return out
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       [][]string
	}{
		{"empty", "", nil},
		{"comment without newline", "# a", nil},
		{"simple", "a b  c;", [][]string{{"a", "b", "c"}}},
		{"block", "a{b c;}", [][]string{{"a"}, {"b", "c"}}},
		{"crlf", "a b;\r\nc\r\n{\r\n}\r\n", [][]string{{"a", "b"}, {"c"}}},
		{"hash inside a word", "a b#c;", [][]string{{"a", "b#c"}}},
		{"comment between words", "a # x ; {\n b;", [][]string{{"a", "b"}}},
		{"quotes", `a "b ; c" 'd { e' "";`, [][]string{{"a", "b ; c", "d { e", ""}}},
		{"quote inside a word", `a b"c d"e;`, [][]string{{"a", `b"c`, `d"e`}}},
		{"escapes", `a "\"\'\\\t\r\n\q" b\ c\;d;`, [][]string{{"a", "\"'\\\t\r\n\\q", `b\ c\;d`}}},
		{"variable braces", "a ${b}c x${d}{ e; }", [][]string{{"a", "${b}c", "x${d}"}, {"e"}}},
		{"closing brace inside a word", "a b} c;", [][]string{{"a", "b}", "c"}}},
		{"parenthesis behind a quote", `if ($a = "b") { c; }`, [][]string{{"if", "($a", "=", "b", ")"}, {"c"}}},
		{"latin-1", "a \"Gr\xfc\xdfe\";", [][]string{{"a", "Gr\xfc\xdfe"}}},
		{"regex with braces", `location ~ "^/a{2}$" { b; }`, [][]string{{"location", "~", "^/a{2}$"}, {"b"}}},
		{
			"lua", "a { content_by_lua_block { if x then y = \"}\" --[[ } ]] z = [==[ } ]==] t = {} -- } \n end } b; }",
			[][]string{{"a"}, {"content_by_lua_block"}, {"b"}},
		},
		{"lua with an argument", "set_by_lua_block $x { return '\\'}' } b;", [][]string{{"set_by_lua_block", "$x"}, {"b"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src, err := parse("x.conf", []byte(tt.text))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, flat(src.root)); diff != "" {
				t.Error(diff)
			}
			checkSpans(t, src, src.root)
		})
	}
}

func TestParseRefuses(t *testing.T) {
	long := strings.Repeat("x", maxParameter)
	for _, tt := range []struct{ name, text, want string }{
		{"byte order mark", "\xef\xbb\xbfa b;", "x.conf:1: the file begins with a byte order mark"},
		{"NUL", "a b;\nc \x00;", "x.conf:2: the file has a NUL byte"},
		{"no semicolon", "a;\nb c", `x.conf:2: "c" has no terminating ";"`},
		{"no semicolon before a comment", "a b\n# c", `x.conf:1: "a" has no terminating ";"`},
		{"open block", "a {\nb {\nc;\n}\n", `x.conf:1: the block "a" is not closed`},
		{"closed too often", "a { }\n}", `x.conf:2: unexpected "}"`},
		{"empty statement", "a;\n;", `x.conf:2: unexpected ";"`},
		{"brace without a name", "{ a; }", `x.conf:1: unexpected "{"`},
		{"template", "a {{ b }};", `x.conf:1: unexpected "{"`},
		{"statement cut by a brace", "a { b }", `x.conf:1: unexpected "}"`},
		{"open quote", "a 'b;\n", "x.conf:1: a quoted parameter has no terminating '"},
		{"text behind a quote", `a "b"c;`, `x.conf:1: unexpected "c" after a quoted parameter`},
		{"long parameter", "a " + long + ";", "x.conf:1: a parameter longer than"},
		{"long quoted parameter", `a "` + long[1:] + `";`, "x.conf:1: a parameter longer than"},
		{"long comment", "\n#" + long + "\n", "x.conf:2: a comment longer than"},
		{"deep", strings.Repeat("a {", 5000), "x.conf:1: blocks are nested more than"},
		{"huge", strings.Repeat("a b;\n", maxFileSize/4), "x.conf:1: the file has"},
		{"open Lua", "a;\nx_by_lua_block { \"}\"", "x.conf:2: the Lua block is not closed"},
		{"open Lua bracket", "x_by_lua_block { [[ } }", "x.conf:1: the Lua block is not closed"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse("x.conf", []byte(tt.text))
			var syntax *SyntaxError
			if !errors.As(err, &syntax) || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %s", err, tt.want)
			}
		})
	}
}

func TestInsertAfter(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"line", "a;\nb;\n", "a;\n  x;\nb;\n"},
		{"comment", "a; # c\nb;\n", "a; # c\n  x;\nb;\n"},
		{"same line", "a; b;\n", "a;\n  x;\n b;\n"},
		{"crlf", "a;\r\nb;\r\n", "a;\r\n  x;\r\nb;\r\n"},
		{"crlf on the last line", "b;\r\na; }", "b;\r\na;\r\n  x;\r\n }"},
		{"no newline at all", "a; }", "a;\n  x;\n }"},
	} {
		at := strings.Index(tt.text, "a;") + 2
		got, err := change.Splice([]byte(tt.text), []change.Edit{insertAfter([]byte(tt.text), at, "  ", []string{"x;"})})
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: got %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/var/lib/acmed/x.pem": "/var/lib/acmed/x.pem",
		"/a b/c;d":             `"/a b/c;d"`,
		`/a"b\c`:               `"/a\"b\\c"`,
		"/a'{b}#":              `"/a'{b}#"`,
	} {
		got, ok := quote(path)
		if !ok || got != want {
			t.Errorf("quote(%q) = %s, %v, want %s", path, got, ok, want)
		}
		src, err := parse("x", []byte("a "+got+";"))
		if err != nil || src.root[0].words[1].value != path {
			t.Errorf("quote(%q) is read back as %v, %v", path, src, err)
		}
	}
	for _, path := range []string{"/a$b", "/a\nb", "/a\x7f"} {
		if got, ok := quote(path); ok {
			t.Errorf("quote(%q) = %s", path, got)
		}
	}
}

// checkSpans checks that spans nest, are in order, and begin and end where they say.
func checkSpans(t *testing.T, src *source, ds []*directive) {
	t.Helper()
	at := 0
	for _, d := range ds {
		if d.start < at || d.end <= d.start || d.end > len(src.text) {
			t.Fatalf("span %d-%d of %q", d.start, d.end, d.name())
		}
		last := src.text[d.end-1]
		if d.open < 0 && last != ';' || d.open >= 0 && (last != '}' || src.text[d.open-1] != '{') {
			t.Fatalf("%q ends in %q", d.name(), last)
		}
		for _, w := range d.words {
			if w.start < d.start || w.end > d.end {
				t.Fatalf("word %q is outside its directive", w.value)
			}
		}
		for _, c := range d.children {
			if c.start < d.open || c.end >= d.end {
				t.Fatalf("%q is outside its parent %q", c.name(), d.name())
			}
		}
		checkSpans(t, src, d.children)
		at = d.end
	}
}

// reassemble writes a parsed file from its spans and what lies between them.
func reassemble(src *source, ds []*directive, from, to int) string {
	var b strings.Builder
	for _, d := range ds {
		b.Write(src.text[from:d.start])
		if len(d.children) > 0 {
			b.Write(src.text[d.start:d.open])
			b.WriteString(reassemble(src, d.children, d.open, d.end))
		} else {
			b.Write(src.text[d.start:d.end])
		}
		from = d.end
	}
	b.Write(src.text[from:to])
	return b.String()
}

// realFiles and realTree are configurations of real sites.
const (
	realFiles = "testdata/certbot/files"
	realTree  = "testdata/certbot/trees/site-10033/nginx"
)

// corpus lists the files that every test of the editor goes through: the project's own, and those of real sites.
func corpus(t testing.TB) []string {
	t.Helper()
	var all []string
	for _, dir := range []string{"testdata/corpus", realFiles, realTree} {
		var files []string
		err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() && filepath.Ext(path) != ".pem" {
				files = append(files, path)
			}
			return err
		})
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %d files, %v", dir, len(files), err)
		}
		all = append(all, files...)
	}
	return all
}

func TestCorpusIsLossless(t *testing.T) {
	files := corpus(t)
	for _, path := range files {
		text := []byte(readFile(t, path))
		src, err := parse(path, text)
		if err != nil {
			t.Errorf("refused: %v", err)
			continue
		}
		checkSpans(t, src, src.root)
		if got := reassemble(src, src.root, 0, len(text)); got != string(text) {
			t.Errorf("%s is not the same after reading", path)
		}
		if got, err := change.Splice(text, nil); err != nil || string(got) != string(text) {
			t.Errorf("%s changed without an edit: %v", path, err)
		}
	}
	t.Logf("%d files", len(files))
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
