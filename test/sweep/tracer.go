//go:build linux && amd64

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// How the arguments of a call name files: by path below a directory (two of them), by descriptor, or as a new link.
const (
	byPath = iota
	byPaths
	byDescriptor
	byLink
)

type call struct {
	name string
	args int
}

// calls are the system calls by which a Go program changes files, by their numbers.
func calls() map[uint64]call {
	return map[uint64]call{
		unix.SYS_OPENAT:    {"openat", byPath},
		unix.SYS_MKDIRAT:   {"mkdirat", byPath},
		unix.SYS_UNLINKAT:  {"unlinkat", byPath},
		unix.SYS_FCHMODAT:  {"fchmodat", byPath},
		unix.SYS_FCHOWNAT:  {"fchownat", byPath},
		unix.SYS_UTIMENSAT: {"utimensat", byPath},
		unix.SYS_RENAMEAT:  {"renameat", byPaths},
		unix.SYS_RENAMEAT2: {"renameat2", byPaths},
		unix.SYS_LINKAT:    {"linkat", byPaths},
		unix.SYS_SYMLINKAT: {"symlinkat", byLink},
		unix.SYS_WRITE:     {"write", byDescriptor},
		unix.SYS_PWRITE64:  {"pwrite64", byDescriptor},
		unix.SYS_FSYNC:     {"fsync", byDescriptor},
		unix.SYS_FDATASYNC: {"fdatasync", byDescriptor},
		unix.SYS_FTRUNCATE: {"ftruncate", byDescriptor},
		unix.SYS_FCHMOD:    {"fchmod", byDescriptor},
		unix.SYS_FCHOWN:    {"fchown", byDescriptor},
	}
}

// varying is what differs from run to run in the name of a file.
var varying = regexp.MustCompile(`\d{8}T\d{6}Z-[0-9a-f]+|\.acmed-[a-z0-9]+\.tmp|[0-9a-f]{12,}|127\.0\.0\.1_\d+`)

// tracer stops the threads of one program before each call that changes a file in dir. Its children go on untouched.
type tracer struct {
	dir    string
	calls  map[uint64]call
	main   int
	times  map[string]int            // point, without its number → how often it came
	known  map[int]bool              // threads that were seen
	inside map[int]bool              // threads in a call
	harmed map[int]syscall.Errno     // threads whose call is to fail
	before func(point string) injury // asked before each change
}

// injury is what happens to a call: nothing, an error in its place, or the end of the program before it.
type injury struct {
	kill  bool
	errno syscall.Errno
}

// trace runs a command, whose output has to go to a file, to its end. Before each change it asks what to do; a change is
// named by the call, the files, and which time in this run it is.
func trace(cmd *exec.Cmd, dir string, before func(point string) injury) error {
	runtime.LockOSThread() // a thread is traced by the thread that started it
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Ptrace: true, Setpgid: true} // so that no other child of this thread is waited for
	if err := cmd.Start(); err != nil {
		return err
	}
	t := &tracer{
		dir: dir, calls: calls(), main: cmd.Process.Pid, before: before,
		times: map[string]int{}, known: map[int]bool{cmd.Process.Pid: true}, inside: map[int]bool{}, harmed: map[int]syscall.Errno{},
	}
	_ = cmd.Process.Release() // waited for here
	var status syscall.WaitStatus
	if _, err := syscall.Wait4(t.main, &status, syscall.WALL, nil); err != nil {
		return fmt.Errorf("wait for %s: %w", cmd.Path, err)
	}
	options := unix.PTRACE_O_TRACESYSGOOD | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_EXITKILL
	if err := syscall.PtraceSetOptions(t.main, options); err != nil {
		return fmt.Errorf("trace %s: %w", cmd.Path, err)
	}
	return t.run(t.main)
}

// run lets the stopped thread go on, and each that stops after it, until the program has ended.
func (t *tracer) run(thread int) error {
	deliver := 0
	for {
		if err := syscall.PtraceSyscall(thread, deliver); err != nil && !errors.Is(err, syscall.ESRCH) { // it may have been killed
			return fmt.Errorf("let thread %d go on: %w", thread, err)
		}
	next:
		var status syscall.WaitStatus
		var err error
		thread, err = syscall.Wait4(-t.main, &status, syscall.WALL|unix.WNOTHREAD, nil)
		switch {
		case errors.Is(err, syscall.EINTR):
			goto next
		case err != nil:
			return fmt.Errorf("wait: %w", err)
		case !status.Stopped() && thread == t.main:
			return nil
		case !status.Stopped():
			goto next
		}
		if deliver, err = t.stopped(thread, status.StopSignal()); err != nil {
			return err
		}
	}
}

