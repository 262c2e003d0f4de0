package file

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/fileset"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// podman is a Podman with its own storage, and a file system for containers with a shell.
type podman struct {
	t           *testing.T
	dir, rootfs string
	socket      string
}

func newPodman(t *testing.T) *podman {
	t.Helper()
	if _, err := exec.LookPath("podman"); err != nil {
		t.Skip("Podman is not installed")
	}
	dir, err := os.MkdirTemp("", "pod")
	if err != nil {
		t.Fatal(err)
	}
	p := &podman{t: t, dir: dir, rootfs: filepath.Join(dir, "rootfs"), socket: filepath.Join(dir, "sock")}
	t.Cleanup(func() {
		_ = p.command("rm", "--all", "--force", "--time", "0").Run()
		_ = os.RemoveAll(dir)
	})
	libraries, err := exec.Command("ldd", "/bin/sh", "/bin/sleep").Output()
	if err != nil {
		t.Fatal(err)
	}
	files := []string{"/bin/sh", "/bin/sleep"}
	for _, word := range strings.Fields(string(libraries)) {
		if strings.HasPrefix(word, "/lib") {
			files = append(files, word)
		}
	}
	for _, path := range files {
		content, err := os.ReadFile(path)
		if err == nil {
			err = os.MkdirAll(filepath.Join(p.rootfs, filepath.Dir(path)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(p.rootfs, path), content, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return p
}

func (p *podman) command(args ...string) *exec.Cmd {
	return exec.Command("podman", slices.Concat([]string{
		"--root", p.dir + "/root", "--runroot", p.dir + "/run", "--tmpdir", p.dir + "/tmp", "--storage-driver", "vfs",
		"--cgroup-manager", "cgroupfs", "--events-backend", "file", "--runtime", "runc",
	}, args)...)
}

// run makes a container whose first process notes the signal HUP in the file hup.
func (p *podman) run(name string) {
	p.t.Helper()
	out, err := p.command("run", "--detach", "--name", name, "--label", "service=web", "--network", "host", "--cgroupns", "host",
		"--ulimit", "nofile=512:512", "--ulimit", "nproc=64:64", "--security-opt", "seccomp=unconfined", "--log-driver", "k8s-file",
		"--rootfs", p.rootfs, "/bin/sh", "-c", `trap "echo x >>/hup" HUP; echo >/ready; while :; do sleep 0.1; done`).CombinedOutput()
	if err != nil {
		p.t.Skipf("containers cannot run here: %v: %s", err, out)
	}
	p.wait("ready")
}

// wait waits for a file in the container.
func (p *podman) wait(name string) {
	p.t.Helper()
	for range 6000 {
		if os.Remove(filepath.Join(p.rootfs, name)) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	p.t.Fatalf("there is no %s in the container", name)
}

// TestPodman reloads a server in a container of a real engine, by a signal and by a program, and finds it again.
func TestPodman(t *testing.T) {
	p := newPodman(t)
	p.run("web")
	service := p.command("system", "service", "--time", "0", "unix://"+p.socket)
	if err := service.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = service.Process.Kill()
		_ = service.Wait()
	})
	for range 6000 {
		if _, err := os.Stat(p.socket); err == nil {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	target, _, _ := installertest.Live(t, "a.example")
	dir := t.TempDir()
	install := func(c fileset.Container) error {
		c.Socket = p.socket
		i, err := New(Config{Dir: dir, Container: &c}, target)
		if err != nil {
			t.Fatal(err)
		}
		return i.Install(t.Context(), installertest.Bundle(t, "a.example"))
	}
	byName, byLabel := fileset.Container{Name: "web"}, fileset.Container{Label: "service=web", Exec: []string{"/bin/sh", "-c", "echo >/ran"}}
	examine := func(c fileset.Container) error {
		c.Socket = p.socket
		i, err := New(Config{Dir: dir, Container: &c}, target)
		if err != nil {
			t.Fatal(err)
		}
		return i.Examine(t.Context())
	}
	for _, name := range []string{"web", "web2"} { // created again under another name
		byName.Name = name
		if err := errors.Join(examine(byName), examine(byLabel)); err != nil {
			t.Errorf("examined: %v", err)
		}
		if err := install(byName); err != nil {
			t.Fatalf("by a signal: %v", err)
		}
		p.wait("hup")
		if err := install(byLabel); err != nil {
			t.Fatalf("by a program: %v", err)
		}
		p.wait("ran")
		if out, err := p.command("rm", "--force", "--time", "0", name).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		if name == "web" {
			p.run("web2")
		}
	}
	if err := examine(byName); err == nil || !strings.Contains(err.Error(), "does not have the container web2") {
		t.Errorf("examined without a container: %v", err)
	}
	if err := install(byName); err == nil || !strings.Contains(err.Error(), "does not have the container web2") {
		t.Errorf("without a container: %v", err)
	}
	p.run("web")
	fails := fileset.Container{Label: "service=web", Exec: []string{"/bin/sh", "-c", "echo no; exit 3"}}
	if err := install(fails); err == nil || !strings.Contains(err.Error(), "exit status 3: no") {
		t.Errorf("a failing program: %v", err)
	}
	if out, err := p.command("kill", "web").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var stopped *installers.NotRunningError
	if err := examine(fileset.Container{Name: "web"}); !errors.As(err, &stopped) {
		t.Errorf("a stopped container, examined: %v", err)
	}
	if err := install(byLabel); !errors.As(err, &stopped) {
		t.Errorf("a stopped container: %v", err)
	}
	if err := install(fileset.Container{Name: "web"}); !errors.As(err, &stopped) {
		t.Errorf("a signal to a stopped container: %v", err)
	}
}
