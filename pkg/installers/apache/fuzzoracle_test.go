package apache

import (
	"errors"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/installers"
)

// pieces are what FuzzAsApache builds configurations from. Nothing defines A.
var pieces = []string{
	"\n", "\r\n", "\\\n", "\\\r\n", "\\", " ", "\t", "\"", "'", "#", "<", ">", "/", "x", "\r", "\\\\", "\\\"", "\xfc",
	"Define V ", "Define W \"", "Define V", "\nDefine W ",
	"<IfDefine A>\n", "<IfDefine !A>\n", "</IfDefine>\n", "\n</ifdefine>", "<IfDefine ", "<IfModule !x.c>\n", "</IfModule>",
	"<Directory />\n", "<Directory \"/a > b\">\r\n", "</Directory>\n", "</Directory", "<Directory \\\n/>\n", "</DIRECTORY> junk\n",
	"<VirtualHost *:80>\n", "</VirtualHost>\n", "<Location ", "/x>\n", "</Location>",
}

// structural is what Apache says when sections do not fit, unclosed all that is wrong with a condition that does not hold
// and ends with its file. The parser leaves that one to Apache, because it takes one that holds. Lenient is where Apache
// overlooks faults, in the text and what the parser says of it: within a condition, and at the tags of one that it skips.
var (
	structural = regexp.MustCompile(`was not closed|without matching <|Expected </|directive missing closing '>'`)
	lenient    = regexp.MustCompile(`no closing >|<If(?s:.*)(is not closed|expected </)`)
	unclosed   = regexp.MustCompile(`Expected </If(Define|Module)> before end of configuration`)
)

// FuzzAsApache lets Apache and the parser read the same text: they find the same fault with its sections, or both none,
// and then read the same values.
func FuzzAsApache(f *testing.F) {
	a := newInstance(f, nil)
	for _, text := range []string{
		"Define V x\\\nx\n", "Define W \"x \\\"\n", "<Directory />\nx", "</Directory>\n", "<Directory />\n</Location>", "<IfDefine A>\nDefine V x\n",
		"<IfDefine !A>\nDefine V x\n", "<Directory \\\n/>\n</DIRECTORY> junk\n", "#\\\n<Directory />\nDefine V ", "<VirtualHost *:80>\n</VirtualHost>\n",
		"<IfDefine A>\n<Directory />\n</Directory>\n</IfDefine>\nDefine V \\", "<Location \\\n/x>\n", "<Location \n</Location>",
	} {
		f.Add(spell(f, text))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		var text strings.Builder
		for _, b := range input[:min(len(input), 64)] {
			text.WriteString(pieces[int(b)%len(pieces)])
		}
		must(t, os.WriteFile(a.path("conf-enabled/fuzz.conf"), []byte(text.String()), 0o600))
		src := newSource("fuzz.conf", []byte(text.String()), "")
		facts, err := a.configFor().ask(t.Context())
		if failed := (*installers.CommandError)(nil); err != nil && !errors.As(err, &failed) {
			t.Fatal(err)
		}
		switch {
		case src.err != nil && err == nil && !lenient.MatchString(text.String()+src.err.Error()):
			t.Errorf("Apache reads what the parser refuses: %v\n%q", src.err, text.String())
		case src.err == nil && err != nil && structural.MatchString(err.Error()) && !unclosed.MatchString(err.Error()):
			t.Errorf("the parser reads what Apache refuses: %v\n%q", err, text.String())
		case src.err == nil && err == nil:
			if diff := cmp.Diff(values(facts.defines), defined(src.root, map[string]string{})); diff != "" {
				t.Errorf("%q (-Apache +parser):\n%s", text.String(), diff)
			}
		}
	})
}

// spell is the input that makes a text.
func spell(t testing.TB, text string) []byte {
	t.Helper()
	var input []byte
	for text != "" {
		best := -1
		for i, p := range pieces {
			if strings.HasPrefix(text, p) && (best < 0 || len(p) > len(pieces[best])) {
				best = i
			}
		}
		if best < 0 {
			t.Fatalf("no piece begins %q", text)
		}
		input = append(input, byte(best))
		text = text[len(pieces[best]):]
	}
	return input
}

// values are the variables of a text made of pieces.
func values(defines map[string]string) map[string]string {
	got := map[string]string{}
	for _, name := range []string{"V", "W"} {
		if v, ok := defines[name]; ok {
			got[name] = v
		}
	}
	return got
}

// defined are the variables that the parser finds.
func defined(ds []*directive, all map[string]string) map[string]string {
	for _, d := range ds {
		switch w := words(d.args); {
		case d.section && (!d.isCondition() || strings.HasPrefix(d.args, "!")):
			defined(d.children, all)
		case d.is("Define") && (len(w) == 1 || len(w) == 2 && w[1] == ""):
			all[w[0]] += "" // keeps the value of an earlier line
		case d.is("Define") && len(w) == 2:
			all[w[0]] = w[1]
		}
	}
	return values(all)
}
