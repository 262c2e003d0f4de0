package e2e

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/snippet"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// front is a machine whose ports belong to another server: a CA, an issuer, and both responders at inner ports.
type front struct {
	*testing.T
	dir    string
	ca     *acmetest.CA
	issuer *issuer.Issuer
	http   *http01.Responder
	alpn   *tlsalpn01.Responder

	innerHTTP, innerTLS, web string // host:port
	orders                   int
}

func newFront(t *testing.T, opts ...acmetest.Option) *front {
	t.Helper()
	f := &front{T: t, dir: openDir(t), ca: acmetest.Start(t, opts...)}
	f.innerHTTP, f.innerTLS, f.web = f.free(), f.free(), f.free()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	trusted := []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	f.http = http01.NewResponder(http01.ResponderConfig{Addr: f.innerHTTP, Proxies: trusted})
	f.alpn = tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: f.innerTLS, Proxies: trusted})
	f.issuer, err = issuer.New(issuer.Config{
		Name: "test", Directory: f.ca.Directory, AgreeTOS: true, Private: true, Roots: f.ca.Roots, Store: st,
		Solvers: map[string]challenges.Rung{
			"http-01":     {Name: "http-01", Solver: f.http},
			"tls-alpn-01": {Name: "tls-alpn-01", Solver: f.alpn},
			"stateless":   {Name: "stateless", Solver: http01.Stateless{}},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.issuer.Close() })
	return f
}

// openDir makes a directory with a short path that the users of the servers may enter.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "acmed")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func (f *front) free() string {
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(acmetest.FreePort(f)))
}

// obtain orders a further certificate for example.com and returns the solver that proved it.
func (f *front) obtain(solvers ...string) string {
	f.Helper()
	f.orders++
	id := certs.Identifier{Type: certs.DNS, Value: "example.com"}
	b, err := f.issuer.Obtain(f.Context(), certs.Request{Spec: certs.Spec{
		Name: fmt.Sprintf("www%d", f.orders), Identifiers: []certs.Identifier{id}, Profile: "default", Solvers: solvers,
	}})
	if err != nil {
		f.Fatalf("obtain through %v: %v", solvers, err)
	}
	return b.Validations[0].Solver
}

func (f *front) snippet(s snippet.Server, m snippet.Mode, o snippet.Options) string {
	f.Helper()
	text, err := snippet.Text(s, m, o)
	if err != nil {
		f.Fatal(err)
	}
	// On loopback only.
	port := strconv.Itoa(o.Port)
	return strings.NewReplacer("listen [::]:"+port, "listen [::1]:"+port, "listen "+port, "listen 127.0.0.1:"+port,
		"bind :::"+port+" v4v6", "bind 127.0.0.1:"+port).Replace(text)
}

func (f *front) file(name, text string) string {
	f.Helper()
	path := filepath.Join(f.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		f.Fatal(err)
	}
	return path
}

// need installs the Debian packages of missing commands.
func (f *front) need(pairs ...string) {
	f.Helper()
	if out, err := exec.CommandContext(f.Context(), "../needs.sh", pairs...).CombinedOutput(); err != nil {
		f.Skipf("%v: %s", err, out)
	}
}

