package installers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/vetted"
)

// Command is one program with its arguments.
type Command struct {
	Argv       []string      // Argv[0] is an absolute path; no shell ever sees any of it
	Env        []string      // "KEY=value", added to a fixed PATH and LANG; nothing else of our environment is passed
	Dir        string        // working directory; "" is "/"
	Timeout    time.Duration // 0 is a minute
	Stdin      []byte        // nil is an empty input
	MaxOutput  int           // refuse a program that prints more bytes than this; 0 keeps 64 KiB and drops the rest
	WithStderr bool          // return what it writes to standard error too, in order
}

const (
	defaultTimeout   = time.Minute
	defaultMaxOutput = 64 << 10
	// pipeGrace is how long a program that has ended may leave its output open in a process of its own, before it is
	// closed. A daemon that a reload restarts often keeps it.
	pipeGrace = time.Second
)

// cleanEnv is all that a program gets besides its own Env: no proxy settings, no loader variables, no secrets.
func cleanEnv() []string {
	return []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "LC_ALL=C"}
}

// Run runs the program and returns its standard output. It fails with a [*CommandError] when the program cannot be
// started, exits other than with 0, prints more than MaxOutput, or is still running after Timeout or when ctx ends: then
// its whole process group is killed. A program that others could have changed is refused.
func (c Command) Run(ctx context.Context) ([]byte, error) {
	if len(c.Argv) == 0 {
		return nil, errors.New("a command without a program")
	}
	if err := vetted.Program(c.Argv[0]); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(max(c.Timeout, 0), defaultTimeout))
	defer cancel()
	stdout := &capped{limit: cmp.Or(max(c.MaxOutput, 0), defaultMaxOutput)}
	stderr := &capped{limit: defaultMaxOutput}
	cmd := c.build(ctx, stdout, stderr)
	err := cmd.Run()
	switch {
	case errors.Is(err, exec.ErrWaitDelay):
		err = nil
	case err == nil && c.MaxOutput > 0 && stdout.dropped:
		err = fmt.Errorf("more than %d bytes of output", c.MaxOutput)
	}
	if err != nil {
		err = c.failure(ctx, cmd.ProcessState, err, cmp.Or(stderr.kept.String(), stdout.kept.String()))
	}
	return stdout.kept.Bytes(), err
}

func (c Command) failure(ctx context.Context, end *os.ProcessState, err error, output string) error {
	failed := &CommandError{Argv0: c.Argv[0], ExitCode: -1, Output: withhold(output), Err: err}
	if end != nil {
		failed.ExitCode = end.ExitCode()
	}
	if cause := context.Cause(ctx); cause != nil && failed.ExitCode == -1 {
		failed.Err = cause
		failed.TimedOut = errors.Is(cause, context.DeadlineExceeded)
	}
	return failed
}

func (c Command) build(ctx context.Context, stdout, stderr *capped) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.Argv[0], c.Argv[1:]...)
	cmd.Env = append(cleanEnv(), c.Env...)
	cmd.Dir = c.Dir
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	cmd.Stdin = bytes.NewReader(c.Stdin)
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if c.WithStderr {
		cmd.Stderr = stdout
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = pipeGrace
	return cmd
}

// capped keeps the first bytes that are written and swallows the rest, so that the writer is never blocked.
type capped struct {
	kept    bytes.Buffer
	limit   int
	dropped bool
}

// Write never fails.
func (w *capped) Write(p []byte) (int, error) {
	room := max(w.limit-w.kept.Len(), 0)
	if len(p) > room {
		w.dropped = true
	}
	w.kept.Write(p[:min(room, len(p))])
	return len(p), nil
}
