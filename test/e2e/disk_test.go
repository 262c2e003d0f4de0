package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// TestDisk: a daemon whose state directory cannot be written any more says so in its log and in its status, asks the CA
// for nothing, and goes on when it can.
func TestDisk(t *testing.T) {
	for _, tc := range []struct{ name, harm, mend, says, code string }{
		{"full", "head -c 1000000 /dev/zero >ballast", "rm ballast", "no space left on device", "disk-full"},
		{"read only", "mount --bind $PWD/certs $PWD/certs; mount -o remount,bind,ro $PWD/certs", "umount -l $PWD/certs", "read-only file system", "no-permission"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			b := newBox(t)
			solver := fmt.Sprintf("  - { name: direct, http-01: { listen: \"127.0.0.1:%d\" } }\n", b.ca.HTTPPort)
			state := filepath.Join(b.dir, "state")
			inside := func(script string) {
				cmd := exec.Command("nsenter", "-t", fmt.Sprint(b.daemon.Process.Pid), "-m", "sh", "-c", "cd "+state+" && { "+script+"; } 2>/dev/null")
				_ = cmd.Run() // head fails when the disk is full
			}
			b.configure("advisory", solver, "  - { name: one, names: [one.example.com], solvers: [direct] }\n")
			b.begin("unshare", "-m", "sh", "-c", `mount -t tmpfs -o size=256k,mode=0750 none "$0" && exec "$@"`, state, acmed, "-c", filepath.Join(b.dir, "acmed.yaml"), "run")
			b.await("the first was obtained", b.healthy)
			inside(tc.harm)
			b.ca.ResetRequests()
			b.configure("advisory", solver, "  - { name: two, names: [two.example.com], solvers: [direct] }\n")
			b.must("reload")
			b.await("status tells of "+tc.says, func() bool {
				out, code := b.acmed("status")
				return code == 3 && strings.Contains(out, tc.says) && strings.Contains(out, tc.code)
			})
			if n := b.ca.Requests(acmetest.NewOrder); n != 0 {
				t.Errorf("%d orders were placed", n)
			}
			inside(tc.mend)
			if out, code := b.acmed("renew"); code != 0 || !b.healthy() {
				t.Errorf("with room again: exit %d: %s", code, out)
			}
			b.kill(syscall.SIGTERM)
			if log := b.log.String(); !strings.Contains(log, "ERROR") || !strings.Contains(log, tc.says) {
				t.Error("the log is silent")
			}
		})
	}
}
