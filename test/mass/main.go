// Command mass shows what happens on the day a CA wants everything replaced: it lets the real daemon obtain many
// certificates, flags all of them at once through their renewal windows (RFC 9773), kills the daemon in the middle of the
// renewals and starts it again. It prints how long each part took and the daemon's peak memory, and fails unless every
// certificate was replaced, none more often than the kill explains, and the daemon never held more memory than -memory
// says, in MiB.
//
//	mass [-n 5000] [-limit 15m] [-memory 200] ACMED
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	many "github.com/acmed/acmed/internal/acmetest/fleet"
)

func main() {
	n := flag.Int("n", 5000, "certificates")
	limit := flag.Duration("limit", 15*time.Minute, "give up after this long for one part")
	memory := flag.Int("memory", 200, "most memory that the daemon may hold, in MiB")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *n, *limit, *memory); err != nil {
		fmt.Fprintln(os.Stderr, "mass:", err)
		os.Exit(1)
	}
}

// fleet is one daemon with many certificates.
type fleet struct {
	acmed, dir string
	names      []string
	limit      time.Duration
	ca         *acmetest.CA
	daemon     *exec.Cmd
	peak       int // KiB
}

func run(acmed string, n int, limit time.Duration, memory int) (err error) {
	dir, err := os.MkdirTemp("", "acmed-mass")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	ca, err := acmetest.New(acmetest.WithAlwaysValid(), acmetest.WithRetryAfter(0, 0), acmetest.WithOnlyProfile("default", 90*24*time.Hour))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ca.Close()) }()
	f := &fleet{dir: dir, limit: limit, ca: ca}
	if f.acmed, err = filepath.Abs(acmed); err != nil {
		return err
	}
	defer f.stop(syscall.SIGKILL)
	if err := f.configure(n); err != nil {
		return err
	}
	first, err := f.part("obtain", nil, n)
	if err != nil {
		return err
	}
	if err := f.flag(first); err != nil {
		return err
	}
	ca.ResetRequests()
	begun := time.Now()
	half, err := f.part("renew until killed", first, n/2)
	if err != nil {
		return err
	}
	f.stop(syscall.SIGKILL)
	if _, err := f.part("renew the rest", first, n); err != nil {
		return err
	}
	f.stop(syscall.SIGTERM)
	orders := ca.Requests(acmetest.NewOrder)
	fmt.Printf("%d certificates replaced in %s with %d orders, killed after %d; peak memory of the daemon %d MiB\n",
		n, time.Since(begun).Round(100*time.Millisecond), orders, len(half), f.peak/1024)
	if orders > n+64 {
		return fmt.Errorf("%d orders for %d certificates", orders, n)
	}
	if f.peak > memory*1024 {
		return fmt.Errorf("the daemon held %d MiB, more than %d", f.peak/1024, memory)
	}
	return nil
}

func (f *fleet) configure(n int) error {
	var b strings.Builder
	fmt.Fprintf(&b, `state_dir: %[1]s/state
socket: %[1]s/acmed.sock
log: { level: error }
renewal: { splay: 0s, concurrency: 16 }
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: standalone, http-01: { listen: "127.0.0.1:%[3]d" } }
defaults: { issuers: [test-ca], solvers: [standalone] }
certificates:
`, f.dir, f.ca.Directory, f.ca.HTTPPort)
	for i := range n {
		name := fmt.Sprintf("c%d", i)
		f.names = append(f.names, name)
		fmt.Fprintf(&b, "  - { name: %[1]s, names: [%[1]s.example.com], profile: default }\n", name)
	}
	return errors.Join(
		os.Mkdir(filepath.Join(f.dir, "state"), 0o750),
		os.WriteFile(filepath.Join(f.dir, "ca.pem"), f.ca.RootPEM, 0o600),
		os.WriteFile(filepath.Join(f.dir, "acmed.yaml"), []byte(b.String()), 0o600),
	)
}

// part runs the daemon until as many certificates as wanted are other ones than before, and returns the versions.
func (f *fleet) part(what string, before map[string]string, want int) (map[string]string, error) {
	if f.daemon == nil {
		f.daemon = exec.Command(f.acmed, "-c", filepath.Join(f.dir, "acmed.yaml"), "run")
		f.daemon.Stderr = os.Stderr
		if err := f.daemon.Start(); err != nil {
			return nil, err
		}
	}
	for begun := time.Now(); ; time.Sleep(200 * time.Millisecond) {
		now := map[string]string{}
		for _, name := range f.names {
			if v, err := os.Readlink(filepath.Join(f.dir, "state/certs", name, "current")); err == nil && v != before[name] {
				now[name] = v
			}
		}
		f.peak = max(f.peak, peakKiB(f.daemon.Process.Pid))
		if len(now) >= want {
			fmt.Printf("%-20s %5d certificates in %s\n", what, len(now), time.Since(begun).Round(100*time.Millisecond))
			return now, nil
		}
		if time.Since(begun) > f.limit {
			return nil, fmt.Errorf("%s: only %d of %d after %s", what, len(now), want, f.limit)
		}
	}
}

// flag gives every certificate a renewal window in the past, and makes the next start of the daemon ask for it at once.
func (f *fleet) flag(versions map[string]string) error {
	f.stop(syscall.SIGTERM)
	past := time.Now().Add(-time.Hour)
	for _, name := range f.names {
		dir := filepath.Join(f.dir, "state/certs", name)
		text, err := os.ReadFile(filepath.Join(dir, versions[name], "cert.pem"))
		if err != nil {
			return err
		}
		block, _ := pem.Decode(text)
		leaf, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return err
		}
		if err := f.ca.SetRenewalInfo(leaf, past, past.Add(time.Minute)); err != nil {
			return err
		}
		if err := many.AskAtOnce(filepath.Join(dir, "state.json")); err != nil {
			return err
		}
	}
	return nil
}

func (f *fleet) stop(sig syscall.Signal) {
	if f.daemon == nil {
		return
	}
	f.peak = max(f.peak, peakKiB(f.daemon.Process.Pid))
	_ = f.daemon.Process.Signal(sig)
	_ = f.daemon.Wait()
	f.daemon = nil
}

// peakKiB is the highest resident memory that a process had, 0 when it is gone.
func peakKiB(pid int) (kib int) {
	status, err := os.Open(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	defer func() { _ = status.Close() }()
	for lines := bufio.NewScanner(status); lines.Scan(); {
		if text, ok := strings.CutPrefix(lines.Text(), "VmHWM:"); ok {
			_, _ = fmt.Sscan(text, &kib)
		}
	}
	return kib
}
