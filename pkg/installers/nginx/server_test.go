package nginx

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

func TestValidate(t *testing.T) {
	for _, good := range []Config{
		{},
		{Binary: "/usr/sbin/nginx", Config: "/etc/nginx/nginx.conf", PIDFile: "/run/nginx.pid", Listen: 8443, HSTS: 180 * 24 * time.Hour},
		{Unit: "openresty.service", Test: []string{"/bin/true"}, Reload: []string{"/bin/true"}, Names: []string{"a.example", "*.b.example"}},
		{Verify: []string{"192.0.2.1:443", "example.com:443", "192.0.2.1:443/example.com", "[2001:db8::1]:443"}},
	} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, tt := range []struct {
		cfg  Config
		want []string
	}{
		{Config{Binary: "nginx", Config: "nginx.conf", Prefix: "x", PIDFile: "y"}, []string{"binary: ", "config: ", "prefix: ", "pid_file: "}},
		{Config{Test: []string{"nginx", "-t"}, Reload: []string{"systemctl"}}, []string{"test: ", "reload: "}},
		{Config{Listen: -1, Verify: []string{"example.com", ":443"}, Names: []string{"a; } server {"}}, []string{"listen: ", "verify: ", "names: "}},
		{Config{Unit: "x", PIDFile: "/y"}, []string{"unit: "}},
		{Config{Timeout: 5, VerifyTimeout: -1, HSTS: 10 * 365 * 24 * time.Hour}, []string{"timeout: ", "verify_timeout: ", "hsts: "}},
	} {
		err := tt.cfg.Validate()
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%+v: got %v, want %s", tt.cfg, err, want)
			}
		}
	}
}

func TestNew(t *testing.T) {
	wild := certs.Identifier{Type: certs.DNS, Value: "*.a.example"}
	target := installers.Target{Certificate: "www", Names: []certs.Identifier{wild}}
	for names, ok := range map[string]bool{"*.a.example": true, "x.a.example": true, "a.example": false, "y.x.a.example": false, "b.example": false} {
		if _, err := New(Config{Names: []string{names}}, target); (err == nil) != ok {
			t.Errorf("names %s of a certificate for %s: %v", names, wild, err)
		}
	}
	if _, err := New(Config{}, installers.Target{Certificate: "www"}); err == nil {
		t.Error("a target without names was accepted")
	}
	evil := installers.Target{Certificate: "www", Names: []certs.Identifier{{Type: certs.DNS, Value: "a; } server {"}}}
	if _, err := New(Config{}, evil); err == nil {
		t.Error("a name that is none was accepted")
	}
	if _, err := New(Config{}, installers.Target{Certificate: "www\nuser root;", Names: target.Names}); err == nil {
		t.Error("a certificate name with a line break was accepted")
	}
	if _, err := New(Config{Listen: -1}, target); err == nil {
		t.Error("a wrong configuration was accepted")
	}
}

func TestServerKey(t *testing.T) {
	same := []Config{{}, {Redirect: true}, {Binary: defaultBinary}, {Unit: defaultUnit}, {Listen: 8443}}
	for _, c := range same {
		if c.ServerKey() != same[0].ServerKey() {
			t.Errorf("%+v is another server than the default", c)
		}
	}
	for _, c := range []Config{{Config: "/x"}, {PIDFile: "/x"}, {Reload: []string{"/x"}}, {Test: []string{"/x"}}, {Unit: "x"}} {
		if c.ServerKey() == same[0].ServerKey() {
			t.Errorf("%+v is the same server as the default", c)
		}
	}
}

func TestParseBuild(t *testing.T) {
	for _, tt := range []struct {
		text string
		want build
	}{
		{
			"nginx version: nginx/1.22.1\nconfigure arguments: --prefix=/usr/share/nginx --conf-path=/etc/nginx/nginx.conf --error-log-path=stderr --http-log-path=/x",
			build{config: "/etc/nginx/nginx.conf", prefix: "/usr/share/nginx", errorLog: "stderr", http2: http2Param},
		},
		{"nginx version: nginx/1.25.1 (Ubuntu)\n", build{}},
		{"nginx version: openresty/1.25.0.3\nconfigure arguments: --prefix=/usr/local/openresty/nginx", build{prefix: "/usr/local/openresty/nginx", http2: http2Param}},
		{"nginx version: nginx/2.0.0\n", build{}},
	} {
		got, err := parseBuild(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("%q: got %+v, %v, want %+v", tt.text, got, err, tt.want)
		}
	}
	if _, err := parseBuild("hello"); err == nil {
		t.Error("an answer without a version was accepted")
	}
}

