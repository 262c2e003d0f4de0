package text

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":              "plain",
		"a\r\nb\tc":          `a\r\nb\tc`,
		"\x1b]0;title\x07":   `\u001b]0;title\u0007`,
		"csi \u009b31m \x7f": `csi \u009b31m \u007f`,
		"right \u202e left":  `right \u202e left`,
		"tag \U000e0041":     `tag \udb40\udc41`,
		"bad \xff byte":      `bad \ufffd byte`,
		"\"quoted\" 'ü' 世界":  `"quoted" 'ü' 世界`,
	} {
		if got := Printable(in); got != want {
			t.Errorf("Printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got := Lines("a\n\tb\r\x1b"); got != "a\n\tb"+`\r\u001b` {
		t.Errorf("Lines = %q", got)
	}
}

func TestShorten(t *testing.T) {
	for _, tt := range []struct{ got, want string }{
		{Short("0123456789", 10), "0123456789"},
		{Short("0123456789a", 10), "0123456789…"},
		{Short("ééé", 5), "éé…"},
		{Short("a\x1b\x1b", 8), `a\u001b…`},
		{Short("\xff", 3), "…"},
		{Line(" a\r\n\t b\x00c ", 10), "a b c"},
		{Line("a\u202eb", 20), `a\u202eb`},
		{Tail(" plain\n", 10), "plain"},
		{Tail("0123456789abcdef01", 10), "…89abcdef01"},
		{Tail("ééé", 3), "…é"},
		{Cut("éééé", 4), "éééé"},
		{Cut("ééééé", 4), "ééé…"},
		{Cut("ab\xff\xff\xffcd", 5), "ab…"},
		{Cut("", 1), ""},
		{Cut("abc", 1), "…"},
	} {
		if tt.got != tt.want {
			t.Errorf("%q, want %q", tt.got, tt.want)
		}
	}
}

// FuzzText: whatever comes in, what comes out is valid, bounded, on one line, and fits into a JSON string.
func FuzzText(f *testing.F) {
	f.Add("a\x1b\xff\u202e\U000e0041é", 7)
	f.Fuzz(func(t *testing.T, s string, most int) {
		most = min(max(most, 1), 1000)
		for name, got := range map[string]string{"Short": Short(s, most), "Line": Line(s, most), "Tail": Tail(s, most), "Printable": Printable(s)} {
			var back string
			quoted := `"` + strings.ReplaceAll(strings.ReplaceAll(got, `\\`, ""), `"`, "") + `"`
			if !utf8.ValidString(got) || strings.ContainsAny(got, "\n\r\t\x00\x1b\x7f") {
				t.Errorf("%s(%q, %d) = %q", name, s, most, got)
			}
			if !strings.Contains(s, `\`) && json.Unmarshal([]byte(quoted), &back) != nil {
				t.Errorf("%s(%q, %d) = %q is no JSON", name, s, most, got)
			}
			if name != "Printable" && len(got) > most+len(ellipsis) {
				t.Errorf("%s(%q, %d) has %d bytes", name, s, most, len(got))
			}
		}
		if n := utf8.RuneCountInString(Cut(s, most)); n > most {
			t.Errorf("Cut(%q, %d) has %d characters", s, most, n)
		}
	})
}
