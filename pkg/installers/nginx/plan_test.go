package nginx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// planCase is a configuration, of which every file is inside the http block of the main file.
type planCase struct {
	files map[string]string
	main  string // instead of the usual main file
	cfg   Config
	names []string // default: a.example
	dual  bool
	http2 http2Form
}

const planMain = "events { }\nhttp {\n    include sites/*.conf;\n}\n"

func (c *planCase) planner(t *testing.T) *planner {
	t.Helper()
	dir := t.TempDir()
	if c.main == "" {
		c.main = planMain
	}
	if c.files["nginx.conf"] == "" {
		c.files["nginx.conf"] = c.main
	}
	for name, text := range c.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(strings.ReplaceAll(text, "{conf}", dir)), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if c.names == nil {
		c.names = []string{"a.example"}
	}
	b := installertest.Bundle(t, c.names...)
	if c.dual {
		b = installertest.Dual(t, c.names...)
	}
	p := newPlanner(t, filepath.Join(dir, "nginx.conf"), c.cfg, c.names, b)
	p.http2 = c.http2
	return p
}

// newPlanner reads the configuration at path for a certificate "www" with live paths that are easy to read.
func newPlanner(t *testing.T, path string, cfg Config, names []string, b *certs.Bundle) *planner {
	t.Helper()
	var ids []certs.Identifier
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	tree, err := load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := buildModel(tree, resolver(t.Context()))
	if err != nil {
		t.Fatal(err)
	}
	target := installers.Target{Certificate: "www", FullChain: "/live/fullchain.pem", Key: "/live/privkey.pem"}
	return &planner{cfg: cfg.withDefaults(), target: target, names: ids, bundle: b, tree: tree, m: m}
}

// fullPlan is a plan with what comes of it.
type fullPlan struct {
	*plan
	Endpoints []endpoint.Endpoint
}

// full plans, and looks at the result as an installation does.
func full(p *planner) (*fullPlan, error) {
	made, err := p.make()
	if err != nil {
		return nil, err
	}
	c := &configuration{build{http2: p.http2}, p.tree, p.m}
	after := c
	if len(made.Files) > 0 {
		if after, err = (&editor{}).Foresee(c, made.Files); err != nil {
			return nil, err
		}
	}
	endpoints, err := made.Check(after)
	return &fullPlan{made, endpoints}, err
}

