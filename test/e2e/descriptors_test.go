package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestDescriptors: with too few file descriptors, a renewal either works or fails with the reason, never halfway. The
// site is served all the time, and afterwards everything works. The daemon recovers without a restart and leaks none.
func TestDescriptors(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	if out, code := s.run("renew"); code != 0 {
		t.Fatalf("exit %d:\n%s", code, out)
	}
	failed := false
	for _, limit := range []int{8, 11, 14, 17, 20, 24, 28} {
		args := append([]string{fmt.Sprintf("--nofile=%d", limit), acmed}, "-c", filepath.Join(s.dir, "acmed.yaml"), "renew", "--force", "--yes")
		cmd := exec.CommandContext(t.Context(), "prlimit", args...)
		out, err := cmd.CombinedOutput()
		said := strings.Contains(string(out), "too many open files")
		if err != nil && !said && limit > 8 { // with so few not even the program starts
			t.Errorf("%d descriptors: the reason is not said: %v\n%s", limit, err, out)
		}
		failed = failed || said
		if bytes.Contains(out, []byte("panic")) || bytes.Contains(out, []byte("goroutine")) {
			t.Errorf("%d descriptors: %s", limit, out)
		}
		s.served()
	}
	if !failed {
		t.Error("there were always enough descriptors")
	}
	if out, code := s.run("renew", "--force", "--yes"); code != 0 {
		t.Fatalf("afterwards: exit %d:\n%s", code, out)
	}
	s.starve(7)
}

// starve takes the descriptors of a running daemon away for a while: it has some more than are open.
func (s *site) starve(some int) {
	s.t.Helper()
	s.start()
	s.waitForFile("acmed.sock") // the certificate is well without a daemon too
	before := s.waitFor("running", isOK)
	pid := s.daemon.Process.Pid
	var limits unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &limits); err != nil {
		s.t.Fatal(err)
	}
	open, refused := s.openFiles(pid), false
	for more := range some {
		low := unix.Rlimit{Cur: uint64(s.openFiles(pid) + more), Max: limits.Max} //nolint:gosec // a count; idle connections may have ended
		if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &low, nil); err != nil {
			s.t.Fatal(err)
		}
		_, code := s.run("renew", "--force", "--yes")
		refused = refused || code != 0
		s.served()
	}
	if !refused {
		s.t.Errorf("the daemon never ran out of descriptors, %d of which are open", open)
	}
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &limits, nil); err != nil {
		s.t.Fatal(err)
	}
	if out, code := s.run("renew", "--force", "--yes"); code != 0 {
		s.t.Errorf("the daemon does not recover: exit %d:\n%s", code, out)
	}
	if after := s.waitFor("recovered", isOK); after.Version == before.Version {
		s.t.Errorf("no new version: %+v", after)
	}
	await.NoError(s.t, func() error { // idle connections to the CA end later
		if now := s.openFiles(pid); now > open+2 {
			return fmt.Errorf("%d files are open, %d were before", now, open)
		}
		return nil
	})
	s.kill(syscall.SIGTERM)
}

func (s *site) openFiles(pid int) int {
	s.t.Helper()
	list, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		s.t.Fatal(err)
	}
	return len(list)
}
