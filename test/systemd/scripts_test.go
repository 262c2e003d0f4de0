package systemd

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestMaintainerScripts: dpkg installs, upgrades and removes a package with these scripts while every call of systemctl,
// systemd-sysusers and systemd-tmpfiles fails. The package is never left half-configured, and what failed is said. It has
// its own root and /run, and touches nothing of the machine.
func TestMaintainerScripts(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("dpkg and a mount of its own need root; make test runs as root")
	}
	dir := t.TempDir()
	scripts, err := filepath.Abs("../../deploy/package")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"systemctl", "systemd-sysusers", "systemd-tmpfiles"} {
		script(t, filepath.Join(dir, "bin", name), `echo "$(basename "$0") $*" >>"$CALLS"; [ ! -e "$FAIL" ]`)
	}
	for _, version := range []string{"1", "2"} {
		root := filepath.Join(dir, "package-"+version)
		for _, name := range []string{"preinst", "postinst", "prerm", "postrm"} {
			text, err := os.ReadFile(filepath.Join(scripts, name))
			if err != nil {
				t.Fatal(err)
			}
			write(t, filepath.Join(root, "DEBIAN", name), string(text), 0o755)
		}
		write(t, filepath.Join(root, "DEBIAN/control"), "Package: acmed\nVersion: "+version+"\nArchitecture: all\nMaintainer: x <x@acmed.invalid>\nDescription: x\n", 0o644)
		if out, err := exec.CommandContext(t.Context(), "dpkg-deb", "--root-owner-group", "-b", root, filepath.Join(dir, "acmed-"+version+".deb")).CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
	}
	calls, fail := filepath.Join(dir, "calls"), filepath.Join(dir, "fail")
	for _, failing := range []bool{false, true} {
		t.Run(fmt.Sprintf("failing %v", failing), func(t *testing.T) {
			admin := filepath.Join(t.TempDir(), "root")
			for _, sub := range []string{"info", "updates"} {
				if err := os.MkdirAll(filepath.Join(admin, "var/lib/dpkg", sub), 0o755); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(admin, "var/lib/dpkg/status"), "", 0o644)
			_ = os.Remove(calls)
			if failing {
				write(t, fail, "", 0o644)
			}
			dpkg := func(want string, args ...string) string {
				t.Helper()
				line := fmt.Sprintf("mount -t tmpfs none /run && mkdir -p /run/systemd/system && dpkg --root=%s --force-script-chrootless --log=/dev/null %s", admin, strings.Join(args, " "))
				cmd := exec.CommandContext(t.Context(), "unshare", "-m", "sh", "-c", line)
				cmd.Env = append(os.Environ(), "PATH="+dir+"/bin:"+os.Getenv("PATH"), "CALLS="+calls, "FAIL="+fail, "LC_ALL=C")
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Errorf("dpkg %v: %v\n%s", args, err, out)
				}
				status, _ := exec.CommandContext(t.Context(), "dpkg-query", "--admindir="+admin+"/var/lib/dpkg", "-W", "-f", "${Status} ${Version}", "acmed").CombinedOutput()
				if !strings.Contains(string(status), want) {
					t.Errorf("dpkg %v leaves %q, want %q\n%s", args, status, want, out)
				}
				return string(out)
			}
			out := dpkg("install ok installed 1", "-i", dir+"/acmed-1.deb")
			out += dpkg("install ok installed 2", "-i", dir+"/acmed-2.deb")
			out += dpkg("no packages found", "-P", "acmed")
			if said := strings.Contains(out, "this failed"); said != failing {
				t.Errorf("a failure is said: %v\n%s", said, out)
			}
			text, err := os.ReadFile(calls)
			for _, want := range []string{"try-restart acmed.service", "try-restart acmed-installd.service", "systemd-sysusers acmed.conf"} {
				if err != nil || !strings.Contains(string(text), want) {
					t.Errorf("%q was not called: %s %v", want, text, err)
				}
			}
		})
	}
}

func script(t *testing.T, path, body string) {
	t.Helper()
	write(t, path, "#!/bin/sh\n"+body+"\n", 0o755)
}

func write(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
