package installers

import (
	"errors"
	"slices"
	"strings"
	"testing"
)

// TestRemoveRoute: the lines of one certificate go, to the byte, and nobody else's. Edited lines are named and stay.
func TestRemoveRoute(t *testing.T) {
	lines := []string{"location ^~ /.well-known/acme-challenge/ {", "    proxy_pass http://127.0.0.1:5080;", "}"}
	put := func(certificate, nl, indent string, inline bool) string {
		r := ChallengeRoute{Certificate: certificate}
		var b strings.Builder
		if inline {
			b.WriteString(nl)
		}
		for _, line := range r.Marked(slices.Clone(lines), inline) {
			b.WriteString(indent + line + nl)
		}
		return b.String()
	}
	for name, tt := range map[string]struct{ before, route, after string }{
		"own line":   {"server {\n\tlisten 80;\n", put("www", "\n", "\t", false), "}\n"},
		"in a line":  {"server { listen 80;", put("www", "\n", "    ", true), " return 301 https://$host; }\n"},
		"CRLF":       {"server {\r\n listen 80;\r\n", put("www", "\r\n", " ", false), "}\r\n"},
		"CRLF, in":   {"server { listen 80;", put("www", "\r\n", "    ", true), " }\r\n"},
		"no end":     {"a\n", put("www", "\n", "", false), "no line end"},
		"another's":  {"a\n" + put("www2", "\n", "\t", false), put("www", "\n", "\t", false), put("www.example.com", "\n", "", false)},
		"nothing":    {"a\n", "", "b\n"},
		"two routes": {put("www", "\n", "  ", false) + "a\n", put("www", "\n", "", false), ""},
	} {
		want := tt.before + tt.after
		if name == "two routes" {
			want = "a\n"
		}
		got, err := RemoveRoute("/x", []byte(tt.before+tt.route+tt.after), "www")
		if err != nil || string(got) != want {
			t.Errorf("%s: %q, %v, want %q", name, got, err, want)
		}
		if HasRoute([]byte(tt.route)) != (tt.route != "") {
			t.Errorf("%s: HasRoute", name)
		}
	}
	shared := put("a,www,b", "\n", "\t", true)
	for _, step := range []struct{ certificate, want string }{
		{"b", put("a,www", "\n", "\t", true)}, {"www", put("a", "\n", "\t", true)}, {"c", put("a", "\n", "\t", true)}, {"a", ""},
	} {
		got, err := RemoveRoute("/x", []byte("x"+shared+"y"), step.certificate)
		if shared = strings.TrimSuffix(strings.TrimPrefix(string(got), "x"), "y"); err != nil || shared != step.want {
			t.Errorf("without %s: %q, %v, want %q", step.certificate, got, err, step.want)
		}
	}
	for _, edit := range []func(string) string{
		func(s string) string { return strings.Replace(s, "5080", "5081", 1) },
		func(s string) string { return strings.Replace(s, "}\n", "}\n# mine\n", 1) },
		func(s string) string { return strings.Replace(s, routeEnd+"www\n", "", 1) },
	} {
		conflict := (*ConflictError)(nil)
		if _, err := RemoveRoute("/x", []byte(edit(put("www", "\n", "", false))), "www"); !errors.As(err, &conflict) || conflict.Path != "/x" {
			t.Errorf("an edit is taken for acmed's own: %v", err)
		}
	}
}
