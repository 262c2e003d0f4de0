package apache

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// outline lists the words of every directive, those of a section in front of its children.
func outline(ds []*directive) [][]string {
	var out [][]string
	for _, d := range ds {
		name := d.name
		if d.section {
			name = "<" + name + ">"
		}
		out = append(out, append([]string{name}, words(d.args)...))
		out = append(out, outline(d.children)...)
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
		{"words", "A b  c\n\td\te \n", [][]string{{"A", "b", "c"}, {"d", "e"}}},
		{"missing last newline", "<A b>\nC\n</A>", [][]string{{"<A>", "b"}, {"C"}}},
		{"crlf", "A b\r\n<C>\r\nD \\\r\n e\r\n</C>\r\n", [][]string{{"A", "b"}, {"<C>"}, {"D", "e"}}},
		{"continuation", "A b\\\nc \\\n d\n", [][]string{{"A", "bc", "d"}}},
		{"continuation of a comment", "# a \\\n<B>\nC\n", [][]string{{"C"}}},
		{"two backslashes continue", "A b\\\\\nC\n", [][]string{{"A", "b\\C"}}},
		{"two backslashes continue an empty line", "A b\\\\\n\nC\n", [][]string{{"A", "bC"}}},
		{"backslash at the end", "A b \\", [][]string{{"A", "b", `\`}}},
		{"continuation at the end", "A b \\\n", [][]string{{"A", "b"}}},
		{"quotes", `A "b c" 'd "e' "f\"g\\h\i" j"k l`, [][]string{{"A", "b c", `d "e`, `f"g\h\i`, `j"k`, "l"}}},
		{"open quote", "A \"b c\nD", [][]string{{"A", "b c"}, {"D"}}},
		{"word behind a quote", `A "b"c`, [][]string{{"A", "b", "c"}}},
		{"hash inside", "A b#c # d", [][]string{{"A", "b#c", "#", "d"}}},
		{"section across lines", "<A \\\n  *:80 \\\n  *:81>\n</a>", [][]string{{"<A>", "*:80", "*:81"}}},
		{"section with a quote", "<Directory \"/a b>c\">\n</Directory>", [][]string{{"<Directory>", "/a b>c"}}},
		{"section without arguments", "<If>\n</If>\n<Else>\nA\n</Else>", [][]string{{"<If>"}, {"<Else>"}, {"A"}}},
		{"junk behind tags", "<A b> junk\n</A> </B>\nC", [][]string{{"<A>", "b"}, {"C"}}},
		{"open condition", "<IfModule a>\nB\n", [][]string{{"<IfModule>", "a"}, {"B"}}},
		{"macro", "<Macro a $b>\n<$b>\n<Macro c>\n</Macro>\n</macro>\nUse a b", [][]string{{"<Macro>", "a", "$b"}, {"Use", "a", "b"}}},
		{"latin-1", "A \"Gr\xfc\xdfe\"", [][]string{{"A", "Gr\xfc\xdfe"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := newSource("x.conf", []byte(tt.text), "www")
			must(t, src.err)
			if diff := cmp.Diff(tt.want, outline(src.root)); diff != "" {
				t.Error(diff)
			}
			checkSpans(t, src, src.root, 0, len(src.text))
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"byte order mark", "\xef\xbb\xbfA b", "x.conf:1: the file begins with a byte order mark"},
		{"NUL", "A b\nC \x00", "x.conf:2: the file has a NUL byte"},
		{"open section", "A\n<B>\nC\n", "x.conf:2: <B> is not closed"},
		{"closed too often", "<A>\n</A>\n</A>", "x.conf:3: </A> without its section"},
		{"crossed", "<A>\n<B>\n</A>\n</B>", "x.conf:3: expected </B> but saw </A>"},
		{"no bracket", "A\n<B c\n</B>", "x.conf:2: the section <B> has no closing >"},
		{"no bracket at the end", "<A>\n</A \n>", "x.conf:2: </A has no closing >"},
		{"deep", strings.Repeat("<A>\n", 5000), "x.conf:101: sections are nested more than"},
		{"open macro", "A\n<Macro b>\n</Macros>", "x.conf:2: <Macro> is not closed"},
		{"open block", "A\n# acmed begin www\nB\n", `x.conf:2: there is no "# acmed end www"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			src := newSource("x.conf", []byte(tt.text), "www")
			var syntax *SyntaxError
			if !errors.As(src.err, &syntax) || !strings.HasPrefix(src.err.Error(), tt.want) {
				t.Errorf("got %v, want %s", src.err, tt.want)
			}
		})
	}
}

func TestWithdraw(t *testing.T) {
	const disk = "A\n  # acmed off www: B \\\n c\n# acmed begin www\nD\n# acmed end www\n# acmed begin other\nE\n# acmed end other\n# acmed off other: F\nG"
	text, lines, err := withdraw("x.conf", []byte(disk), "www")
	must(t, err)
	if want := "A\n  B \\\n c\n# acmed begin other\nE\n# acmed end other\n# acmed off other: F\nG"; string(text) != want {
		t.Errorf("got %q, want %q", text, want)
	}
	if diff := cmp.Diff([]int{1, 2, 3, 0, 0, 0, 4, 5, 6, 7, 8}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestQuote(t *testing.T) {
	for path, want := range map[string]string{
		"/var/lib/acmed/x.pem": "/var/lib/acmed/x.pem",
		"/a b/c":               `"/a b/c"`,
		`/a"b\c`:               `"/a\"b\\c"`,
		"/a'b#":                `"/a'b#"`,
		"/a$b":                 "/a$b",
	} {
		got, ok := quote(path)
		if !ok || got != want {
			t.Errorf("quote(%q) = %s, %v, want %s", path, got, ok, want)
		}
		if back := words("A " + got); len(back) != 2 || back[1] != path {
			t.Errorf("quote(%q) is read back as %q", path, back)
		}
	}
	for _, path := range []string{"/a${b}", "/a\nb", "/a\x7f", ""} {
		if got, ok := quote(path); ok {
			t.Errorf("quote(%q) = %s", path, got)
		}
	}
}

// checkSpans checks that spans nest, are in order, and begin and end where they say.
func checkSpans(t *testing.T, src *source, ds []*directive, at, limit int) {
	t.Helper()
	for _, d := range ds {
		end := d.end
		if d.section {
			end = d.closeEnd
			if d.close < d.end || d.closeEnd < d.close {
				t.Fatalf("section %q closes at %d-%d before %d", d.name, d.close, d.closeEnd, d.end)
			}
			checkSpans(t, src, d.children, d.end, d.close)
		}
		if d.start < at || d.end <= d.start || end > limit {
			t.Fatalf("span %d-%d of %q is not within %d-%d", d.start, end, d.name, at, limit)
		}
		at = end
	}
}
