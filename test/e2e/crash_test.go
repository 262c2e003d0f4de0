package e2e

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/canary"
)

// crashing runs a program where nothing but itself keeps it from writing its memory to disk when it crashes.
const crashing = `ulimit -c unlimited && exec "$@"`

// TestCrash: a program that crashes in the middle of an order, with keys and credentials in its memory, leaves no core file
// although the kernel writes one for others, and what it says at its end holds no secret.
func TestCrash(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name, command string
		signal        syscall.Signal
	}{
		{"daemon", "run", syscall.SIGABRT},
		{"daemon", "run", syscall.SIGSEGV},
		{"command", "renew", syscall.SIGABRT},
	} {
		t.Run(tt.name+" "+tt.signal.String(), func(t *testing.T) {
			t.Parallel()
			s, secrets := hangingSite(t)
			where := t.TempDir()
			s.daemon = exec.Command("sh", "-c", crashing, "sh", acmed, "-c", filepath.Join(s.dir, "acmed.yaml"), tt.command)
			s.daemon.Dir, s.daemon.Stdout, s.daemon.Stderr = where, &s.log, &s.log
			s.daemon.Env = append(os.Environ(), "GOTRACEBACK=crash")
			if err := s.daemon.Start(); err != nil {
				t.Fatal(err)
			}
			process := s.daemon
			s.waitForFile("busy")
			s.kill(tt.signal)
			if how := process.ProcessState.Sys().(syscall.WaitStatus); !how.Signaled() {
				t.Errorf("it ended with %s, which is no crash", process.ProcessState)
			}
			if cores(t, where) != 0 {
				t.Error("it left its memory on disk")
			}
			said := s.log.String()
			if !strings.Contains(said, "goroutine ") {
				t.Errorf("it did not say what it was doing: %s", said)
			}
			for name, key := range privateKeys(t, filepath.Join(s.dir, "state")) {
				secrets[name] = key
			}
			if len(secrets) < 3 {
				t.Errorf("it held %d secrets", len(secrets))
			}
			for name, secret := range secrets {
				if err := canary.Secret(secret); err != nil {
					t.Error(err)
				}
				if strings.Contains(said, secret) {
					t.Errorf("%s came out", name)
				}
			}
			if out, err := exec.Command("sh", "-c", "cd \"$1\" && "+strings.Replace(crashing, `exec "$@"`, "kill -ABRT $$", 1), "sh", where).CombinedOutput(); err == nil {
				t.Errorf("the shell does not crash: %s", out)
			}
			if cores(t, where) == 0 {
				t.Skip("this machine puts no core files where a program crashes, so none could be here")
			}
		})
	}
}

// hangingSite is one whose only order never gets beyond its DNS program, which makes the file busy when it is asked.
func hangingSite(t *testing.T) (s *site, secrets map[string]string) {
	t.Helper()
	secrets = map[string]string{"the HMAC": base64.RawURLEncoding.EncodeToString(randomBytes(t, 32)), "the DNS token": hex.EncodeToString(randomBytes(t, 16))}
	s = newSite(t, acmetest.WithEAB(map[string]string{"kid-1": secrets["the HMAC"]}))
	s.write("hmac", secrets["the HMAC"])
	s.write("dns.env", "DNS_TOKEN="+secrets["the DNS token"]+"\n")
	program := filepath.Join(s.dir, "dns.sh")
	s.write("dns.sh", "#!/bin/sh\ntest -n \"$DNS_TOKEN\" && touch "+filepath.Join(s.dir, "busy")+"\nexec sleep 5\n")
	for path, mode := range map[string]os.FileMode{"hmac": 0o600, "dns.env": 0o600, "dns.sh": 0o755} {
		if err := os.Chmod(filepath.Join(s.dir, path), mode); err != nil {
			t.Fatal(err)
		}
	}
	config := strings.Replace(s.read("acmed.yaml"), "private: true }", "private: true, eab: { kid: kid-1, hmac_file: "+filepath.Join(s.dir, "hmac")+" } }", 1)
	config = strings.Replace(config, "solvers:\n", fmt.Sprintf("log: { level: debug }\nsolvers:\n  - { name: dns, dns-01: { exec: { command: [%s], env_file: %s }, resolvers: [\"%s\"] } }\n",
		program, filepath.Join(s.dir, "dns.env"), s.ca.DNS.Addr), 1)
	s.write("acmed.yaml", strings.Replace(config, "solvers: [standalone]", "solvers: [dns]", 1))
	return s, secrets
}

// cores counts core files.
func cores(t *testing.T, dir string) int {
	t.Helper()
	list, err := filepath.Glob(filepath.Join(dir, "core*"))
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
