package acmetest

import (
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
)

// Nobody is the number of a user and of a group that are neither root's nor those of the tests.
const Nobody = 65534

// TheirDir is an empty directory of that user, in one of root's that all can enter. It needs root.
func TheirDir(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("acting as another user needs root; make test runs as root")
	}
	top, err := os.MkdirTemp("/tmp", "theirs") // t.TempDir cannot be entered by others everywhere
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	dir := filepath.Join(top, "theirs")
	for _, step := range []func() error{
		func() error { return os.Chmod(top, 0o755) }, //nolint:gosec // for that user
		func() error { return os.Mkdir(dir, 0o755) },
		func() error { return os.Chown(dir, Nobody, Nobody) },
	} {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// AsNobody runs a shell command as that user.
func AsNobody(t testing.TB, dir, command string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-ec", command)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: Nobody, Gid: Nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}
