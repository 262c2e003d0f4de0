// Package e2e runs the built acmed against real servers: what an operator would see.
package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/internal/acmetest/canary"
)

// acmed is the path of the binary under test.
var acmed string

func TestMain(m *testing.M) { os.Exit(buildAndRun(m)) }

func buildAndRun(m *testing.M) int {
	if os.Getenv(spying) != "" {
		spy(os.Args[1:])
		return 0
	}
	// What this process inherited is for none that it starts: some of them may have few descriptors.
	if err := unix.CloseRange(3, math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	dir, err := os.MkdirTemp("", "acmed-e2e")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(dir) }()
	acmed = filepath.Join(dir, "acmed")
	build := exec.Command("go", "build", "-o", acmed, "../../cmd/acmed")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
		return 1
	}
	return m.Run()
}

// site is one machine: a CA, an nginx with plain HTTP for two names, and acmed's files.
type site struct {
	t         *testing.T
	dir       string
	ca        *acmetest.CA
	plain     int
	tls       int
	daemon    *exec.Cmd
	log       bytes.Buffer
	nginxConf string
}

var names = []string{"example.com", "www.example.com"}

func newSite(t *testing.T, opts ...acmetest.Option) *site {
	t.Helper()
	s := &site{t: t, dir: t.TempDir(), ca: acmetest.Start(t, opts...), plain: acmetest.FreePort(t), tls: acmetest.FreePort(t)}
	s.nginxConf = filepath.Join(s.dir, "nginx.conf")
	s.write("ca.pem", string(s.ca.RootPEM))
	s.write("nginx.conf", fmt.Sprintf(`worker_processes 2;
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
events {}
http {
	access_log off;
	server {
		listen 127.0.0.1:%[2]d;
		server_name %[3]s;
		location / { return 200 "hello\n"; }
	}
}
`, s.dir, s.plain, strings.Join(names, " ")))
	if err := os.Mkdir(filepath.Join(s.dir, "state"), 0o750); err != nil {
		t.Fatal(err)
	}
	s.write("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:%[3]d" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
certificates:
  - name: www
    names: [%[4]s]
    install:
      - nginx: { config: %[1]s/nginx.conf, prefix: %[1]s, pid_file: %[1]s/nginx.pid, listen: %[5]d, verify_timeout: 3s }
`, s.dir, s.ca.Directory, s.ca.HTTPPort, strings.Join(names, ", "), s.tls))
	t.Cleanup(func() {
		s.kill(syscall.SIGKILL)
		if err := errors.Join(canary.Heard(s.log.String()), canary.Keys(filepath.Join(s.dir, "state"))); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("the daemon's log:\n%s", s.log.String())
		}
	})
	return s
}

func (s *site) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *site) startNginx() {
	s.t.Helper()
	if out, err := exec.Command("nginx", "-p", s.dir, "-c", s.nginxConf, "-e", s.dir+"/error.log").CombinedOutput(); err != nil {
		s.t.Fatalf("nginx: %v\n%s", err, out)
	}
	s.t.Cleanup(func() {
		_ = exec.Command("nginx", "-p", s.dir, "-c", s.nginxConf, "-e", s.dir+"/error.log", "-s", "stop").Run()
		for range 200 {
			if _, err := os.Stat(filepath.Join(s.dir, "nginx.pid")); errors.Is(err, os.ErrNotExist) {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
}

// start runs the daemon and returns at once.
func (s *site) start() {
	s.t.Helper()
	s.daemon = exec.Command(acmed, "-c", filepath.Join(s.dir, "acmed.yaml"), "run")
	s.daemon.Stderr = &s.log
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// up waits for a daemon's answer at one of its pages. Unlike commands, which do without a daemon, it is one by then.
func up(t *testing.T, address string) {
	t.Helper()
	await.NoError(t, func() error {
		resp, err := http.Get(address)
		if err != nil {
			return err
		}
		return resp.Body.Close()
	})
}

// kill ends the daemon and waits for it.
func (s *site) kill(sig syscall.Signal) {
	if s.daemon == nil {
		return
	}
	_ = s.daemon.Process.Signal(sig)
	_ = s.daemon.Wait()
	s.daemon = nil
}

// run executes an acmed command and returns what it printed and its exit code.
func (s *site) run(args ...string) (string, int) {
	s.t.Helper()
	cmd := exec.Command(acmed, append([]string{"-c", filepath.Join(s.dir, "acmed.yaml")}, args...)...)
	out, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		s.t.Fatal(err)
	}
	if err := canary.Heard(string(out)); err != nil {
		s.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

type certStatus struct {
	Health  string `json:"health"`
	Version string `json:"version"`
	Serial  string `json:"serial"`
	Error   string `json:"error"`
	Targets []struct {
		Installed bool   `json:"installed"`
		Error     string `json:"error"`
	} `json:"targets"`
}

func (s *site) status() (c certStatus, ok bool) {
	out, code := s.run("status", "-o", "json")
	var answer struct {
		Certificates []certStatus `json:"certificates"`
	}
	if code != 0 && code != 3 || json.Unmarshal([]byte(out), &answer) != nil || len(answer.Certificates) != 1 {
		return certStatus{}, false
	}
	return answer.Certificates[0], true
}

// waitFor polls the status until it is as wanted.
func (s *site) waitFor(what string, want func(certStatus) bool) certStatus {
	s.t.Helper()
	var last certStatus
	await.NoError(s.t, func() error {
		c, ok := s.status()
		if ok {
			last = c
		}
		if !ok || !want(c) {
			return fmt.Errorf("never %s, last %+v", what, last)
		}
		return nil
	})
	return last
}

func isOK(c certStatus) bool { return c.Health == "ok" }

// served returns the leaf that a client sees, verified against the CA.
func (s *site) served() *x509.Certificate {
	s.t.Helper()
	d := tls.Dialer{NetDialer: &net.Dialer{Timeout: 5 * time.Second}, Config: &tls.Config{ServerName: names[0], RootCAs: s.ca.IssuingRoots()}}
	conn, err := d.DialContext(s.t.Context(), "tcp", fmt.Sprintf("127.0.0.1:%d", s.tls))
	if err != nil {
		s.t.Fatalf("the endpoint is broken: %v", err)
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
}

// load sends HTTPS requests, each over a connection of its own, until stop is called, which returns how many succeeded
// and the first few that did not.
func (s *site) load(clients int) (stop func() (int64, []error)) {
	ctx, cancel := context.WithCancel(s.t.Context())
	var ok atomic.Int64
	failures := make(chan error, 1000)
	done := make(chan struct{}, clients)
	for range clients {
		go func() {
			defer func() { done <- struct{}{} }()
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
				DisableKeepAlives: true, TLSClientConfig: &tls.Config{ServerName: names[0], RootCAs: s.ca.IssuingRoots()},
			}}
			for ctx.Err() == nil {
				if err := get(client, fmt.Sprintf("https://127.0.0.1:%d/", s.tls)); err != nil {
					failures <- err
				} else {
					ok.Add(1)
				}
			}
		}()
	}
	return func() (int64, []error) {
		cancel()
		for range clients {
			<-done
		}
		close(failures)
		var errs []error
		for err := range failures {
			errs = append(errs, err)
		}
		return ok.Load(), errs
	}
}

func get(client *http.Client, url string) error {
	resp, err := client.Get(url)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err == nil && string(body) != "hello\n" {
		err = fmt.Errorf("%s: %q", resp.Status, body)
	}
	return err
}
