package daemon

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/nginx"
)

// webSite is an nginx that serves example.com, and the configuration that installs into it.
type webSite struct {
	t    *testing.T
	dir  string
	port int
	conf string
}

func newWebSite(t *testing.T) *webSite {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &webSite{t: t, dir: t.TempDir(), port: l.Addr().(*net.TCPAddr).Port}
	l.Close()
	for dir := s.dir; dir != os.TempDir() && dir != "/"; dir = filepath.Dir(dir) { // the worker of a root nginx is another user
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	s.conf = filepath.Join(s.dir, "nginx.conf")
	text := fmt.Sprintf(`pid %[1]s/pid; error_log %[1]s/error.log; daemon off;
events {}
http { access_log off; server { listen 127.0.0.1:%[2]d; server_name example.com; root %[1]s/htdocs; } }
`, s.dir, s.port)
	if err := os.WriteFile(s.conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	s.mkdir("htdocs")
	return s
}

func (s *webSite) mkdir(name string) string {
	s.t.Helper()
	path := filepath.Join(s.dir, name)
	if err := os.MkdirAll(path, 0o755); err != nil {
		s.t.Fatal(err)
	}
	return path
}

func (s *webSite) start() {
	s.t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, "/usr/sbin/nginx", "-p", s.dir, "-c", s.conf, "-e", filepath.Join(s.dir, "error.log"))
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { stop(); _ = cmd.Wait() })
	for {
		if conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port)); err == nil {
			conn.Close()
			return
		}
		if s.t.Context().Err() != nil {
			s.t.Fatal("nginx does not listen")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// advice is what doctor says about example.com with the files in webroot.
func (s *webSite) advice(names *acmetest.DNS, webroot string) string {
	s.t.Helper()
	id, _, err := certs.ParseIdentifier("example.com")
	if err != nil {
		s.t.Fatal(err)
	}
	c := &config.Config{
		Probe: config.Probe{Resolver: names.Addr, HTTPPort: uint16(s.port), TLSPort: 1, Timeout: 5 * time.Second},
		Certificates: []config.Certificate{{Name: "www", Install: []config.Install{{Nginx: &nginx.Config{
			Config: s.conf, PIDFile: filepath.Join(s.dir, "pid"),
		}}}}},
	}
	ladder := challenges.Ladder{{Name: "webroot", Solver: http01.NewWebroot(http01.WebrootConfig{Dir: webroot}, nil)}}
	d, err := diagnose(s.t.Context(), c, []patient{{certificate: "www", server: serverOf(&c.Certificates[0]), id: id, ladder: ladder, issuers: []string{"ca"}}}, nil, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(d.Findings) == 0 {
		return ""
	}
	f := d.Findings[0]
	return strings.Join([]string{strconv.FormatBool(f.Attention), f.What, f.Why, f.Do}, "|")
}

// TestDoctorKnowsTheWebroot: with a real nginx, each way in which a webroot goes wrong is told from the others.
func TestDoctorKnowsTheWebroot(t *testing.T) {
	names := acmetest.Start(t).DNS
	s := newWebSite(t)
	want := func(got string, parts ...string) {
		t.Helper()
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s\nwant %q", got, part)
			}
		}
	}
	htdocs := filepath.Join(s.dir, "htdocs")
	want(s.advice(names, htdocs), "true|", "the address is this machine's, and nginx is not running there", "systemctl start nginx")
	s.start()
	if got := s.advice(names, htdocs); got != "" {
		t.Errorf("nothing is wrong, and doctor says %s", got)
	}
	gone := filepath.Join(s.dir, "gone")
	want(s.advice(names, gone), "true|", "http-01 cannot use the directory "+gone, "no such file", "create "+gone)
	other := s.mkdir("other")
	want(s.advice(names, other), "true|", "status 404", "the solver writes into "+other+", and the web server serves "+htdocs)
	if os.Geteuid() != 0 {
		return // nginx reads what this user may read
	}
	if err := os.Chmod(htdocs, 0o700); err != nil {
		t.Fatal(err)
	}
	want(s.advice(names, htdocs), "true|", "status 403", "let the web server read "+htdocs)
	if entries, err := os.ReadDir(htdocs); err != nil || len(entries) != 0 {
		t.Errorf("left in the webroot: %v, %v", entries, err)
	}
}