// apply makes the plan in the temporary directory and returns the text of sites/a.conf.
func (c *planCase) apply(t *testing.T) (string, *fullPlan) {
	t.Helper()
	p := c.planner(t)
	made, err := full(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range made.Files {
		if err := os.WriteFile(f.Path, f.Content, 0o644); err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(p.tree.prefix, f.Path)
		if err != nil {
			t.Fatal(err)
		}
		c.files[name] = strings.ReplaceAll(string(f.Content), p.tree.prefix, "{conf}")
	}
	return c.files["sites/a.conf"], made
}

const ourPair = "ssl_certificate /live/fullchain.pem; # acmed: www\nINDENTssl_certificate_key /live/privkey.pem; # acmed: www\n"

// pairAt is the pair of lines with an indentation.
func pairAt(indent string) string { return indent + strings.ReplaceAll(ourPair, "INDENT", indent) }

func TestPlan(t *testing.T) {
	for _, tt := range []struct {
		name       string
		text, want string
		planCase
	}{
		{
			name: "plain block",
			text: "server {\n    listen 80;\n    listen [::]:80;\n    server_name a.example; # main\n    root /x;\n}\n",
			want: "server {\n    listen 80;\n    listen [::]:80;\n    server_name a.example; # main\n" +
				"    listen 443 ssl; # acmed: www\n    listen [::]:443 ssl; # acmed: www\n" + pairAt("    ") + "    root /x;\n}\n",
		},
		{
			name: "tabs and CRLF",
			text: "server {\r\n\tlisten 10.0.0.1:80;\r\n\tserver_name a.example;\r\n}\r\n",
			want: "server {\r\n\tlisten 10.0.0.1:80;\r\n\tserver_name a.example;\r\n\tlisten 10.0.0.1:443 ssl; # acmed: www\r\n" +
				strings.ReplaceAll(pairAt("\t"), "\n", "\r\n") + "}\r\n",
		},
		{
			name: "one line",
			text: "  server { server_name a.example; return 204; }",
			want: "  server { server_name a.example;\n      listen 80; # acmed: www\n      listen 443 ssl; # acmed: www\n" + pairAt("      ") + " return 204; }",
		},
		{
			name: "self-signed pair",
			text: "server {\n  listen 443 ssl;\n  server_name a.example;\n  ssl_certificate 'snake oil.pem' ;\n  ssl_certificate_key \"snake.key\";\n}\n",
			want: "server {\n  listen 443 ssl;\n  server_name a.example;\n  ssl_certificate /live/fullchain.pem ;\n  ssl_certificate_key /live/privkey.pem;\n}\n",
		},
		{
			name: "two old pairs, one new",
			text: "server {\n  listen 443 ssl;\n  server_name a.example;\n  ssl_certificate e.pem;\n  ssl_certificate_key e.key;\n" +
				"  ssl_certificate r.pem; # RSA\n  ssl_certificate_key r.key;\n}\n",
			want: "server {\n  listen 443 ssl;\n  server_name a.example;\n  ssl_certificate /live/fullchain.pem;\n  ssl_certificate_key /live/privkey.pem;\n}\n",
		},
		{
			name:     "dual beside an old pair",
			planCase: planCase{dual: true},
			text:     "server {\n  listen 443 ssl;\n  server_name a.example;\n  ssl_certificate e.pem;\n  ssl_certificate_key e.key;\n}\n",
			want: "server {\n  listen 443 ssl;\n  server_name a.example;\n  ssl_certificate /live/fullchain-rsa.pem; # acmed: www\n" +
				"  ssl_certificate_key /live/privkey-rsa.pem; # acmed: www\n" +
				"  ssl_certificate /live/fullchain.pem;\n  ssl_certificate_key /live/privkey.pem;\n}\n",
		},
		{
			name: "ssl on",
			text: "server {\n  listen 443;\n  ssl on;\n  server_name a.example;\n}\n",
			want: "server {\n  listen 443;\n  ssl on;\n  server_name a.example;\n" + pairAt("  ") + "}\n",
		},
		{
			name:     "another port, HTTP/2 as a parameter",
			planCase: planCase{cfg: Config{Listen: 8443, HTTP2: true}, http2: http2Param},
			text:     "server {\n  listen localhost:80 backlog=64;\n  server_name a.example;\n}\n",
			want: "server {\n  listen localhost:80 backlog=64;\n  server_name a.example;\n" +
				"  listen localhost:8443 ssl http2; # acmed: www\n" + pairAt("  ") + "}\n",
		},
		{
			name:     "HTTP/2 as a parameter of an old listen",
			planCase: planCase{cfg: Config{HTTP2: true}, http2: http2Param},
			text:     "server {\n  listen 443 ssl;\n  server_name a.example;\n}\n",
			want:     "server {\n  listen 443 ssl http2;\n  server_name a.example;\n" + pairAt("  ") + "}\n",
		},
		{
			name:     "HTTP/2 as a directive, HSTS without plain HTTP",
			planCase: planCase{cfg: Config{HTTP2: true, HSTS: 48 * time.Hour}},
			text:     "server {\n  listen 443 ssl;\n  server_name a.example;\n}\n",
			want: "server {\n  listen 443 ssl;\n  server_name a.example;\n" + pairAt("  ") +
				"  http2 on; # acmed: www\n  add_header Strict-Transport-Security max-age=172800 always; # acmed: www\n}\n",
		},
		{
			name:     "HSTS beside plain HTTP, redirect before what answers first",
			planCase: planCase{cfg: Config{HSTS: time.Hour, Redirect: true}},
			text:     "server {\n  listen 80;\n  if ($x) { return 403; }\n  server_name a.example;\n}\n",
			want: "server {\n  listen 80;\n  listen 443 ssl; # acmed: www\n" + pairAt("  ") +
				"  set $acmed_hsts \"\"; # acmed: www\n  if ($https) { set $acmed_hsts max-age=3600; } # acmed: www\n" +
				"  add_header Strict-Transport-Security $acmed_hsts always; # acmed: www\n" +
				"  set $acmed_redirect \"$scheme://$host$uri\"; # acmed: www\n" +
				"  if ($acmed_redirect ~ \"^http://a\\.example/(?!\\.well-known/acme-challenge/)\") { return 301 https://a.example$request_uri; } # acmed: www\n" +
				"  if ($x) { return 403; }\n  server_name a.example;\n}\n",
		},
		{
			name:     "redirect in a block of its own, none where there is one",
			planCase: planCase{cfg: Config{Redirect: true, Listen: 8443}, names: []string{"a.example", "b.example", "*.w.example"}},
			text: "server {\n  listen 8443 ssl;\n  server_name a.example b.example .w.example;\n}\n" +
				"server {\n  listen 80;\n  server_name a.example .w.example;\n}\n" +
				"server {\n  listen 80;\n  server_name b.example;\n  location / { return 302 https://b.example$request_uri; }\n}\n",
			want: "server {\n  listen 8443 ssl;\n  server_name a.example b.example .w.example;\n" + pairAt("  ") + "}\n" +
				"server {\n  listen 80;\n  server_name a.example .w.example;\n  set $acmed_redirect \"$scheme://$host$uri\"; # acmed: www\n" +
				"  if ($acmed_redirect ~ \"^http://a\\.example/(?!\\.well-known/acme-challenge/)\") { return 301 https://a.example:8443$request_uri; } # acmed: www\n}\n" +
				"server {\n  listen 80;\n  server_name b.example;\n  location / { return 302 https://b.example$request_uri; }\n}\n",
		},
		{
			name: "catch-all beside a default server",
			planCase: planCase{files: map[string]string{
				"sites/b.conf": "server { listen 443 ssl; server_name b.example; }\n",
			}},
			text: "server {\n  listen 80 default_server;\n  listen [::]:80 default_server ipv6only=on;\n  server_name _;\n}\n",
			want: "server {\n  listen 80 default_server;\n  listen [::]:80 default_server ipv6only=on;\n  server_name _;\n" +
				"  listen 443 ssl default_server; # acmed: www\n  listen [::]:443 ssl default_server ipv6only=on; # acmed: www\n" + pairAt("  ") + "}\n",
		},
		{
			name:     "IP address",
			planCase: planCase{names: []string{"192.0.2.1"}},
			text:     "server {\n  listen 192.0.2.1:80;\n  server_name b.example;\n}\n",
			want: "server {\n  listen 192.0.2.1:80;\n  server_name b.example;\n" +
				"  listen 192.0.2.1:443 ssl default_server; # acmed: www\n" + pairAt("  ") + "}\n",
		},
		{
			name: "redirect that asks for the scheme",
			text: "server {\n  listen 80;\n  server_name a.example;\n  if ($scheme = http) { return 301 https://$host$request_uri; }\n}\n",
			want: "server {\n  listen 80;\n  server_name a.example;\n  listen 443 ssl; # acmed: www\n" + pairAt("  ") +
				"  if ($scheme = http) { return 301 https://$host$request_uri; }\n}\n",
		},
		{
			name: "redirect of what a proxy got without TLS",
			text: "server {\n  listen 80;\n  server_name a.example;\n  if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }\n}\n",
			want: "server {\n  listen 80;\n  server_name a.example;\n  listen 443 ssl; # acmed: www\n" + pairAt("  ") +
				"  if ($http_x_forwarded_proto = http) { return 301 https://$host$request_uri; }\n}\n",
		},
		{
			name: "redirect to another host",
			text: "server {\n  listen 80;\n  server_name a.example;\n  return 301 https://www.a.example$request_uri;\n}\n",
			want: "server {\n  listen 80;\n  server_name a.example;\n  listen 443 ssl; # acmed: www\n" + pairAt("  ") +
				"  return 301 https://www.a.example$request_uri;\n}\n",
		},
		{
			name: "TLS block wins over a plain one",
			text: "server {\n  listen 80;\n  server_name a.example;\n}\nserver {\n  listen 443 ssl;\n  server_name *.example;\n}\n",
			want: "server {\n  listen 80;\n  server_name a.example;\n}\nserver {\n  listen 443 ssl;\n  server_name *.example;\n" + pairAt("  ") + "}\n",
		},
		{
			name:     "pair in a snippet of this block alone",
			planCase: planCase{files: map[string]string{"pair.inc": "ssl_certificate x.pem;\nssl_certificate_key x.key;\n"}},
			text:     "server {\n  listen 443 ssl;\n  include pair.inc;\n  server_name a.example;\n}\n",
			want:     "server {\n  listen 443 ssl;\n  include pair.inc;\n  server_name a.example;\n}\n",
		},
		{
			name: "pair in a snippet of several sites",
			planCase: planCase{files: map[string]string{
				"pair.inc":     "# all sites\nssl_certificate x.pem;\nssl_certificate_key x.key;\n",
				"sites/b.conf": "server {\n  listen 443 ssl;\n  server_name b.example;\n  include pair.inc;\n}\n",
			}},
			text: "server {\n  listen 443 ssl;\n  server_name a.example;\n  include pair.inc;\n}\n",
			want: "server {\n  listen 443 ssl;\n  server_name a.example;\n" + pairAt("  ") + "  # acmed off www: include pair.inc;\n}\n",
		},
		{
			name: "settings in a snippet of several sites",
			planCase: planCase{cfg: Config{TLSDefaults: true}, files: map[string]string{
				"tls.inc":      "include pair.inc;\nssl_protocols TLSv1.2;\nlocation /x {\n  return 200;\n}\n",
				"pair.inc":     "ssl_certificate x.pem;\nssl_certificate_key x.key;\n",
				"sites/b.conf": "server {\n  listen 443 ssl;\n  server_name b.example;\n  include tls.inc;\n}\n",
			}},
			text: "server {\n  listen 443 ssl;\n  server_name a.example;\n  include tls.inc; # all\n}\n",
			want: "server {\n  listen 443 ssl;\n  server_name a.example;\n" + pairAt("  ") + "  include {conf}/acmed-www.inc; # acmed: www\n" +
				"  ssl_protocols TLSv1.2; # acmed: www (copied)\n  location /x {\n  return 200;\n} # acmed: www (copied)\n" +
				"  # acmed off www: include tls.inc; # all\n}\n",
		},
		{
			name: "pair of acmed in a snippet of several sites",
			planCase: planCase{files: map[string]string{
				"pair.inc":     "ssl_certificate /live/fullchain.pem;\nssl_certificate_key /live/privkey.pem;\n",
				"sites/b.conf": "server {\n  listen 443 ssl;\n  server_name b.example;\n  include pair.inc;\n}\n",
			}},
			text: "server {\n  listen 443 ssl;\n  server_name a.example;\n  include pair.inc;\n}\n",
			want: "server {\n  listen 443 ssl;\n  server_name a.example;\n  include pair.inc;\n}\n",
		},
		{
			name: "HTTP/3 beside TCP", planCase: planCase{cfg: Config{HTTP2: true}},
			text: "server {\n  listen 443 quic reuseport;\n  listen 443 ssl;\n  http2 on;\n  http3 on;\n  server_name a.example;\n}\n",
			want: "server {\n  listen 443 quic reuseport;\n  listen 443 ssl;\n  http2 on;\n  http3 on;\n  server_name a.example;\n" + pairAt("  ") + "}\n",
		},
		{
			name: "HTTP/3 beside plain HTTP", planCase: planCase{cfg: Config{HTTP2: true}},
			text: "server {\n  listen 80;\n  listen 443 quic;\n  server_name a.example;\n}\n",
			want: "server {\n  listen 80;\n  listen 443 quic;\n  server_name a.example;\n  listen 443 ssl; # acmed: www\n" + pairAt("  ") + "  http2 on; # acmed: www\n}\n",
		},
		{
			name: "a proxy on another port",
			text: "server {\n  listen 443 ssl;\n  listen 8443 ssl proxy_protocol;\n  server_name a.example;\n}\n",
			want: "server {\n  listen 443 ssl;\n  listen 8443 ssl proxy_protocol;\n  server_name a.example;\n" + pairAt("  ") + "}\n",
		},
		{
			name: "a proxy beside plain HTTP",
			text: "server {\n  listen 80;\n  listen 127.0.0.1:80 proxy_protocol;\n  server_name a.example;\n}\n",
			want: "server {\n  listen 80;\n  listen 127.0.0.1:80 proxy_protocol;\n  server_name a.example;\n  listen 443 ssl; # acmed: www\n" + pairAt("  ") + "}\n",
		},
		{
			name:     "an address of its own beside the default server",
			planCase: planCase{names: []string{"127.0.0.1", "a.example"}},
			text:     "server {\n  listen 443 ssl default_server;\n}\nserver {\n  listen 127.0.0.1:443 ssl;\n  server_name a.example;\n}\n",
			want:     "server {\n  listen 443 ssl default_server;\n}\nserver {\n  listen 127.0.0.1:443 ssl;\n  server_name a.example;\n" + pairAt("  ") + "}\n",
		},
		{
			name:     "settings",
			planCase: planCase{cfg: Config{TLSDefaults: true}},
			text:     "server {\n  listen 443 ssl;\n  server_name a.example;\n  ssl_ciphers HIGH;\n}\n",
			want:     "server {\n  listen 443 ssl;\n  server_name a.example;\n" + pairAt("  ") + "  include {conf}/acmed-www.inc; # acmed: www\n  ssl_ciphers HIGH;\n}\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.planCase
			if c.files == nil {
				c.files = map[string]string{}
			}
			c.files["sites/a.conf"] = tt.text
			got, made := c.apply(t)
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Fatal(diff)
			}
			if len(made.Endpoints) == 0 {
				t.Error("nothing to prove the certificate at")
			}
			if _, again := c.apply(t); len(again.Files) != 0 {
				t.Errorf("a second run edits %s:\n%s", again.Files[0].Path, again.Files[0].Content)
			}
		})
	}
}

