package e2e

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestRenewUnderLoad: forced renewals under constant HTTPS load lose no request.
func TestRenewUnderLoad(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	s.start()
	s.waitFor("installed", isOK)
	before, edited := s.settled(), s.read("nginx.conf")
	stop := s.load(4)
	for range 3 {
		if out, code := s.run("renew", "--force", "--yes", "www"); code != 0 {
			t.Errorf("exit %d: %s", code, out)
		}
	}
	ok, failed := stop()
	t.Logf("%d requests answered, %d failed", ok, len(failed))
	if len(failed) > 0 || ok == 0 {
		t.Errorf("failed requests: %v", failed)
	}
	after := s.settled()
	if before.Equal(after) {
		t.Error("the served certificate did not change")
	}
	if s.read("nginx.conf") != edited {
		t.Error("a renewal edited the configuration")
	}
}

func (s *site) read(name string) string {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		s.t.Fatal(err)
	}
	return string(text)
}

// stall holds the first request to an endpoint, before or after the CA has handled it, and tells when it is there.
func stall(e acmetest.Endpoint, after bool) (acmetest.Middleware, <-chan struct{}) {
	reached := make(chan struct{})
	var once sync.Once
	return acmetest.At(func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			first := false
			once.Do(func() { first = true })
			if !first {
				next.ServeHTTP(w, r)
				return
			}
			if after {
				next.ServeHTTP(discard{}, r)
			}
			close(reached)
			<-r.Context().Done() // until the daemon is dead
		})
	}, e), reached
}

// discard is a response nobody will hear.
type discard struct{}

func (discard) Header() http.Header         { return http.Header{} }
func (discard) Write(b []byte) (int, error) { return len(b), nil }
func (discard) WriteHeader(int)             {}

// TestKilledInFirstOrder kills the daemon at every request of its first order, before and after the CA has handled it.
// The next start finishes by itself. What the CA has finalized is downloaded, not ordered again.
func TestKilledInFirstOrder(t *testing.T) {
	endpoints := []acmetest.Endpoint{
		acmetest.NewAccount, acmetest.NewOrder, acmetest.Authorization, acmetest.Challenge, acmetest.Finalize, acmetest.Certificate,
	}
	for _, e := range endpoints {
		for _, after := range []bool{false, true} {
			t.Run(string(e)+map[bool]string{false: " before", true: " after"}[after], func(t *testing.T) {
				t.Parallel()
				s := newSite(t)
				s.startNginx()
				fault, reached := stall(e, after)
				s.ca.Use(fault)
				s.start()
				await.Value(t, "the request comes", reached)
				s.kill(syscall.SIGKILL)
				s.ca.Use()
				plain := s.read("nginx.conf")
				s.start()
				s.waitFor("installed after the restart", isOK)
				s.served()
				if strings.Contains(plain, "ssl") {
					t.Error("the configuration was edited before there was a certificate")
				}
				resumable := slices.Index(endpoints, e) >= slices.Index(endpoints, acmetest.Finalize)
				if n := s.ca.Requests(acmetest.NewOrder); n > 2 || resumable && n != 1 {
					t.Errorf("the CA saw %d orders", n)
				}
			})
		}
	}
}

// TestKilledInRenewal: while a forced renewal dies anywhere, the endpoint keeps serving, and the next one works.
func TestKilledInRenewal(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	s.start()
	s.waitFor("installed", isOK)
	for _, e := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Challenge, acmetest.Finalize, acmetest.Certificate} {
		before := s.settled()
		fault, reached := stall(e, true)
		s.ca.Use(fault)
		dying := exec.Command(acmed, "-c", filepath.Join(s.dir, "acmed.yaml"), "renew", "--force", "--yes", "www")
		if err := dying.Start(); err != nil { // it ends with the daemon
			t.Fatal(err)
		}
		select {
		case <-reached:
		case <-time.After(time.Minute): // the CA may reuse an authorization, then there is no challenge
			t.Logf("%s: never asked for", e)
		}
		s.kill(syscall.SIGKILL)
		_ = dying.Process.Kill()
		_ = dying.Wait()
		if !s.served().Equal(before) {
			t.Errorf("%s: another certificate is served", e)
		}
		s.ca.Use()
		s.start()
		s.waitFor("well after the restart", isOK)
		if out, code := s.run("renew", "--force", "--yes", "www"); code != 0 {
			t.Errorf("%s: renew: exit %d: %s", e, code, out)
		}
		if s.settled().Equal(before) {
			t.Errorf("%s: the certificate did not change", e)
		}
	}
}