// start runs a server until the test ends and waits for its port.
func (f *front) start(port int, argv ...string) {
	f.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir = f.dir
	cmd.Env = append(os.Environ(), "PATH="+os.Getenv("PATH")+":/usr/sbin:/sbin", "HOME="+f.dir, "XDG_DATA_HOME="+f.dir, "XDG_CONFIG_HOME="+f.dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	if err := cmd.Start(); err != nil {
		f.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	f.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(time.Minute):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	})
	await.NoError(f, func() error {
		select {
		case err := <-ended:
			ended <- err
			f.Fatalf("%s ended: %v\n%s", argv[0], err, output.String())
		default:
		}
		conn, err := net.DialTimeout("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), time.Second)
		if err != nil {
			return fmt.Errorf("%s does not listen on port %d: %w", argv[0], port, err)
		}
		return conn.Close()
	})
}

// The ways to run each server with a snippet at the CA's http-01 port. Everything else gets the page "site".

func (f *front) nginx(text, outside string) {
	f.Helper()
	f.need("nginx:nginx", "nginx:libnginx-mod-stream")
	port := f.ca.HTTPPort
	conf := f.file("nginx.conf", fmt.Sprintf(`load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off; pid %[1]s/nginx.pid; error_log stderr; worker_processes 1;
events {}
http {
	access_log off;
	client_body_temp_path %[1]s/body; proxy_temp_path %[1]s/proxy; fastcgi_temp_path %[1]s/fastcgi; uwsgi_temp_path %[1]s/uwsgi; scgi_temp_path %[1]s/scgi;
	server { listen 127.0.0.1:%[2]d;
%[3]s
		location / { return 200 "site"; }
	}
}
%[4]s`, f.dir, port, text, outside))
	f.start(port, "/usr/sbin/nginx", "-c", conf, "-p", f.dir)
}

func (f *front) apache(text string) {
	f.Helper()
	f.need("apache2:apache2")
	port := f.ca.HTTPPort
	f.file("index.html", "site")
	conf := f.file("apache.conf", fmt.Sprintf(`ServerRoot /usr/lib/apache2
DefaultRuntimeDir %[1]s
Mutex file:%[1]s default
PidFile %[1]s/apache.pid
ErrorLog %[1]s/apache.log
ServerName localhost
User www-data
Group www-data
LoadModule mpm_event_module modules/mod_mpm_event.so
LoadModule authz_core_module modules/mod_authz_core.so
LoadModule dir_module modules/mod_dir.so
LoadModule proxy_module modules/mod_proxy.so
LoadModule proxy_http_module modules/mod_proxy_http.so
LoadModule rewrite_module modules/mod_rewrite.so
LoadModule alias_module modules/mod_alias.so
Listen 127.0.0.1:%[2]d
<VirtualHost *:%[2]d>
DocumentRoot %[1]s
%[3]s
</VirtualHost>
`, f.dir, port, text))
	f.start(port, "/usr/sbin/apache2", "-DFOREGROUND", "-f", conf)
}

func (f *front) haproxy(text string) {
	f.Helper()
	f.need("haproxy:haproxy")
	port := f.ca.HTTPPort
	conf := f.file("haproxy.cfg", fmt.Sprintf("frontend public\n    bind 127.0.0.1:%d\n    mode http\n    timeout client 5s\n"+
		"    http-request return status 200 content-type text/plain string site if { path / }\n%s", port, text))
	f.start(port, "/usr/sbin/haproxy", "-db", "-f", conf)
}

func (f *front) caddy(text string) {
	f.Helper()
	f.need("caddy:caddy")
	port := f.ca.HTTPPort
	conf := f.file("Caddyfile", fmt.Sprintf("{\n\tadmin off\n\tauto_https off\n}\nhttp://:%d {\n\tbind 127.0.0.1\n%s\n\trespond \"site\"\n}\n", port, text))
	f.start(port, "/usr/bin/caddy", "run", "--config", conf, "--adapter", "caddyfile")
}

func (f *front) varnish(text string) {
	f.Helper()
	f.need("varnishd:varnish")
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "site") }))
	f.Cleanup(page.Close)
	host, pagePort, err := net.SplitHostPort(page.Listener.Addr().String())
	if err != nil {
		f.Fatal(err)
	}
	port := f.ca.HTTPPort
	conf := f.file("default.vcl", fmt.Sprintf("vcl 4.1;\nbackend own { .host = %q; .port = %q; }\n%s", host, pagePort, text))
	f.start(port, "/usr/sbin/varnishd", "-F", "-j", "none", "-a", fmt.Sprintf("127.0.0.1:%d", port), "-f", conf, "-n", filepath.Join(f.dir, "varnish"), "-s", "malloc,10M")
}

func (f *front) serve(s snippet.Server, text string) {
	f.Helper()
	switch s {
	case snippet.Nginx:
		f.nginx(text, "")
	case snippet.Apache:
		f.apache(text)
	case snippet.HAProxy:
		f.haproxy(text)
	case snippet.Caddy:
		f.caddy(text)
	case snippet.Varnish:
		f.varnish(text)
	}
}

// fetch returns status and body of a path at the CA's http-01 port.
func (f *front) fetch(path string) (int, string) {
	f.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", f.ca.HTTPPort, path))
	if err != nil {
		f.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		f.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(body))
}

