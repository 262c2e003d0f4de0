package nginx

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// instance is an nginx of a test's own: its configuration, logs and pid file below a temporary directory.
type instance struct {
	t     testing.TB
	conf  string // directory of the configuration
	run   string // logs, pid, flags
	plain int    // a free port, {plain} in the files
	tls   int    // another one, {tls} in the files
}

// mainConf is the main file of most tests. The sites are included in nginx's order.
const mainConf = `user root;
worker_processes 1;
pid {run}/nginx.pid;
error_log {run}/error.log;
events { worker_connections 512; }
http {
    access_log off;
    client_body_temp_path {run}/body;
    proxy_temp_path {run}/proxy;
    fastcgi_temp_path {run}/fastcgi;
    uwsgi_temp_path {run}/uwsgi;
    scgi_temp_path {run}/scgi;
    include sites/*.conf;
}
`

// newInstance writes a configuration without starting nginx. Files are named relative to its directory.
func newInstance(t testing.TB, files map[string]string) *instance {
	t.Helper()
	needNginx(t)
	n := &instance{t: t, conf: t.TempDir(), run: t.TempDir(), plain: acmetest.FreePort(t), tls: acmetest.FreePort(t)}
	n.write("nginx.conf", mainConf)
	for name, text := range files {
		n.write(name, text)
	}
	for _, script := range []struct{ name, text string }{
		{"test.sh", `if [ -e {run}/break-before ]; then echo broken before >&2; exit 1; fi
if [ -e {run}/break-after ] && grep -rq 'acmed: ' {conf}; then echo broken after >&2; exit 1; fi
exec {nginx} -t -q -p {run} -c {conf}/nginx.conf`},
		{"reload.sh", `echo reload >> {run}/reloads
if [ -e {run}/break-reload ]; then echo no reload >&2; exit 1; fi
if [ -e {run}/break-probe ]; then exit 0; fi
exec {nginx} -s reload -p {run} -c {conf}/nginx.conf`},
	} {
		path := filepath.Join(n.run, script.name)
		if err := os.WriteFile(path, []byte("#!/bin/sh\n"+n.expand(script.text)+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return n
}

// start writes a configuration and runs nginx with it until the test ends.
func start(t testing.TB, files map[string]string) *instance {
	t.Helper()
	n := newInstance(t, files)
	n.nginx()
	t.Cleanup(n.stop)
	return n
}

func (n *instance) expand(text string) string {
	return strings.NewReplacer("{run}", n.run, "{conf}", n.conf, "{nginx}", defaultBinary,
		"{plain}", strconv.Itoa(n.plain), "{tls}", strconv.Itoa(n.tls)).Replace(text)
}

func (n *instance) path(name string) string { return filepath.Join(n.conf, name) }

func (n *instance) write(name, text string) {
	n.t.Helper()
	if err := os.MkdirAll(filepath.Dir(n.path(name)), 0o755); err != nil {
		n.t.Fatal(err)
	}
	if err := os.WriteFile(n.path(name), []byte(n.expand(text)), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

func (n *instance) read(name string) string {
	n.t.Helper()
	text, err := os.ReadFile(n.path(name))
	if err != nil {
		n.t.Fatal(err)
	}
	return string(text)
}

// flag makes a step of the scripts fail, or work again.
func (n *instance) flag(name string) func(bool) {
	return func(on bool) {
		path := filepath.Join(n.run, name)
		if on {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				n.t.Fatal(err)
			}
			return
		}
		if err := os.Remove(path); err != nil {
			n.t.Fatal(err)
		}
	}
}

func (n *instance) reloads() int {
	text, err := os.ReadFile(filepath.Join(n.run, "reloads"))
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}

// nginx runs the binary with this configuration and returns what it said.
func (n *instance) nginx(args ...string) string {
	n.t.Helper()
	argv := append([]string{defaultBinary, "-p", n.run, "-c", n.path("nginx.conf")}, args...)
	out, err := installers.Command{Argv: argv, WithStderr: true, MaxOutput: 64 << 20}.Run(n.t.Context())
	if err != nil {
		n.t.Fatal(err)
	}
	return string(out)
}

func (n *instance) pid() int {
	text, err := os.ReadFile(filepath.Join(n.run, "nginx.pid"))
	if err != nil || len(text) == 0 { // nginx -t makes an empty one
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		n.t.Fatal(err)
	}
	return pid
}

func (n *instance) stop() {
	pid := n.pid()
	if pid == 0 {
		return
	}
	_ = syscall.Kill(pid, syscall.SIGTERM)
	await.True(n.t, "nginx ends", func() bool { return n.pid() == 0 })
}

// config is the target's configuration for this nginx.
func (n *instance) config() Config {
	return Config{
		Config: n.path("nginx.conf"), Prefix: n.run, PIDFile: filepath.Join(n.run, "nginx.pid"), Listen: n.tls,
		Test: []string{filepath.Join(n.run, "test.sh")}, Reload: []string{filepath.Join(n.run, "reload.sh")},
		VerifyTimeout: 2 * time.Second,
	}
}

// lineage is a certificate with its live paths and the function that activates a version.
type lineage struct {
	installers.Target
	publish func(*certs.Bundle)
	state   string
}

func newLineage(t testing.TB, names ...string) *lineage {
	t.Helper()
	l := &lineage{}
	l.Target, l.publish, l.state = installertest.Live(t, names...)
	return l
}

func (n *instance) installer(cfg Config, l *lineage) *Installer {
	n.t.Helper()
	i, err := New(cfg, l.Target)
	if err != nil {
		n.t.Fatal(err)
	}
	return i
}

// get asks for http(s)://host/path at the instance and returns status, location and body.
func (n *instance) get(scheme, host, path string) (*http.Response, string) {
	n.t.Helper()
	port := n.plain
	if scheme == "https" {
		port = n.tls
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	transport := &http.Transport{TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: true}, DisableKeepAlives: true}
	client := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       5 * time.Second,
	}
	req, err := http.NewRequestWithContext(n.t.Context(), http.MethodGet, scheme+"://"+addr+path, nil)
	if err != nil {
		n.t.Fatal(err)
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		n.t.Fatal(err)
	}
	return resp, string(body)
}

// site is a plain server block for names.
func site(names, body string) string {
	return fmt.Sprintf("server {\n    listen 127.0.0.1:{plain};\n    server_name %s;\n    location / { return 200 %q; }\n}\n", names, body)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// addr is where the instance serves TLS.
func (n *instance) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(n.tls)) }
