package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestFleet: 1,000 certificates are pushed as files and reloaded, one of them broken. The rest run, the broken one is
// named, and the exit code says so. When a file that was good breaks, what it said before stays in use.
func TestFleet(t *testing.T) {
	const count = 1000
	s := newSite(t, acmetest.WithAlwaysValid(), acmetest.WithRetryAfter(0, 0))
	dropins := filepath.Join(s.dir, "conf.d")
	if err := os.Mkdir(dropins, 0o755); err != nil {
		t.Fatal(err)
	}
	main, _, _ := strings.Cut(s.read("acmed.yaml"), "certificates:")
	s.write("acmed.yaml", main+"log: { level: warn }\nrenewal: { splay: 0s, concurrency: 16 }\ninclude: conf.d/*.yaml\n")
	s.start()
	s.waitForFile("acmed.sock")
	for i := range count {
		text := fmt.Sprintf("certificates:\n  - { name: c%[1]d, names: [c%[1]d.example.com] }\n", i)
		if i == 500 {
			text = strings.Replace(text, "names:", "nams:", 1)
		}
		s.write(fmt.Sprintf("conf.d/c%d.yaml", i), text)
	}
	begun := time.Now()
	out, code := s.run("reload")
	t.Logf("reloaded with exit code %d after %s:\n%s", code, time.Since(begun).Round(time.Millisecond), out)
	if code != 3 || !strings.Contains(out, "conf.d/c500.yaml:2: certificates[c500]: unknown key \"nams\"") || strings.Count(out, ".yaml:") != 2 {
		t.Errorf("exit %d: %s", code, out)
	}
	live := func(i int) bool {
		_, err := os.Stat(filepath.Join(s.dir, fmt.Sprintf("state/certs/c%d/current/fullchain.pem", i)))
		return err == nil
	}
	for i := range count {
		await.True(t, fmt.Sprintf("c%d is obtained", i), func() bool { return i == 500 || live(i) })
	}
	t.Logf("%d certificates obtained after %s", count-1, time.Since(begun).Round(time.Millisecond))
	if live(500) {
		t.Error("the broken one was obtained")
	}
	if out, _ := s.run("status", "c7"); !strings.Contains(out, "c500.yaml:2:") {
		t.Errorf("status does not name the broken file: %s", out)
	}
	s.write("conf.d/c500.yaml", "certificates:\n  - { name: c500, names: [c500.example.com] }\n")
	s.write("conf.d/c7.yaml", "certificates: [\n")
	out, code = s.run("reload")
	if code != 3 || !strings.Contains(out, "conf.d/c7.yaml:1:") || !strings.Contains(out, "stays in use: "+filepath.Join(dropins, "c7.yaml")) {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := s.run("status", "c7"); code != 3 || !strings.Contains(out, "c7.example.com") {
		t.Errorf("the certificate of a file that broke is gone: exit %d: %s", code, out)
	}
	if out, code := s.run("renew", "c500"); code != 0 {
		t.Errorf("the mended one: exit %d: %s", code, out)
	}
	s.kill(syscall.SIGTERM)
	if log := s.log.String(); !strings.Contains(log, "conf.d/c500.yaml:2") || !strings.Contains(log, "conf.d/c7.yaml:1") {
		t.Errorf("the log does not name the broken files: %s", log)
	}
}
