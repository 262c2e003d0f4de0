package file

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

const nobody = 65534

// asNobody prepares a shell of an unprivileged user.
func asNobody(t *testing.T, script string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "/bin/sh", append([]string{"-c", script, "sh"}, args...)...)
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	return cmd
}

// land is a target in a directory of another user, beside a certificate that is none of that user's business.
type land struct {
	t            *testing.T
	home, victim string
	files        map[string]string // of the victim
	p            *Installer
}

func newLand(t *testing.T) *land {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root writes into the directories of others")
	}
	top, err := os.MkdirTemp("", "acmed-links")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	l := &land{t: t, home: filepath.Join(top, "home"), victim: filepath.Join(top, "victim")}
	for _, dir := range []string{l.home, filepath.Join(l.home, "etc"), filepath.Join(l.home, "etc", "tls"), l.victim} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if dir != l.victim {
			if err := os.Chown(dir, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Chmod(top, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"cert.pem", "chain.pem", "fullchain.pem", "privkey.pem"} {
		write(t, filepath.Join(l.victim, name), "the victim's "+name, 0o600)
	}
	l.files = l.read()
	target, _, _ := installertest.Live(t, "a.example")
	if l.p, err = New(Config{Dir: filepath.Join(l.home, "etc", "tls"), Owner: "nobody"}, target); err != nil {
		t.Fatal(err)
	}
	return l
}

func (l *land) read() map[string]string {
	l.t.Helper()
	files := map[string]string{}
	entries, err := os.ReadDir(l.victim)
	if err != nil {
		l.t.Fatal(err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil {
			l.t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(l.victim, e.Name()))
		if err != nil {
			l.t.Fatal(err)
		}
		st := info.Sys().(*syscall.Stat_t)
		files[e.Name()] = string(text) + info.Mode().String() + string(rune('0'+min(st.Uid, 9)))
	}
	return files
}

func (l *land) unharmed() {
	l.t.Helper()
	if diff := cmp.Diff(l.files, l.read()); diff != "" {
		l.t.Errorf("the victim's directory (-before +after):\n%s", diff)
	}
}

// TestDirectoryReplacedByALink: a user whose directory the target is in replaces it, or one above it, by a link to another
// certificate. Nothing is read, written or removed there; when the directory is back, so is everything else.
func TestDirectoryReplacedByALink(t *testing.T) {
	for name, paths := range map[string][2]string{
		"itself": {"etc/tls", "etc/tls.away"}, "above": {"etc", "etc.away"},
	} {
		t.Run(name, func(t *testing.T) {
			l := newLand(t)
			first, second := installertest.Bundle(t, "a.example"), installertest.Bundle(t, "a.example")
			if err := l.p.Install(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			dir, away := filepath.Join(l.home, paths[0]), filepath.Join(l.home, paths[1])
			to := l.victim
			if name == "above" { // a directory of the user's own with a link to the victim in it
				to = filepath.Join(l.home, "trap")
			}
			script := `mv "$1" "$2" && mkdir -p "$4" && ln -sfn "$3" "$4/tls"; ln -s "$5" "$1"`
			if out, err := asNobody(t, script, dir, away, l.victim, filepath.Join(l.home, "trap"), to).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for what, call := range map[string]func() error{
				"Install":   func() error { return l.p.Install(t.Context(), second) },
				"Verify":    func() error { return l.p.Verify(t.Context(), first) },
				"Preview":   func() error { _, err := l.p.Preview(t.Context(), second); return err },
				"Uninstall": func() error { return l.p.Uninstall(t.Context()) },
			} {
				if err := call(); err == nil || !strings.Contains(err.Error(), "not followed") {
					t.Errorf("%s = %v", what, err)
				}
				l.unharmed()
			}
			if out, err := asNobody(t, `rm "$1" && mv "$2" "$1"`, dir, away).CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			if err := errors.Join(l.p.Install(t.Context(), second), l.p.Verify(t.Context(), second), l.p.Uninstall(t.Context())); err != nil {
				t.Errorf("after the directory came back: %v", err)
			}
		})
	}
}

// TestDirectoryReplacedAgainAndAgain: the user swaps the directory and a link as fast as a shell can, while root installs.
func TestDirectoryReplacedAgainAndAgain(t *testing.T) {
	l := newLand(t)
	dir := filepath.Join(l.home, "etc", "tls")
	cmd := asNobody(t, `while :; do mv "$1" "$1.away"; ln -s "$2" "$1"; rm "$1"; mv "$1.away" "$1"; done`, dir, l.victim)
	cmd.SysProcAttr.Setpgid = true
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	bundles := []*certs.Bundle{installertest.Bundle(t, "a.example"), installertest.Bundle(t, "a.example")}
	for i := range 200 {
		_ = l.p.Install(t.Context(), bundles[i%2]) // most of them are refused
		l.unharmed()
	}
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	_ = cmd.Wait()
}

// TestLinksOfRootAreFollowed: an administrator may have moved the directory and left a link.
func TestLinksOfRootAreFollowed(t *testing.T) {
	top := t.TempDir()
	for _, name := range []string{"new", "new/tls"} {
		if err := os.Mkdir(filepath.Join(top, name), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, l := range [][2]string{{"old", "new"}, {"absolute", filepath.Join(top, "old")}, {"up", "new/../new/./tls/.."}} {
		link, to := l[0], l[1]
		if err := os.Symlink(to, filepath.Join(top, link)); err != nil {
			t.Fatal(err)
		}
		target, _, _ := installertest.Live(t, "a.example")
		p, err := New(Config{Dir: filepath.Join(top, link, "tls")}, target)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(p.Install(t.Context(), installertest.Bundle(t, "a.example")), p.Uninstall(t.Context())); err != nil {
			t.Errorf("%s: %v", link, err)
		}
	}
	if err := os.Symlink("round", filepath.Join(top, "round")); err != nil {
		t.Fatal(err)
	}
	if _, err := atomicfile.Resolve(filepath.Join(top, "round")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("in a circle: %v", err)
	}
	if _, err := atomicfile.Resolve(filepath.Join(top, "nowhere")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("nowhere: %v", err)
	}
}

// TestPlantedPassword: a link that another user made is no password file, and the error has nothing of what it leads to.
func TestPlantedPassword(t *testing.T) {
	dir := acmetest.TheirDir(t)
	write(t, filepath.Join(dir, "../shadow"), "root:$6$saltandhash", 0o600)
	acmetest.AsNobody(t, dir, "ln -s ../shadow link; echo correct horse >own; chmod 600 own")
	for _, name := range []string{"link", "own"} {
		c := Config{PasswordFile: filepath.Join(dir, name)}
		if got, err := c.password(); err == nil || len(got) > 0 || strings.Contains(err.Error(), "$6$") || !strings.Contains(err.Error(), "belongs to user 65534") {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	}
}
