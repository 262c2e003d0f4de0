// Command sweep breaks the real acmed at every state-changing system call of a renewal, by killing it, by a full disk and
// by an I/O error, and looks at what a server would read afterwards. It prints how many runs there were and how many left
// something broken behind, and fails unless that is none.
//
//	sweep [-stride N] ACMED
//
// It needs strace, and runs a CA of its own on loopback.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// calls are the system calls by which a Go program changes files. open is not among them: what it makes is empty until a
// write, and the write is.
func calls() []string {
	return []string{"write", "fsync", "renameat", "renameat2", "mkdirat", "symlinkat", "unlinkat", "fchmod", "fchmodat", "fchown", "ftruncate"}
}

// harms are what is done at a call. The program cannot tell the errors from real ones.
func harms() []string { return []string{"signal=KILL", "error=ENOSPC", "error=EIO"} }

// mostOfOneCall ends the counting of one call that never stops being hit.
const mostOfOneCall = 400

func main() {
	stride := flag.Int("stride", 1, "break at every N-th call only")
	flag.Parse()
	if flag.NArg() != 1 || *stride < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *stride); err != nil {
		fmt.Fprintln(os.Stderr, "sweep:", err)
		os.Exit(1)
	}
}

// sweep is one machine with a certificate that is renewed again and again.
type sweep struct {
	acmed, dir, base string
	runs, broken     int
}

func run(acmed string, stride int) (err error) {
	dir, err := os.MkdirTemp("", "acmed-sweep")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ca, err := acmetest.New()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ca.Close()) }()
	s := &sweep{dir: filepath.Join(dir, "site"), base: filepath.Join(dir, "base")}
	if s.acmed, err = filepath.Abs(acmed); err != nil {
		return err
	}
	if err := s.prepare(ca); err != nil {
		return err
	}
	for _, harm := range harms() {
		before := s.runs
		for _, call := range calls() {
			if err := s.call(call, harm, stride); err != nil {
				return err
			}
		}
		fmt.Printf("%-13s %d runs\n", harm, s.runs-before)
	}
	fmt.Printf("%d broken of %d\n", s.broken, s.runs)
	if s.broken > 0 || s.runs == 0 {
		return fmt.Errorf("%d of %d runs left something broken", s.broken, s.runs)
	}
	return nil
}

// prepare obtains the first certificate and keeps everything as the state from which each run begins.
func (s *sweep) prepare(ca *acmetest.CA) error {
	config := fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:%[3]d" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
certificates:
  - name: www
    names: [www.example.com]
    install:
      - file: { dir: %[1]s/out, combined: server.pem }
`, s.dir, ca.Directory, ca.HTTPPort)
	err := errors.Join(
		os.MkdirAll(filepath.Join(s.dir, "state"), 0o750),
		os.Mkdir(filepath.Join(s.dir, "out"), 0o755),
		os.WriteFile(filepath.Join(s.dir, "ca.pem"), ca.RootPEM, 0o600),
		os.WriteFile(filepath.Join(s.dir, "acmed.yaml"), []byte(config), 0o600),
	)
	if err != nil {
		return err
	}
	if out, err := s.command(s.acmed, "renew").CombinedOutput(); err != nil {
		return fmt.Errorf("first certificate: %w\n%s", err, out)
	}
	if err := s.intact(); err != nil {
		return fmt.Errorf("first certificate: %w", err)
	}
	return exec.Command("cp", "-a", s.dir, s.base).Run()
}

func (s *sweep) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	// One thread at a time, so that the calls of two runs come in nearly the same order.
	cmd.Env = append(os.Environ(), "ACMED_CONFIG="+filepath.Join(s.dir, "acmed.yaml"), "GOMAXPROCS=1")
	return cmd
}

// call harms the first, second, third ... time that one call happens, until it does not happen that often any more.
func (s *sweep) call(call, harm string, stride int) error {
	missed := 0
	for n := 1; n <= mostOfOneCall && missed < 3; n += stride { // threads count for themselves, so a miss is not the end yet
		if err := errors.Join(os.RemoveAll(s.dir), exec.Command("cp", "-a", s.base, s.dir).Run()); err != nil {
			return err
		}
		hit, err := s.harm(call, harm, n)
		if err != nil {
			return err
		}
		if !hit {
			missed++
			continue
		}
		missed = 0
		s.runs++
		if err := s.verdict(); err != nil {
			s.broken++
			fmt.Printf("BROKEN: %s at call %d of %s: %v\n", harm, n, call, err)
		}
	}
	return nil
}

// harm renews once under strace and reports whether the harm was done.
func (s *sweep) harm(call, harm string, n int) (hit bool, err error) {
	trace := filepath.Join(filepath.Dir(s.dir), "trace")
	cmd := s.command("strace", "-f", "-qq", "-o", trace, "-e", "trace="+call, "-e", fmt.Sprintf("inject=%s:%s:when=%d", call, harm, n),
		s.acmed, "renew", "--force", "--yes", "www")
	out, runErr := cmd.CombinedOutput()
	var exit *exec.ExitError
	if runErr != nil && !errors.As(runErr, &exit) {
		return false, runErr
	}
	if runErr != nil && strings.Contains(string(out), "strace:") {
		return false, fmt.Errorf("strace: %s", out)
	}
	text, err := os.ReadFile(trace)
	return strings.Contains(string(text), "(INJECTED)") || strings.Contains(string(text), "killed by SIGKILL"), err
}

// verdict looks at what a server reads, then lets acmed go on, and looks again.
func (s *sweep) verdict() error {
	if err := s.intact(); err != nil {
		return fmt.Errorf("right after: %w", err)
	}
	if out, err := s.command(s.acmed, "renew").CombinedOutput(); err != nil {
		return fmt.Errorf("the next run: %w: %s", err, out)
	}
	if out, err := s.command(s.acmed, "renew", "--force", "--yes").CombinedOutput(); err != nil {
		return fmt.Errorf("the next renewal: %w: %s", err, out)
	}
	if out, err := s.command(s.acmed, "status").CombinedOutput(); err != nil {
		return fmt.Errorf("status: %w: %s", err, out)
	}
	return s.intact()
}

// intact reports whether the active files and the installed file each hold a complete, matching and valid pair.
func (s *sweep) intact() error {
	live := filepath.Join(s.dir, "state/certs/www/current")
	return errors.Join(
		pair(filepath.Join(live, "fullchain.pem"), filepath.Join(live, "privkey.pem")),
		pair(filepath.Join(s.dir, "out/server.pem"), filepath.Join(s.dir, "out/server.pem")),
	)
}

func pair(cert, key string) error {
	p, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s: %w", cert, err)
	}
	leaf, err := x509.ParseCertificate(p.Certificate[0])
	switch {
	case err != nil:
		return fmt.Errorf("%s: %w", cert, err)
	case len(p.Certificate) < 2:
		return fmt.Errorf("%s: the chain is cut off", cert)
	case time.Now().After(leaf.NotAfter):
		return fmt.Errorf("%s: expired", cert)
	}
	return nil
}
