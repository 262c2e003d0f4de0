package nginx

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
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
	n := &editor{target: installers.Target{Certificate: "www", FullChain: "/live/fullchain.pem", Key: "/live/privkey.pem"}}
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
