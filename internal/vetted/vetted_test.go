package vetted_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/vetted"
)

// nobody is a user who is neither root nor the one that runs the tests.
const nobody = 65534

func TestMain(m *testing.M) {
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

// world is a directory with what root has, and one that another user has, in which that user can act for real.
type world struct {
	t               *testing.T
	dir, ours, evil string
}

func newWorld(t *testing.T) *world {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("acting as another user needs root; make test runs as root")
	}
	dir, err := os.MkdirTemp("/tmp", "vetted") // t.TempDir cannot be entered by others everywhere
	must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	w := &world{t, dir, filepath.Join(dir, "ours"), filepath.Join(dir, "evil")}
	must(t, os.Chmod(dir, 0o755), os.Mkdir(w.ours, 0o755), os.Mkdir(w.evil, 0o755), os.Chown(w.evil, nobody, nobody))
	w.write("ours/secret", "root:$6$hash", 0o600)
	w.write("ours/program", "#!/bin/sh\n", 0o755)
	return w
}

func (w *world) path(name string) string { return filepath.Join(w.dir, name) }

func (w *world) write(name, text string, mode os.FileMode) {
	w.t.Helper()
	must(w.t, os.WriteFile(w.path(name), []byte(text), mode))
}

// as runs a shell command as the other user, in their directory.
func (w *world) as(command string) {
	w.t.Helper()
	cmd := exec.Command("/bin/sh", "-ec", command)
	cmd.Dir = w.evil
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil {
		w.t.Fatalf("%s: %v: %s", command, err, out)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// TestPlanted: nothing that another user put on the way is read or run, and nothing of a file is in the error.
func TestPlanted(t *testing.T) {
	w := newWorld(t)
	w.as("ln -s ../ours/secret link; ln -s ../ours dir; echo evil >own; printf '#!/bin/sh\n' >program; chmod 755 program; mkdir -m 755 sub; echo x >sub/file")
	w.write("ours/open", "x", 0o666)
	w.write("ours/everybodys", "#!/bin/sh\n", 0o755)
	must(t, os.Chmod(w.path("ours/open"), 0o666), os.Chmod(w.path("ours/everybodys"), 0o777))
	must(t, os.Symlink(w.path("evil/own"), w.path("ours/to-evil")), os.Symlink("secret", w.path("ours/link")), os.Symlink("link", w.path("ours/link2")))
	must(t, os.Mkdir(w.path("ours/open-dir"), 0o755), os.Chmod(w.path("ours/open-dir"), 0o777))
	w.write("ours/open-dir/file", "x", 0o644)
	must(t, os.Mkdir(w.path("ours/group"), 0o755), os.Chown(w.path("ours/group"), 0, nobody), os.Chmod(w.path("ours/group"), 0o775))
	w.write("ours/group/file", "x", 0o644)
	w.write("evil/roots", "x", 0o644) // root's file, but the directory is not
	must(t, os.Mkdir(w.path("ours/sticky"), 0o755), os.Chmod(w.path("ours/sticky"), 0o777|os.ModeSticky))
	w.write("ours/sticky/file", "x", 0o644)
	for name, want := range map[string]string{
		"ours/secret":        "",
		"ours/link2":         "",
		"ours/../ours/link":  "",
		"ours/sticky/file":   "",
		"ours/to-evil":       "directory " + w.evil + " belongs to user 65534",
		"evil/link":          "directory " + w.evil + " belongs to user 65534",
		"evil/dir/secret":    "belongs to user 65534",
		"evil/own":           "belongs to user 65534",
		"evil/roots":         "belongs to user 65534",
		"ours/open":          "can be changed by others (mode 0666)",
		"ours/open-dir/file": "can be changed by others (mode 0777)",
		"ours/group/file":    "can be changed by others (mode 0775)",
		"ours":               "not a regular file",
		"ours/none":          "no such file",
	} {
		data, err := vetted.ReadFile(w.path(name), 0, 1<<10)
		if want == "" && (err != nil || len(data) == 0) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %q, %v, want %q", name, data, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "$6$") {
			t.Errorf("%s: the error quotes the file: %v", name, err)
		}
	}
	for name, want := range map[string]string{
		"ours/program": "", "evil/program": "belongs to user 65534", "ours/everybodys": "can be changed by others", "ours/secret": "not executable", "ours": "not a regular file",
	} {
		if err := vetted.Program(w.path(name)); want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("program %s: %v, want %q", name, err, want)
		}
	}
	if _, err := vetted.ReadFile(w.path("ours/secret"), 0, 3); err == nil {
		t.Error("a file larger than the bound was read")
	}
	must(t, os.Chmod(w.path("ours/secret"), 0o644))
	if _, err := vetted.ReadFile(w.path("ours/secret"), 0o077, 100); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a secret that all can read: %v", err)
	}
}

// TestReplacedParent: a directory of another user may be written to, but not one of ours that this user's link leads to.
func TestReplacedParent(t *testing.T) {
	w := newWorld(t)
	w.as("mkdir site; ln -s site mine; ln -s ../ours theirs; ln -s / root")
	for name, ok := range map[string]bool{"evil/site": true, "evil/mine": true, "evil/theirs": false, "evil/root": false, "evil/root/usr": false, "ours": true} {
		root, err := vetted.OpenRoot(w.path(name))
		if (err == nil) != ok {
			t.Errorf("%s: %v", name, err)
		}
		if err == nil {
			_ = root.Close()
		}
	}
	w.as("rm -r site; ln -s ../ours site")
	if root, err := vetted.OpenRoot(w.path("evil/site")); err == nil {
		t.Errorf("opened %s", root.Name())
	}
}

// TestRace: however fast a directory is replaced by a link, what is opened is never ours.
func TestRace(t *testing.T) {
	w := newWorld(t)
	swapper := exec.Command("/bin/sh", "-c", "mkdir real; while :; do mv real site; mv site real; ln -s ../ours site; rm site; done")
	swapper.Dir = w.evil
	swapper.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}, Setpgid: true}
	must(t, swapper.Start())
	defer func() { _ = syscall.Kill(-swapper.Process.Pid, syscall.SIGKILL); _ = swapper.Wait() }()
	for range 20_000 {
		root, err := vetted.OpenRoot(w.path("evil/site"))
		if err != nil {
			continue
		}
		if _, err := root.Stat("secret"); err == nil {
			t.Fatal("ours was opened through another user's link")
		}
		_ = root.Close()
	}
}
