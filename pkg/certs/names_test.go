package certs_test

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/acmed/acmed/pkg/certs"
)

// TestParseIdentifier: what is a name is brought into its one form, and what is none is refused with a reason.
func TestParseIdentifier(t *testing.T) {
	label63 := strings.Repeat("a", 63)
	for in, want := range map[string]string{
		"example.com": "example.com", "EXAMPLE.Com": "example.com", "example.com.": "example.com", "*.example.com": "*.example.com",
		"bücher.example": "xn--bcher-kva.example", "xn--bcher-kva.example": "xn--bcher-kva.example", label63 + ".example.com": label63 + ".example.com",
		"192.0.2.1": "192.0.2.1", "2001:DB8::1": "2001:db8::1", "2001:db8:0:0:0:0:0:1": "2001:db8::1",
		"": "", "a..example.com": "", ".example.com": "", "*": "", "*.*.example.com": "", "w*.example.com": "", "a.*.example.com": "",
		"-a.example.com": "", "a-.example.com": "", label63 + "a.example.com": "", strings.Repeat("a.", 130) + "example.com": "",
		"exa mple.com": "", "example.com\n": "", "example.com/x": "", "http://example.com": "", "example.com:443": "", "a@example.com": "",
		"256.1.1.1": "", "1.2.3": "", "*.192.0.2.1": "", "example.com;rm": "", "$(id).example.com": "", "a\x00.example.com": "", "\u202eexample.com": "",
		"xn--a.example": "", "fe80::1%eth0": "",
	} {
		id, _, err := certs.ParseIdentifier(in)
		if want == "" && err == nil || want != "" && (err != nil || id.Value != want) {
			t.Errorf("%q: %q, %v, want %q", in, id.Value, err, want)
		}
	}
}

// FuzzParseIdentifier: an accepted name is its own form, is printable ASCII, and an error is one valid line.
func FuzzParseIdentifier(f *testing.F) {
	for _, seed := range []string{"example.com", "*.Bücher.example", "2001:db8::1", "a..b", "xn--a", "\u202e", "*.192.0.2.1"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, in string) {
		id, _, err := certs.ParseIdentifier(in)
		if err != nil {
			if !utf8.ValidString(err.Error()) || strings.ContainsAny(err.Error(), "\n\x1b\x00") {
				t.Errorf("%q: error %q", in, err)
			}
			return
		}
		again, _, err := certs.ParseIdentifier(id.Value)
		if err != nil || again != id {
			t.Errorf("%q is %q, which is %q, %v", in, id.Value, again.Value, err)
		}
		if strings.ContainsFunc(id.Value, func(r rune) bool { return r <= ' ' || r > '~' }) {
			t.Errorf("%q is %q", in, id.Value)
		}
	})
}
