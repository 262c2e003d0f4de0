package e2e

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// TestRestoredBackup: acmed with the state of last month does not put the certificate of last month over the newer one that
// a server has, neither in a file nor on the wire, until it is told to.
func TestRestoredBackup(t *testing.T) {
	s := newSite(t, acmetest.WithProfile("default", 90*24*time.Hour))
	s.startNginx()
	combined := filepath.Join(s.dir, "out", "server.pem")
	conf := strings.Replace(s.read("acmed.yaml"), "install:\n", "profile: default\n    install:\n      - file: { dir: "+filepath.Dir(combined)+", combined: server.pem }\n", 1)
	if !strings.Contains(conf, combined[:len(combined)-len("/server.pem")]) {
		t.Fatalf("no second target in %s", conf)
	}
	s.write("acmed.yaml", conf)
	shell := func(script string) {
		t.Helper()
		cmd := exec.Command("sh", "-ec", script)
		cmd.Dir = s.dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s", script, err, out)
		}
	}
	must := func(args ...string) {
		t.Helper()
		if out, code := s.run(args...); code != 0 {
			t.Fatalf("acmed %s: exit %d: %s", strings.Join(args, " "), code, out)
		}
	}
	serial := func() string { return s.served().SerialNumber.Text(16) }
	shell("mkdir -p out")
	must("renew")
	old := serial()
	shell("cp -a state backup; sleep 1.1") // the next one begins a second later
	must("renew", "--force")
	newer := serial()
	if newer == old {
		t.Fatal("no renewal")
	}
	// Whoever restores it also loses what acmed knew of the targets, or the daily look finds that they have something else.
	shell(`rm -r state; cp -a backup state; sed -i 's/"verified_at": *"[^"]*"/"verified_at":"2026-01-01T00:00:00Z"/g' state/certs/www/state.json`)
	before := s.read("out/server.pem")
	out, code := s.run("renew")
	if code == 0 || !strings.Contains(out, "newer than acmed's") || !strings.Contains(out, "acmed install www") {
		t.Errorf("exit %d: %s", code, out)
	}
	if s.read("out/server.pem") != before || serial() != newer {
		t.Error("the older certificate was put over the newer one")
	}
	s.start()
	s.waitForFile("acmed.sock")
	if out, code := s.run("status"); code != 3 || !strings.Contains(out, "newer than acmed's") {
		t.Errorf("status: exit %d: %s", code, out)
	}
	s.kill(syscall.SIGTERM)
	must("install", "www")
	if serial() != old || s.read("out/server.pem") == before {
		t.Error("an operator's word did not count")
	}
}
