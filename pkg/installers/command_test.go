package installers

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
	"github.com/acmed/acmed/internal/text"
)

func sh(script string) Command { return Command{Argv: []string{"/bin/sh", "-c", script}} }

func TestCommandOutput(t *testing.T) {
	c := sh("cat; echo out; echo err >&2; pwd")
	c.Stdin = []byte("in ")
	if out, err := c.Run(t.Context()); err != nil || string(out) != "in out\n/\n" {
		t.Errorf("Run = %q, %v", out, err)
	}
	c.WithStderr, c.Dir = true, "/usr"
	if out, err := c.Run(t.Context()); err != nil || string(out) != "in out\nerr\n/usr\n" {
		t.Errorf("Run with stderr = %q, %v", out, err)
	}
}

func TestCommandEnvironmentIsClean(t *testing.T) {
	t.Setenv("LD_PRELOAD", "/nowhere/evil.so")
	t.Setenv("CLOUDFLARE_API_TOKEN", "secret")
	c := Command{Argv: []string{"/usr/bin/env"}, Env: []string{"ACMED_NAME=www"}}
	out, err := c.Run(t.Context())
	want := "PATH=/usr/sbin:/usr/bin:/sbin:/bin\nLANG=C\nLC_ALL=C\nACMED_NAME=www\n"
	if err != nil || string(out) != want {
		t.Errorf("the environment is %q, %v", out, err)
	}
}

func TestCommandHasNoShell(t *testing.T) {
	marker := filepath.Join(t.TempDir(), "marker")
	out, err := Command{Argv: []string{"/bin/echo", "$(touch " + marker + ")", "; touch " + marker, "a b"}}.Run(t.Context())
	if err != nil || !strings.Contains(string(out), "$(touch") {
		t.Errorf("Run = %q, %v", out, err)
	}
	if _, err := os.Stat(marker); err == nil {
		t.Error("an argument was run")
	}
}

func TestCommandFails(t *testing.T) {
	out, err := sh(`echo partial; printf 'nginx: \033[31mbad\nline' >&2; exit 75`).Run(t.Context())
	failed := (*CommandError)(nil)
	if !errors.As(err, &failed) || failed.ExitCode != 75 || failed.TimedOut || string(out) != "partial\n" {
		t.Fatalf("Run = %q, %+v", out, err)
	}
	if want := `/bin/sh: exit status 75: nginx: \u001b[31mbad\nline`; err.Error() != want {
		t.Errorf("the error is %q, want %q", err, want)
	}
	if !strings.Contains(failed.Output, "\x1b") {
		t.Errorf("Output is %q", failed.Output)
	}
	_, err = sh("kill -TERM $$").Run(t.Context())
	if !errors.As(err, &failed) || failed.ExitCode != -1 || failed.TimedOut {
		t.Errorf("Run of a killed program = %+v", err)
	}
}

func TestCommandMissingInterpreter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "hook")
	must(t, os.WriteFile(path, []byte("#!/nowhere/interpreter\n"), 0o755))
	_, err := Command{Argv: []string{path}}.Run(t.Context())
	if failed := (*CommandError)(nil); !errors.As(err, &failed) || failed.ExitCode != -1 || !strings.Contains(err.Error(), path) {
		t.Errorf("Run = %v", err)
	}
}

// TestCommandDeadlineKillsTheGroup starts a program with a child of its own, both of which ignore polite signals.
func TestCommandDeadlineKillsTheGroup(t *testing.T) {
	note := filepath.Join(t.TempDir(), "pids")
	c := sh(`trap "" TERM INT HUP; sleep 600 & echo $$ $! >"$0.new"; mv "$0.new" "$0"; wait`)
	c.Argv = append(c.Argv, note)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	stop := errors.New("shutting down")
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(note); err == nil {
				cancel(stop)
			}
			time.Sleep(time.Millisecond)
		}
	}()
	_, err := c.Run(ctx)
	failed := (*CommandError)(nil)
	if !errors.As(err, &failed) || !errors.Is(err, stop) || failed.TimedOut {
		t.Fatalf("Run = %v", err)
	}
	pids, err := os.ReadFile(note)
	must(t, err)
	for pid := range strings.FieldsSeq(string(pids)) {
		n, err := strconv.Atoi(pid)
		must(t, err)
		waitGone(t, n)
	}
}