// TestProxiesPassHTTP01: each server with its snippet lets the CA reach the responder, over TCP and a unix socket, and
// still serves its own site.
func TestProxiesPassHTTP01(t *testing.T) {
	for _, s := range snippet.Servers() {
		t.Run(string(s), func(t *testing.T) {
			f := newFront(t)
			f.serve(s, f.snippet(s, snippet.Proxy, snippet.Options{Upstream: f.innerHTTP}))
			if got := f.obtain("http-01"); got != "http-01" {
				t.Errorf("validated through %s", got)
			}
			if status, body := f.fetch("/"); status != http.StatusOK || body != "site" {
				t.Errorf("the site itself: %d %q", status, body)
			}
		})
		t.Run(string(s)+"/unix", func(t *testing.T) {
			f := newFront(t)
			upstream := "unix:" + filepath.Join(f.dir, "http.sock")
			responder := http01.NewResponder(http01.ResponderConfig{Addr: upstream})
			t.Cleanup(func() { _ = responder.Close() })
			c := challenges.Challenge{Token: strings.Repeat("t", 43), KeyAuth: "the answer"}
			if err := responder.Present(t.Context(), c); err != nil {
				t.Fatal(err)
			}
			f.serve(s, f.snippet(s, snippet.Proxy, snippet.Options{Upstream: upstream}))
			if status, body := f.fetch(http01.PathPrefix + c.Token); status != http.StatusOK || body != c.KeyAuth {
				t.Errorf("answered %d %q", status, body)
			}
		})
	}
}