func TestPlanSettings(t *testing.T) {
	c := planCase{
		cfg:   Config{TLSDefaults: true},
		files: map[string]string{"sites/a.conf": "server { listen 443 ssl; server_name a.example; ssl_ciphers HIGH; ssl_session_tickets on; }"},
	}
	c.apply(t)
	want := "# Written by acmed for the certificate www.\nssl_protocols TLSv1.2 TLSv1.3;\nssl_prefer_server_ciphers off;\n" +
		"ssl_session_timeout 1d;\nssl_session_cache shared:acmed:10m;\n"
	if diff := cmp.Diff(want, c.files["acmed-www.inc"]); diff != "" {
		t.Error(diff)
	}
	other := planCase{cfg: Config{TLSDefaults: true}, files: map[string]string{
		"sites/0.conf": "server { listen 443 ssl default_server; ssl_protocols TLSv1.3; }", "sites/a.conf": "server { listen 80; server_name a.example; }",
	}}
	other.apply(t)
	if text := other.files["acmed-www.inc"]; strings.Contains(text, "\nssl_protocols") || !strings.Contains(text, "# ssl_protocols of the default server at ") {
		t.Errorf("beside a default server the settings are\n%s", text)
	}
	c.cfg.TLSDefaults = false
	p := c.planner(t)
	made, err := full(p)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Files) != 2 || !made.Files[1].Remove || strings.Contains(string(made.Files[0].Content), "acmed-www.inc") {
		t.Errorf("switched off, the plan is %+v", made.Files)
	}
}