// stopped handles the stop of a thread and returns the signal that it has to get.
func (t *tracer) stopped(thread int, signal syscall.Signal) (int, error) {
	switch {
	case signal == syscall.SIGTRAP|0x80:
		if t.inside[thread] = !t.inside[thread]; t.inside[thread] {
			return 0, t.enter(thread)
		}
		return 0, t.leave(thread)
	case signal == syscall.SIGTRAP: // a thread was made
		return 0, nil
	case signal == syscall.SIGSTOP && !t.known[thread]: // a thread begins
		t.known[thread] = true
		return 0, nil
	}
	return int(signal), nil
}

func (t *tracer) enter(thread int) error {
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(thread, &regs); err != nil {
		return gone(err)
	}
	c, ok := t.calls[regs.Orig_rax]
	if !ok || c.name == "openat" && regs.Rdx&syscall.O_CREAT == 0 {
		return nil
	}
	files, err := t.files(thread, c, &regs)
	if err != nil || files == "" {
		return gone(err)
	}
	point := c.name + " " + files
	t.times[point]++
	what := t.before(fmt.Sprintf("%s (%d)", point, t.times[point]))
	if what.kill {
		return syscall.Kill(t.main, syscall.SIGKILL)
	}
	if what.errno == 0 {
		return nil
	}
	t.harmed[thread] = what.errno
	regs.Orig_rax = ^uint64(0) // no such call
	return gone(syscall.PtraceSetRegs(thread, &regs))
}

func (t *tracer) leave(thread int) error {
	errno, ok := t.harmed[thread]
	if !ok {
		return nil
	}
	delete(t.harmed, thread)
	var regs syscall.PtraceRegs
	if err := syscall.PtraceGetRegs(thread, &regs); err != nil {
		return gone(err)
	}
	regs.Rax = -uint64(errno)
	return gone(syscall.PtraceSetRegs(thread, &regs))
}

// gone is nil for a thread that was killed meanwhile.
func gone(err error) error {
	if errors.Is(err, syscall.ESRCH) || errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}

// files names those in the directory that a call changes, or "" if there are none.
func (t *tracer) files(thread int, c call, regs *syscall.PtraceRegs) (string, error) {
	type place struct{ at, path uint64 }
	var places []place
	switch c.args {
	case byPath:
		places = []place{{regs.Rdi, regs.Rsi}}
	case byPaths:
		places = []place{{regs.Rdi, regs.Rsi}, {regs.Rdx, regs.R10}}
	case byDescriptor:
		places = []place{{regs.Rdi, 0}}
	case byLink:
		places = []place{{regs.Rsi, regs.Rdx}}
	}
	var names []string
	for _, p := range places {
		name, err := t.file(thread, int32(p.at), p.path)
		if err != nil {
			return "", err
		}
		rest, ok := strings.CutPrefix(name, t.dir)
		if !ok {
			return "", nil
		}
		names = append(names, varying.ReplaceAllString(rest, "*"))
	}
	return strings.Join(names, " "), nil
}

// file is the path of a file named by a descriptor, or by a path below the directory with that descriptor.
func (t *tracer) file(thread int, at int32, path uint64) (name string, err error) {
	if path != 0 {
		if name, err = text(thread, path); err != nil || filepath.IsAbs(name) {
			return name, err
		}
	}
	of := fmt.Sprintf("/proc/%d/fd/%d", thread, at)
	if at == unix.AT_FDCWD {
		of = fmt.Sprintf("/proc/%d/cwd", thread)
	}
	dir, err := os.Readlink(of)
	return filepath.Join(dir, name), err
}

// text reads a string of the program.
func text(thread int, at uint64) (string, error) {
	memory, err := os.Open(fmt.Sprintf("/proc/%d/mem", thread))
	if err != nil {
		return "", err
	}
	defer func() { _ = memory.Close() }()
	b := make([]byte, unix.PathMax)
	n, err := memory.ReadAt(b, int64(at))
	if end := bytes.IndexByte(b[:n], 0); end >= 0 {
		return string(b[:end]), nil
	}
	return "", fmt.Errorf("read a path of thread %d: %w", thread, err)
}