// waitGone waits until a process has ended; a zombie that its new parent has not collected yet has.
func waitGone(t *testing.T, pid int) {
	t.Helper()
	for range 2000 {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Errorf("process %d survived", pid)
}

func TestCommandTimesOut(t *testing.T) {
	c := sh("echo waiting; sleep 600")
	c.Timeout = 30 * time.Millisecond
	_, err := c.Run(t.Context())
	failed := (*CommandError)(nil)
	if !errors.As(err, &failed) || !failed.TimedOut || failed.ExitCode != -1 || !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("Run = %+v", err)
	}
	if want := "/bin/sh: it did not end in time and was killed: waiting"; err.Error() != want {
		t.Errorf("the error is %q", err)
	}
}

// TestCommandLeavesADaemon checks that a program which starts a daemon and ends is a success, although the daemon keeps
// its output open.
func TestCommandLeavesADaemon(t *testing.T) {
	out, err := sh("sleep 600 & echo $!").Run(t.Context())
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil || convErr != nil {
		t.Fatalf("Run = %q, %v", out, err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Errorf("the daemon is gone: %v", err)
	}
}

func TestCommandOutputIsCapped(t *testing.T) {
	c := Command{Argv: []string{"/usr/bin/head", "-c", "100000000", "/dev/zero"}}
	if out, err := c.Run(t.Context()); err != nil || len(out) != defaultMaxOutput {
		t.Errorf("Run = %d bytes, %v", len(out), err)
	}
	c.MaxOutput = 1000
	if out, err := c.Run(t.Context()); err == nil || len(out) != 1000 || len(err.Error()) > 10*text.Most {
		t.Errorf("Run = %d bytes, %v", len(out), err)
	}
	failing := sh("head -c 1000000 /dev/zero | tr '\\0' x >&2; exit 1")
	if _, err := failing.Run(t.Context()); err == nil || len(err.Error()) > text.Most+100 {
		t.Errorf("an error of %d bytes", len(err.Error()))
	}
}

func TestRefusedPrograms(t *testing.T) {
	dir := t.TempDir()
	program := func(name string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, []byte("#!/bin/sh\n"), 0o755), os.Chmod(path, mode))
		return path
	}
	open := filepath.Join(dir, "open")
	must(t, os.Mkdir(open, 0o755))
	inOpen := program("open/hook", 0o755)
	must(t, os.Chmod(open, 0o777))
	linked := filepath.Join(dir, "linked")
	must(t, os.Symlink(program("writable2", 0o757), linked))
	tests := []struct{ name, path, want string }{
		{"relative", "bin/sh", "not an absolute path"},
		{"bare name", "sh", "not an absolute path"},
		{"missing", filepath.Join(dir, "none"), "no such file"},
		{"directory", dir, "not a regular file"},
		{"not executable", program("plain", 0o644), "not executable"},
		{"writable", program("writable", 0o777), "can be changed by others"},
		{"link to a writable one", linked, "can be changed by others"},
		{"in an open directory", inOpen, "can be changed by others"},
	}
	if os.Geteuid() == 0 {
		path := program("foreign", 0o755)
		must(t, os.Chown(path, 4711, 4711))
		tests = append(tests, struct{ name, path, want string }{"foreign", path, "belongs to user 4711"})
	}
	for _, tt := range tests {
		if _, err := (Command{Argv: []string{tt.path}}).Run(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: Run = %v, want %q", tt.name, err, tt.want)
		}
	}
	if _, err := (Command{}).Run(t.Context()); err == nil {
		t.Error("an empty command was run")
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}