func runOnce(ctx context.Context, c installers.Command) ([]byte, error) { return c.Run(ctx) }

func TestInspect(t *testing.T) {
	broken := Config{Binary: "/usr/bin/false", Config: "/x/nginx.conf", Prefix: "/p"}
	got, err := broken.inspect(t.Context(), runOnce)
	if want := (build{config: "/x/nginx.conf", prefix: "/p", errorLog: "logs/error.log", pidFile: "logs/nginx.pid"}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	broken.HTTP2 = true
	if _, err := broken.inspect(t.Context(), runOnce); err == nil {
		t.Error("HTTP/2 was accepted without a version")
	}
	if _, err := os.Stat(defaultBinary); err != nil {
		t.Skip("nginx is not installed")
	}
	c := Config{}.withDefaults()
	got, err = c.inspect(t.Context(), runOnce)
	if err != nil || !filepath.IsAbs(got.config) || !filepath.IsAbs(got.prefix) {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestSites(t *testing.T) {
	n := newInstance(t, map[string]string{
		"sites/a.conf": "server { listen 80; server_name a.example .a.example www.* ~^x _ localhost; }\nserver { listen 80; }\n",
		"sites/b.conf": "\nserver { listen 443 ssl; root html; server_name B.example *.b.example; }\nserver { root /srv/$host; server_name c.example; }\n",
	})
	got, err := Sites(t.Context(), Config{Config: n.path("nginx.conf"), Prefix: n.path("")})
	if err != nil {
		t.Fatal(err)
	}
	want := []webserver.Site{
		{Names: []string{"a.example"}, Place: n.path("sites/a.conf") + ":1"},
		{Names: []string{"b.example", "*.b.example"}, Place: n.path("sites/b.conf") + ":2", TLS: true, Root: n.path("html")},
		{Names: []string{"c.example"}, Place: n.path("sites/b.conf") + ":3"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if _, err := Sites(t.Context(), Config{Config: n.path("absent.conf")}); err == nil {
		t.Error("an absent configuration has sites")
	}
}

func TestParseListen(t *testing.T) {
	find := func(string) []string { return []string{"127.0.0.1", "::1"} }
	for text, want := range map[string]string{
		"80":                    "[0.0.0.0:80]",
		"*:81":                  "[0.0.0.0:81]",
		"[::]:443 ssl":          "[[::]:443]",
		"[2001:DB8::0001]":      "[[2001:db8::1]:80]",
		"127.0.0.1":             "[127.0.0.1:80]",
		"localhost:8443":        "[127.0.0.1:8443 [::1]:8443]",
		"10.0.0.1:8080-8082":    "[10.0.0.1:8080 10.0.0.1:8081 10.0.0.1:8082]",
		"8080-8081":             "[0.0.0.0:8080 0.0.0.0:8081]",
		"unix:/run/nginx.sock":  "[unix:/run/nginx.sock]",
		"[::1":                  "",
		"127.0.0.1:https":       "",
		"127.0.0.1:70000":       "",
		"9000-8000":             "",
		"0":                     "",
		"1.2.3.4:5:6":           "",
		"127.0.0.1:8080-808080": "",
	} {
		src, err := parse("x.conf", []byte("listen "+text+";"))
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if l, err := parseListen(src.root[0], find); err == nil {
			got = fmt.Sprint(l.sockets())
		}
		if got != want {
			t.Errorf("listen %s: got %s, want %s", text, got, want)
		}
	}
	host, err := os.Hostname()
	if got := plainName("$hostname"); err == nil && got != strings.ToLower(host) {
		t.Errorf("$hostname is %q", got)
	}
}