// settled returns the leaf that is served once it is the one that status tells of: for a moment after a reload nginx's old
// workers still answer.
func (s *site) settled() *x509.Certificate {
	s.t.Helper()
	var leaf *x509.Certificate
	await.NoError(s.t, func() error {
		leaf = s.served()
		if c, ok := s.status(); !ok || c.Serial != leaf.SerialNumber.Text(16) {
			return fmt.Errorf("served is %x, status says %s", leaf.SerialNumber, c.Serial)
		}
		return nil
	})
	return leaf
}

// TestBrokenNginx: nginx's own test fails before acmed touches anything.
func TestBrokenNginx(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	good := s.read("nginx.conf")
	broken := strings.Replace(good, "server_name", "server_nam", 1)
	s.write("nginx.conf", broken)
	s.start()
	c := s.waitFor("stored, not installed", func(c certStatus) bool {
		return c.Health == "not-installed" && len(c.Targets) == 1 && c.Targets[0].Error != ""
	})
	if s.read("nginx.conf") != broken {
		t.Error("a broken configuration was edited")
	}
	if !strings.Contains(c.Targets[0].Error, "server_nam") {
		t.Errorf("the reason is not nginx's: %s", c.Targets[0].Error)
	}
	if _, err := os.Stat(filepath.Join(s.dir, "state/certs/www/current/fullchain.pem")); err != nil {
		t.Errorf("the certificate is not stored: %v", err)
	}
	out, code := s.run("status")
	if code != 3 || !strings.Contains(out, "next attempt in") {
		t.Errorf("exit %d: %s", code, out)
	}
	s.write("nginx.conf", good)
	if out, code := s.run("renew"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	s.served()
	if n := s.ca.Requests(acmetest.NewOrder); n != 1 {
		t.Errorf("%d orders: a failed installation must not order again", n)
	}
}

// TestStop: SIGTERM in the middle of an order ends the daemon soon, without a failure on record.
func TestStop(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	s.start()
	s.waitFor("installed", isOK)
	begun := time.Now()
	if err := s.daemon.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.daemon.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	s.daemon = nil
	t.Logf("stopped after %s", time.Since(begun))
	if _, err := os.Stat(filepath.Join(s.dir, "acmed.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket is left behind: %v", err)
	}
	if c, ok := s.status(); !ok || !isOK(c) {
		t.Errorf("status without a daemon: %+v", c)
	}
}

// TestUninstall: what acmed did to nginx is shown before, and taken back to the byte.
func TestUninstall(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	original := s.read("nginx.conf")
	out, code := s.run("renew", "--dry-run")
	if code != 0 || !strings.Contains(out, "+\t\tlisten 127.0.0.1:") || !strings.Contains(out, "+\t\tssl_certificate ") || s.read("nginx.conf") != original {
		t.Errorf("exit %d: %s", code, out)
	}
	s.start()
	s.waitFor("installed", isOK)
	s.served()
	if out, code := s.run("renew", "--dry-run"); code != 0 || !strings.Contains(out, "no file would change") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := s.run("uninstall", "www"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if s.read("nginx.conf") != original {
		t.Errorf("not undone:\n%s", s.read("nginx.conf"))
	}
	if out, code := s.run("install", "www"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	s.served()
}
