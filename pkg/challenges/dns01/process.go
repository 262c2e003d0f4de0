package dns01

import (
	"errors"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/vetted"
)

// process is a running child with a process group of its own, so that it is not hit by a terminal's signals and can be
// killed together with its own children.
type process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has ended and its output was read
	err  error         // how it ended; to be read after done

	mu    sync.Mutex
	ended bool
}

// pipeGrace is how long output is still read after the child has ended: a grandchild may hold the pipe open for ever.
const pipeGrace = 2 * time.Second

// startProcess runs argv[0], never through a shell, with exactly this environment. The writers are used from one goroutine
// each, or from one when they are the same.
func startProcess(argv, env []string, stdin *os.File, stdout, stderr io.Writer) (*process, error) {
	if err := vetted.Program(argv[0]); err != nil {
		return nil, err
	}
	cmd := exec.Command(argv[0], argv[1:]...) //nolint:noctx // killed as a group by kill, which a context would not do
	cmd.Env, cmd.Dir, cmd.WaitDelay = env, "/", pipeGrace
	cmd.Stdout, cmd.Stderr = stdout, stderr
	if stdin != nil {
		cmd.Stdin = stdin
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	err := p.cmd.Wait()
	if errors.Is(err, exec.ErrWaitDelay) { // it ended well, and a grandchild kept the pipe
		err = nil
	}
	p.mu.Lock()
	p.ended, p.err = true, err
	p.mu.Unlock()
	close(p.done)
}

// kill ends the whole group at once. It does not wait.
func (p *process) kill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.ended {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) // gone already is as good
	}
}

// environ is the environment of a child: the credential's variables and the least that programs expect.
func environ(credential map[string]string) []string {
	env := []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/nonexistent"}
	for _, name := range slices.Sorted(maps.Keys(credential)) {
		env = append(env, name+"="+credential[name])
	}
	return env
}

func credentialEnv(path string) (map[string]string, error) {
	if path == "" {
		return nil, nil
	}
	return readEnvFile(path)
}