// TestProxiesAnswerStateless: the server alone answers; nothing of acmed listens.
func TestProxiesAnswerStateless(t *testing.T) {
	for _, s := range snippet.Servers() {
		t.Run(string(s), func(t *testing.T) {
			f := newFront(t)
			account, err := f.issuer.Account(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			f.serve(s, f.snippet(s, snippet.Stateless, snippet.Options{Thumbprint: account.Thumbprint}))
			if got := f.obtain("stateless"); got != "stateless" {
				t.Errorf("validated through %s", got)
			}
			if f.http.Addr() != nil {
				t.Error("the responder listens")
			}
			token := strings.Repeat("Az0-_", 5)
			if status, body := f.fetch(http01.PathPrefix + token + "?x=y"); status == http.StatusOK && strings.Contains(body, "x=y") {
				t.Errorf("the query came back: %q", body)
			}
			for _, path := range []string{"/", http01.PathPrefix + "short", http01.PathPrefix + token + "%22%3E", http01.PathPrefix + token + "/x", "/x" + http01.PathPrefix + token} {
				if _, body := f.fetch(path); strings.Contains(body, account.Thumbprint) {
					t.Errorf("%s was answered %q", path, body)
				}
			}
		})
	}
}

// redirects are what sites that redirect everything to HTTPS have after the snippet. Where a comment of a snippet asks for a
// word in the operator's own line, it is there.
func redirects() map[snippet.Server]map[string]string {
	return map[snippet.Server]map[string]string{
		snippet.Nginx: {
			"return": "return 301 https://$host$request_uri;", "rewrite": "rewrite ^ https://$host$request_uri permanent;",
			"if": "if ($host) { return 301 https://$host$request_uri; }",
		},
		snippet.Apache: {
			"Redirect":      `Redirect permanent "/" "https://example.com/"`,
			"RewriteRule":   "RewriteEngine on\nRewriteRule ^ https://%{SERVER_NAME}%{REQUEST_URI} [END,NE,R=permanent]",
			"RedirectMatch": `RedirectMatch 301 "^(.*)$" "https://example.com$1"`,
		},
		snippet.HAProxy: {
			"http-request redirect": "    http-request redirect scheme https code 301 unless { ssl_fc }\n",
			"redirect":              "    redirect scheme https code 301 if !{ ssl_fc } !acmed_challenge\n",
		},
		snippet.Caddy:   {"redir": "redir @not_acmed https://{host}{uri} 301"},
		snippet.Varnish: {"synth": `sub vcl_recv { return (synth(301, "Moved")); } sub vcl_synth { if (resp.status == 301) { set resp.http.Location = "https://example.com/"; } }`},
	}
}

// TestChallengesBeforeRedirects: every snippet answers challenges on a site that redirects everything else to HTTPS, in each
// of the ways in which its server can.
func TestChallengesBeforeRedirects(t *testing.T) {
	for s, ways := range redirects() {
		for name, way := range ways {
			for _, mode := range []snippet.Mode{snippet.Proxy, snippet.Stateless} {
				t.Run(fmt.Sprintf("%s/%s/%s", s, name, mode), func(t *testing.T) {
					f := newFront(t)
					account, err := f.issuer.Account(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					text := f.snippet(s, mode, snippet.Options{Upstream: f.innerHTTP, Thumbprint: account.Thumbprint})
					if s == snippet.HAProxy {
						f.haproxyRedirecting(text, way)
					} else {
						f.serve(s, text+"\n"+way)
					}
					solver := map[snippet.Mode]string{snippet.Proxy: "http-01", snippet.Stateless: "stateless"}[mode]
					if got := f.obtain(solver); got != solver {
						t.Errorf("validated through %s", got)
					}
					if status := f.redirected("/page"); status != http.StatusMovedPermanently {
						t.Errorf("the site itself answers with %d", status)
					}
				})
			}
		}
	}
}

// haproxyRedirecting puts a redirect after the lines of a snippet that belong into the frontend.
func (f *front) haproxyRedirecting(text, redirect string) {
	f.Helper()
	f.need("haproxy:haproxy")
	frontend, backend, _ := strings.Cut(text, "\nbackend ")
	if backend != "" {
		backend = "\nbackend " + backend
	}
	if !strings.Contains(frontend, "acl acmed_challenge") {
		redirect = strings.Replace(redirect, " !acmed_challenge", "", 1)
	}
	port := f.ca.HTTPPort
	conf := f.file("haproxy.cfg", fmt.Sprintf("frontend public\n    bind 127.0.0.1:%d\n    mode http\n    timeout client 5s\n%s\n%s%s", port, frontend, redirect, backend))
	f.start(port, "/usr/sbin/haproxy", "-db", "-f", conf)
}

// redirected is the status of a path, whose redirect is not followed.
func (f *front) redirected(path string) int {
	f.Helper()
	client := &http.Client{
		Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	resp, err := client.Get(fmt.Sprintf("http://127.0.0.1:%d%s", f.ca.HTTPPort, path))
	if err != nil {
		f.Fatal(err)
	}
	_ = resp.Body.Close()
	return resp.StatusCode
}

// TestALPNBesideAWebServer: nginx and HAProxy route acme-tls/1 to the responder and browsers to their own TLS site, which
// has moved to another address.
func TestALPNBesideAWebServer(t *testing.T) {
	for _, s := range []snippet.Server{snippet.Nginx, snippet.HAProxy} {
		t.Run(string(s), func(t *testing.T) {
			f := newFront(t)
			pair, text := f.keyPair(), f.snippet(s, snippet.ALPN, snippet.Options{Upstream: f.innerTLS, Web: f.web, Port: f.ca.TLSPort})
			if s == snippet.Nginx {
				f.nginx(fmt.Sprintf("listen %s ssl; ssl_certificate %s; ssl_certificate_key %[2]s;", f.web, pair), text)
			} else {
				f.haproxy(fmt.Sprintf("    bind %s ssl crt %s\n%s", f.web, pair, text))
			}
			for range 2 {
				if got := f.obtain("tls-alpn-01"); got != "tls-alpn-01" {
					t.Errorf("validated through %s", got)
				}
				if body, err := browse(f.ca.TLSPort); err != nil || body != "site" {
					t.Errorf("a browser got %q, %v", body, err)
				}
			}
		})
	}
}

// TestProxyProtocolOfRealProxies: HAProxy sends its header in both versions, to both responders.
func TestProxyProtocolOfRealProxies(t *testing.T) {
	for _, option := range []string{"send-proxy", "send-proxy-v2"} {
		t.Run(option, func(t *testing.T) {
			f := newFront(t)
			plain := f.snippet(snippet.HAProxy, snippet.Proxy, snippet.Options{Upstream: f.innerHTTP})
			secure := f.snippet(snippet.HAProxy, snippet.ALPN, snippet.Options{Upstream: f.innerTLS, Port: f.ca.TLSPort})
			sends := strings.NewReplacer(f.innerHTTP, f.innerHTTP+" "+option, f.innerTLS, f.innerTLS+" "+option)
			f.haproxy(sends.Replace(plain + secure))
			for _, solver := range []string{"http-01", "tls-alpn-01"} {
				if got := f.obtain(solver); got != solver {
					t.Errorf("validated through %s", got)
				}
			}
		})
	}
}

func browse(port int) (string, error) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/", port))
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// validations counts the challenges that the CA was told to validate.
func (f *front) validations() int { return f.ca.Requests(acmetest.Challenge) }

// keyPair writes a certificate for another name and its key into one file.
func (f *front) keyPair() string {
	f.Helper()
	srv := httptest.NewTLSServer(http.NotFoundHandler())
	defer srv.Close()
	pair := srv.TLS.Certificates[0]
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		f.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: pair.Certificate[0]})
	return f.file("pair.pem", string(text)+string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})))
}
