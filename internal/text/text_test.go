package text

import "testing"

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		" plain\n":           "plain",
		"a\r\nb\tc":          `a\r\nb\tc`,
		"\x1b]0;title\x07":   `\x1b]0;title\a`,
		"right \u202e left":  `right \u202e left`,
		"bad \xff byte":      `bad \ufffd byte`,
		"\"quoted\" 'ü'":     `"quoted" 'ü'`,
		"0123456789abcdef01": "…89abcdef01",
	} {
		if got := Tail(in, 10); want != got && len(in) > 17 || len(in) <= 17 && Tail(in, 100) != want {
			t.Errorf("Tail(%q) = %q, %q, want %q", in, got, Tail(in, 100), want)
		}
	}
}
