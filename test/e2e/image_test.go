package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestImage builds the image and runs it with Podman as the example for Compose does: not root, nothing writable but the volumes,
// no capabilities. It is unhealthy until it has a certificate, ends in good order, and finds its state again.
func TestImage(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("only root runs a private Podman")
	}
	s := newSite(t)
	dir, err := os.MkdirTemp("", "pod") // not in a path as long as the test's: Podman has sockets there
	if err != nil {
		t.Fatal(err)
	}
	podman := func(args ...string) (string, error) {
		cmd := exec.Command("podman", slices.Concat([]string{
			"--root", dir + "/root", "--runroot", dir + "/run", "--tmpdir", dir + "/tmp", "--storage-driver", "vfs",
			"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc",
		}, args)...)
		cmd.Env = append(os.Environ(), "DISABLE_HC_SYSTEMD=true") // the health check runs when the test says so
		out, err := cmd.CombinedOutput()
		if err != nil {
			err = fmt.Errorf("podman %s: %w: %s", args[0], err, out)
		}
		return strings.TrimSpace(string(out)), err
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, err := podman("logs", "acmed")
			t.Log(out, err)
		}
		_, _ = podman("rm", "--all", "--force", "--volumes", "--time", "0")
		_ = os.RemoveAll(dir)
	})
	must := func(args ...string) string {
		t.Helper()
		out, err := podman(args...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}

	programs := filepath.Join(dir, "programs")
	if err := os.CopyFS(programs, os.DirFS(filepath.Dir(acmed))); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("sh", "../../deploy/container/context.sh", programs, dir+"/context", runtime.GOARCH).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	must("build", "--quiet", "--format", "docker", "--isolation", "chroot", "--build-arg", "TARGETARCH="+runtime.GOARCH, "--tag", "acmed",
		"--file", "../../deploy/container/Containerfile", dir+"/context")

	s.write("container.yaml", fmt.Sprintf(`issuers: [ { name: test-ca, directory: %q, ca_file: /etc/acmed/ca.pem, private: true } ]
solvers: [ { name: standalone, http-01: { listen: "127.0.0.1:%d" } } ]
certificates:
  - { name: www, names: [example.com], issuers: [test-ca], solvers: [standalone], install: [ { file: { dir: /tls, fullchain: fullchain.pem, key: privkey.pem } } ] }
`, s.ca.Directory, s.ca.HTTPPort))
	out, err := podman("run", "--detach", "--name", "acmed", "--network", "host", "--cgroupns", "host", "--log-driver", "k8s-file",
		"--ulimit", "nofile=512:512", "--ulimit", "nproc=64:64", "--security-opt", "seccomp=unconfined",
		"--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--volume", "state:/var/lib/acmed", "--volume", "tls:/tls",
		"--volume", s.dir+"/container.yaml:/etc/acmed/acmed.yaml:ro", "--volume", s.dir+"/ca.pem:/etc/acmed/ca.pem:ro", "acmed")
	if err != nil {
		t.Skipf("containers cannot run here: %v: %s", err, out)
	}
	healthy := func() error {
		_, err := podman("healthcheck", "run", "acmed")
		return err
	}
	await.NoError(t, healthy)
	volume := must("volume", "inspect", "--format", "{{.Mountpoint}}", "tls")
	key, err := os.Stat(volume + "/privkey.pem")
	if err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("the key in the volume: %v, %v", key, err)
	}
	must("stop", "--time", "70", "acmed")
	if code := must("inspect", "--format", "{{.State.ExitCode}}", "acmed"); code != "0" {
		t.Errorf("it ended with %s", code)
	}
	if err := healthy(); err == nil {
		t.Error("it is healthy after its end")
	}
	must("start", "acmed")
	await.NoError(t, healthy)
}