// TestPlanFollowsOptions checks that options that are switched off again, and names that are gone, leave nothing behind.
func TestPlanFollowsOptions(t *testing.T) {
	original := "server {\n  listen 80;\n  server_name a.example b.example;\n}\n"
	c := planCase{files: map[string]string{"sites/a.conf": original}, names: []string{"a.example", "b.example"}}
	plain, _ := c.apply(t)
	c.cfg = Config{Redirect: true, HSTS: time.Hour, HTTP2: true}
	full, _ := c.apply(t)
	if strings.Count(full, "return 301") != 2 || !strings.Contains(full, "http2 on;") {
		t.Errorf("options were not added:\n%s", full)
	}
	c.names = []string{"a.example"}
	c.cfg = Config{Redirect: true}
	one, _ := c.apply(t)
	if strings.Count(one, "return 301") != 1 || strings.Contains(one, "http2") || strings.Contains(one, "hsts") {
		t.Errorf("what is no longer wanted stayed:\n%s", one)
	}
	c.cfg = Config{}
	if again, _ := c.apply(t); again != plain {
		t.Errorf("got:\n%s\nwant:\n%s", again, plain)
	}
}

func TestPlanRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, text, want string
		planCase
	}{
		{name: "unknown name", text: "server { listen 80; server_name b.example; }", want: `no nginx server block has the name "a.example"`},
		{
			name: "TLS on another port", text: "\nserver { listen 8443 ssl; server_name a.example; }",
			want: `a.conf:2: this server block answers for "a.example" with TLS, and not on port 443: set "listen"`,
		},
		{
			name: "default server of another name",
			text: "server { listen 80 default_server; server_name b.example; }", want: `no nginx server block has the name "a.example"`,
		},
		{name: "regular expression", text: "\nserver { listen 443 ssl; server_name ~^a\\.; }", want: "a.conf:2: a regular expression"},
		{name: "expression that Go cannot read", text: "\nserver { listen 80; server_name ~^(?!b); }", want: "a.conf:2: a regular expression"},
		{
			name: "wildcard without a block", planCase: planCase{names: []string{"*.a.example"}},
			text: "server { listen 80; server_name x.a.example; }", want: `no nginx server block has the name "*.a.example": list the names`,
		},
		{
			name: "plain port 443", text: "server { listen 80; listen 443; server_name a.example; }",
			want: "a.conf:1: cannot add TLS on 0.0.0.0:443, which serves plain HTTP",
		},
		{
			name: "stream", planCase: planCase{main: planMain + "stream {\n  server { listen 443; ssl_preread on; }\n}\n"},
			text: "server { listen 80; server_name a.example; }", want: "a.conf:1: port 443 belongs to a stream or mail server at",
		},
		{
			name: "proxy protocol", text: "server { listen 80 proxy_protocol; server_name a.example; }",
			want: "a.conf:1: a proxy connects to this server block with the PROXY protocol",
		},
		{
			name: "proxy protocol with TLS", text: "server { listen 443 ssl proxy_protocol; server_name a.example; }",
			want: "a.conf:1: only a proxy can connect to 0.0.0.0:443",
		},
		{
			name: "socket", text: "server { listen unix:/run/x; server_name a.example; }", want: `no nginx server block has the name`,
		},
		{
			name: "unix socket with TLS beside", text: "server { listen 443 ssl; server_name a.example; ssl_certificate_by_lua_block { x() } }",
			want: "a.conf:1: Lua chooses the certificates",
		},
		{
			name: "rejected handshakes", text: "server { listen 443 ssl default_server; ssl_reject_handshake on; }",
			want: "a.conf:1: this server block refuses every handshake",
		},
		{
			name: "variable", text: "server { listen 443 ssl; server_name a.example; ssl_certificate $x.pem; ssl_certificate_key $x.key; }",
			want: "a.conf:1: a variable chooses the certificate",
		},
		{
			name: "redirect without a target", text: "server {\n listen 80;\n server_name a.example;\n return 301 https://$host$request_uri; }",
			want: "a.conf:4: this server block only redirects to HTTPS",
		},
		{
			name: "redirect in a location", text: "server {\n listen 80;\n server_name a.example;\n location / { return 301 https://a.example$request_uri; } }",
			want: "a.conf:4: this server block only redirects to HTTPS",
		},
		{
			name: "redirect by a proxy's word",
			text: "server {\n listen 80;\n server_name a.example;\n if ($http_x_forwarded_proto != \"https\") { return 301 https://$host$request_uri; }\n}",
			want: "a.conf:4: this sends requests to HTTPS unless a proxy says",
		},
		{
			name: "redirect by a proxy's word in a location",
			text: "map $http_x_forwarded_proto $how { default $http_x_forwarded_proto; }\nserver {\n listen 80;\n server_name a.example;\n location / { if ($how !~ https) { return 301 https://a.example$request_uri; } }\n}",
			want: "a.conf:5: this sends requests to HTTPS unless a proxy says",
		},
		{
			name: "headers in a location", planCase: planCase{cfg: Config{HSTS: time.Hour}},
			text: "server {\n listen 443 ssl;\n server_name a.example;\n location / { add_header X-A b; }\n}",
			want: "a.conf:4: the headers in this location would take Strict-Transport-Security away",
		},
		{
			name: "HTTP/2 for another site", planCase: planCase{cfg: Config{HTTP2: true}, http2: http2Param},
			text: "server { listen 443 ssl; server_name b.example; }\nserver { listen 80; server_name a.example; }",
			want: "a.conf:1: this nginx would speak HTTP/2 for this site too, which shares 0.0.0.0:443",
		},
		{
			name: "different ports", text: "server { listen 8080; server_name a.example; }\nserver { listen 8081; server_name a.example; }",
			want: "a.conf:1: this server block and ",
		},
		{
			name: "address of its own", text: "server { listen 80; server_name a.example; }\nserver { listen 192.0.2.1:443 ssl; server_name b.example; }",
			want: "a.conf:1: connections to 192.0.2.1:443 go to",
		},
		{
			name: "takes a name away",
			text: "server { listen 80; server_name a.example b.example; }\nserver { listen 443 ssl; server_name b.example; }",
			want: `a.conf:1: with TLS on port 443 this server block would take "b.example" at 0.0.0.0:443 away from`,
		},
		{
			name: "catch-all beside another default server", text: "server { listen 80 default_server; }\n" +
				"server { listen 443 ssl default_server; server_name b.example; }",
			want: `no edited server block would answer for "a.example"`,
		},
		{
			name:     "shared snippet by a pattern",
			planCase: planCase{files: map[string]string{"p/pair.inc": "ssl_certificate x.pem;\nssl_certificate_key x.key;\n"}},
			text:     "server { listen 443 ssl; server_name a.example; include p/*; }\nserver { listen 443 ssl; server_name b.example; include p/*; }",
			want:     "a.conf:1: ",
		},
		{
			name: "new address takes a name", text: "server { listen 127.0.0.1:80; server_name a.example; }\n" +
				"server { listen 443 ssl; server_name b.example; }",
			want: `a.conf:1: with TLS at 127.0.0.1:443 this server block would take "b.example"`,
		},
		{
			name: "header that would be lost",
			planCase: planCase{
				main: "events { }\nhttp {\n    add_header X-Y z;\n    include sites/*.conf;\n}\n",
				cfg:  Config{HSTS: time.Hour},
			},
			text: "server { listen 443 ssl; server_name a.example; }", want: "nginx.conf:3: a header in ",
		},
		{
			name: "two certificates, one key", text: "server { listen 443 ssl; server_name a.example; ssl_certificate a; ssl_certificate b; ssl_certificate_key c; }",
			want: "a.conf:1: this server block has 2 ssl_certificate and 1",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := tt.planCase
			if c.files == nil {
				c.files = map[string]string{}
			}
			c.files["sites/a.conf"] = tt.text
			p := c.planner(t)
			made, err := full(p)
			if err == nil {
				t.Fatalf("it was not refused, but planned: %+v", made.Files)
			}
			if got := strings.ReplaceAll(err.Error(), p.tree.prefix+"/sites/", ""); !strings.Contains(got, tt.want) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// TestPlanKeepsCoverage checks that a certificate is not replaced by one that covers less of what the block serves.
func TestPlanKeepsCoverage(t *testing.T) {
	for _, tt := range []struct {
		block   string
		old     []string
		refused string
	}{
		{"a.example", []string{"a.example", "b.example"}, ""},
		{"a.example b.example", []string{"snakeoil"}, ""},
		{"a.example b.example", []string{"a.example", "b.example"}, `covers "b.example"`},
		{"a.example *.b.example", []string{"*.b.example"}, `covers "*.b.example"`},
	} {
		old := installertest.Bundle(t, tt.old...)
		c := planCase{files: map[string]string{
			"old.pem":      string(old.FullChainPEM()),
			"sites/a.conf": "server { listen 443 ssl; server_name " + tt.block + "; ssl_certificate old.pem; ssl_certificate_key old.key; }",
		}}
		_, err := full(c.planner(t))
		if (err != nil) != (tt.refused != "") || err != nil && !strings.Contains(err.Error(), tt.refused) {
			t.Errorf("%s with a certificate for %s: got %v, want %q", tt.block, tt.old, err, tt.refused)
		}
	}
}
