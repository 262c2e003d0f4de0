package nginx

import (
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

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
		{"include switched off", "server {\n  listen 443 ssl;\n  include x;\n}\n",
			"server {\n  listen 443 ssl;\n  ssl_certificate /live/fullchain.pem; # acmed: www\n  a b; # acmed: www (copied)\n  # acmed off www: include x;\n  # mine\n}\n",
			"server {\n  listen 443 ssl;\n  include x;\n  # mine\n}\n", ""},
		{"broken now", original, plain + "x", "", `x.conf:6: "x" has no terminating`},
		{"rewritten", original, strings.Repeat("a b;\nc d;\n", webserver.MaxDistance), "", "x.conf:1: the file was rewritten"},
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
