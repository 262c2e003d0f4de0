package snippet_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/challenges/snippet"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write deploy/proxies anew")

const thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

// The shipped files are what the package writes by default.
func TestDeployProxies(t *testing.T) {
	const dir = "../../../deploy/proxies"
	want := map[string]bool{"README.md": true}
	for _, s := range snippet.Servers() {
		for _, m := range snippet.Modes(s) {
			text, err := snippet.Text(s, m, snippet.Options{})
			if err != nil {
				t.Fatal(err)
			}
			name := fmt.Sprintf("%s-%s.conf", s, m)
			want[name] = true
			path := filepath.Join(dir, name)
			if *update {
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Error(err)
			}
			if diff := cmp.Diff(text, string(got)); diff != "" {
				t.Errorf("%s is not what the package writes (go test -update changes it): %s", name, diff)
			}
		}
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if !want[f.Name()] {
			t.Errorf("%s belongs to no snippet", f.Name())
		}
	}
}

func TestEndpoints(t *testing.T) {
	for upstream, want := range map[string]map[snippet.Server]string{
		"127.0.0.1:81": {
			snippet.Nginx: "proxy_pass http://127.0.0.1:81;", snippet.Apache: `"http://127.0.0.1:81/.well-known/acme-challenge/"`,
			snippet.HAProxy: "server acmed 127.0.0.1:81", snippet.Caddy: "reverse_proxy 127.0.0.1:81", snippet.Varnish: `.port = "81";`,
		},
		"[::1]:81": {
			snippet.Nginx: "proxy_pass http://[::1]:81;", snippet.Apache: `"http://[::1]:81/`,
			snippet.HAProxy: "server acmed [::1]:81", snippet.Caddy: "reverse_proxy [::1]:81", snippet.Varnish: `.host = "::1";`,
		},
		"acmed.internal:81": {snippet.Nginx: "proxy_pass http://acmed.internal:81;", snippet.Varnish: `.host = "acmed.internal";`},
		"unix:/run/acmed/http.sock": {
			snippet.Nginx: "proxy_pass http://unix:/run/acmed/http.sock;", snippet.Apache: `"unix:/run/acmed/http.sock|http://localhost/`,
			snippet.HAProxy: "server acmed unix@/run/acmed/http.sock", snippet.Caddy: "reverse_proxy unix//run/acmed/http.sock",
			snippet.Varnish: `.path = "/run/acmed/http.sock";`,
		},
	} {
		for s, line := range want {
			text, err := snippet.Text(s, snippet.Proxy, snippet.Options{Upstream: upstream})
			if err != nil || !strings.Contains(text, line) {
				t.Errorf("%s to %s: %v\n%s", s, upstream, err, text)
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for name, call := range map[string]func() (string, error){
		"unknown server": func() (string, error) { return snippet.Text("iis", snippet.Proxy, snippet.Options{}) },
		"unknown mode":   func() (string, error) { return snippet.Text(snippet.Nginx, "magic", snippet.Options{}) },
		"cannot do it":   func() (string, error) { return snippet.Text(snippet.Caddy, snippet.ALPN, snippet.Options{}) },
		"port":           func() (string, error) { return snippet.Text(snippet.Nginx, snippet.ALPN, snippet.Options{Port: 70000}) },
		"short thumbprint": func() (string, error) {
			return snippet.Text(snippet.Nginx, snippet.Stateless, snippet.Options{Thumbprint: "x"})
		},
		"thumbprint with code": func() (string, error) {
			return snippet.Text(snippet.Nginx, snippet.Stateless, snippet.Options{Thumbprint: thumbprint[:40] + `";}`})
		},
	} {
		if text, err := call(); err == nil || text != "" {
			t.Errorf("%s: %q, %v", name, text, err)
		}
	}
	for _, upstream := range []string{
		"127.0.0.1", "127.0.0.1:0", "127.0.0.1:99999", ":80", "host:http", "a b:80", "a;b:80", "a:80;}", "a:80\n", "[fe80::1%eth0]:80",
		"unix:", "unix:relative", "unix:/a b", "unix:/a;b", "unix:/a{b", "unix:/a\nb", "unix:/a/", "http://a:80",
	} {
		for _, o := range []snippet.Options{{Upstream: upstream}, {Web: upstream}} {
			if text, err := snippet.Text(snippet.Nginx, snippet.ALPN, o); err == nil {
				t.Errorf("%q was accepted: %s", upstream, text)
			}
		}
	}
}

func TestStatelessNeedsAThumbprint(t *testing.T) {
	for _, s := range snippet.Servers() {
		with, err := snippet.Text(s, snippet.Stateless, snippet.Options{Thumbprint: thumbprint})
		if err != nil || !strings.Contains(with, "."+thumbprint) {
			t.Errorf("%s: %v\n%s", s, err, with)
		}
		without, err := snippet.Text(s, snippet.Stateless, snippet.Options{})
		if err != nil || !strings.Contains(without, ".REPLACE-WITH-THE-THUMBPRINT") {
			t.Errorf("%s: %v\n%s", s, err, without)
		}
	}
}
