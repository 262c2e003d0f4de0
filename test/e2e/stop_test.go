package e2e

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// phase is a place in the life of a certificate at which the daemon is told to stop.
type phase struct {
	name    string
	stalled acmetest.Endpoint // this request is never answered
	traced  []string          // arguments for strace, which slows the daemon down
	solver  string            // configuration of the solver, if not the webroot
	install string            // configuration of the target
	lookFor string            // the phase is reached when this pattern matches a file
}

func phases() []phase {
	return []phase{
		{name: "order", stalled: acmetest.NewOrder},
		{name: "present", solver: "dns-01: { exec: { command: [%[1]s/stuck.sh] }, propagation: none, resolvers: [\"%[2]s\"] }", lookFor: "reached"},
		{name: "validate", stalled: acmetest.Challenge},
		{name: "finalize", stalled: acmetest.Finalize},
		{name: "download", stalled: acmetest.Certificate},
		{name: "store", traced: []string{"-e", "trace=fsync", "-e", "inject=fsync:delay_enter=100000"}, lookFor: "state/certs/www/versions/.acmed-*.tmp/*"},
		{name: "install", install: "command: { run: [%[1]s/slow.sh] }", lookFor: "reached"},
		{name: "reload", install: "file: { dir: %[1]s/out, combined: all.pem, reload: [%[1]s/slow.sh] }", lookFor: "reached"},
		{name: "verify", install: "file: { dir: %[1]s/out, combined: all.pem, verify: [\"%[2]s\"], verify_wait: 5m }"},
	}
}

// TestStopInPhase: SIGTERM anywhere ends the daemon within a minute and with exit code 0, no challenge stays behind, and
// the next start finishes what was begun.
func TestStopInPhase(t *testing.T) {
	if testing.Short() {
		t.Skip("waits for the grace time of a stop")
	}
	t.Parallel()
	var all sync.WaitGroup
	for _, p := range phases() {
		all.Go(func() { // all at once, however many tests run in parallel: they only wait
			t.Run(p.name, func(t *testing.T) { stopIn(t, p) })
		})
	}
	all.Wait()
}

func stopIn(t *testing.T, p phase) {
	s := newSite(t, acmetest.WithAlwaysValid())
	reached := s.prepare(p)
	if p.stalled != "" {
		var fault acmetest.Middleware
		fault, reached = stall(p.stalled, false)
		s.ca.Use(fault)
	}
	s.startUnder(p.traced)
	if p.lookFor != "" {
		s.waitForFile(p.lookFor)
	} else {
		await.Value(t, "the phase is reached", reached)
	}
	challenges := filepath.Join(s.dir, "webroot/.well-known/acme-challenge/*")
	if files, _ := filepath.Glob(challenges); p.name == "validate" && len(files) == 0 {
		t.Error("there was no challenge to take away, so this proves nothing")
	}
	begun := time.Now()
	if err := syscall.Kill(s.pid(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.daemon.Wait(); err != nil {
		t.Errorf("exit: %v", err)
	}
	s.daemon = nil
	took := time.Since(begun)
	t.Logf("stopped after %s", took.Round(time.Millisecond))
	if took > time.Minute {
		t.Errorf("it took %s to stop", took)
	}
	if files, _ := filepath.Glob(challenges); len(files) > 0 {
		t.Errorf("challenges are left behind: %v", files)
	}
	s.ca.Use()
	s.write("go-on", "")
	s.start()
	if p.name != "verify" { // its endpoint never works
		s.waitFor("well after the restart", isOK)
	}
	if n := s.ca.Requests(acmetest.NewOrder); n > 2 {
		t.Errorf("the CA saw %d orders", n)
	}
}

// prepare writes the configuration of a phase; the channel is closed when something looks at the certificate.
func (s *site) prepare(p phase) <-chan struct{} {
	s.t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = listener.Close() })
	looked := make(chan struct{})
	go func() {
		for first := true; ; first = false {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			if first {
				close(looked)
			}
			defer func() { _ = conn.Close() }()
		}
	}()
	for _, dir := range []string{"webroot", "out"} {
		if err := os.Mkdir(filepath.Join(s.dir, dir), 0o755); err != nil {
			s.t.Fatal(err)
		}
	}
	script := fmt.Sprintf("#!/bin/sh\ntouch %[1]s/reached\n[ -e %[1]s/go-on ] || sleep 3\n", s.dir)
	if err := os.WriteFile(filepath.Join(s.dir, "slow.sh"), []byte(script), 0o755); err != nil {
		s.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(s.dir, "stuck.sh"), []byte(strings.Replace(script, "sleep 3", "sleep 3600", 1)), 0o755); err != nil {
		s.t.Fatal(err)
	}
	solver := strings.NewReplacer("%[1]s", s.dir, "%[2]s", s.ca.DNS.Addr).Replace(p.solver)
	if solver == "" {
		solver = fmt.Sprintf("http-01: { webroot: %s/webroot }", s.dir)
	}
	config, _, _ := strings.Cut(s.read("acmed.yaml"), "solvers:")
	config += fmt.Sprintf("preflight: \"off\"\nsolvers:\n  - { name: solver, %s }\n"+
		"defaults: { issuers: [test-ca], solvers: [solver] }\ncertificates:\n  - name: www\n    names: [example.com]\n", solver)
	if p.install != "" {
		target := strings.NewReplacer("%[1]s", s.dir, "%[2]s", listener.Addr().String()).Replace(p.install)
		config += "    install:\n      - " + target + "\n"
	}
	s.write("acmed.yaml", config)
	return looked
}

// startUnder runs the daemon, under strace if there are arguments for it.
func (s *site) startUnder(strace []string) {
	s.t.Helper()
	if strace == nil {
		s.start()
		return
	}
	args := append([]string{"-f", "-qq", "-o", "/dev/null"}, strace...)
	s.daemon = exec.Command("strace", append(args, acmed, "-c", filepath.Join(s.dir, "acmed.yaml"), "run")...)
	s.daemon.Stderr = &s.log
	if err := s.daemon.Start(); err != nil {
		s.t.Fatal(err)
	}
}

// waitForFile waits until there is a file whose path in the site's directory matches.
func (s *site) waitForFile(pattern string) {
	s.t.Helper()
	await.True(s.t, "there is "+pattern, func() bool {
		files, _ := filepath.Glob(filepath.Join(s.dir, pattern))
		return len(files) > 0
	})
}

// pid is the daemon's, which is not that of strace.
func (s *site) pid() int {
	s.t.Helper()
	pid, err := strconv.Atoi(strings.TrimSpace(s.read("state/lock")))
	if err != nil || pid <= 1 {
		s.t.Fatalf("the lock names process %d: %v", pid, err)
	}
	return pid
}
