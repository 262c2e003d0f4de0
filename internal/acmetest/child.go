package acmetest

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// child is a process that dies with this one.
type child struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when it has ended
}

// startChild runs a program whose output goes to <dir>/<base name>.log.
func startChild(dir string, env []string, program string, args ...string) (*child, error) {
	name := filepath.Base(program)
	c := &child{cmd: exec.Command(program, args...), log: filepath.Join(dir, name+".log"), done: make(chan struct{})}
	out, err := os.Create(c.log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer func() { _ = out.Close() }()
	c.cmd.Dir, c.cmd.Env = dir, append(os.Environ(), env...)
	c.cmd.Stdout, c.cmd.Stderr = out, out
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = c.cmd.Wait()
		close(c.done)
	}()
	return c, nil
}

// stop asks the process to end and kills it after five seconds.
func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.done:
	case <-time.After(5 * time.Second):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

// ready waits until the directory of s answers.
func (c *child) ready(ctx context.Context, s Server) error {
	return c.repeat(ctx, func() error {
		_, err := call(ctx, s, http.MethodGet, s.Directory, nil)
		return err
	})
}

// repeat tries until it works, for at most 20 seconds and as long as the process lives.
func (c *child) repeat(ctx context.Context, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	for {
		last := try()
		if last == nil {
			return nil
		}
		select {
		case <-c.done:
			output, _ := os.ReadFile(c.log)
			return fmt.Errorf("%s ended at once: %s", c.cmd.Path, output)
		case <-ctx.Done():
			return fmt.Errorf("%s does not answer: %w", c.cmd.Path, errors.Join(last, ctx.Err()))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// call sends one request and wants status 200.
func call(ctx context.Context, s Server, method, url string, body io.Reader) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, method, url, body)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	r.Header.Set("User-Agent", "acmetest")
	transport := &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: s.Roots, MinVersion: tls.VersionTLS12}, DisableKeepAlives: true,
	}
	answer, err := transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	text, err := io.ReadAll(answer.Body)
	if err != nil {
		return nil, err
	}
	if answer.StatusCode != http.StatusOK {
		return text, fmt.Errorf("%s: status %d: %s", url, answer.StatusCode, text)
	}
	return text, nil
}

// install compiles programs with the go command, each once, and returns the directory that holds them: bin/<name> in
// $ACMED_CACHE or else in .cache of the repository. Packages with a version come from outside of go.mod.
func install(ctx context.Context, name string, env []string, packages ...string) (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	cache := os.Getenv("ACMED_CACHE")
	if cache == "" {
		cache = filepath.Join(root, ".cache")
	}
	dir := filepath.Join(cache, "bin", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	lock, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return "", fmt.Errorf("install %s: %w", name, err)
	}
	defer func() { _ = lock.Close() }()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		return "", fmt.Errorf("install %s: lock: %w", name, err)
	}
	if complete(dir, packages) {
		return dir, nil
	}
	cmd := exec.CommandContext(ctx, "go", append([]string{"install", "-trimpath"}, packages...)...)
	cmd.Dir, cmd.Env = root, append(append(os.Environ(), "GOBIN="+dir), env...)
	if output, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("install %s: %w: %s", name, err, output)
	}
	return dir, nil
}

// complete tells whether dir holds the program of each package.
func complete(dir string, packages []string) bool {
	for _, p := range packages {
		program, _, _ := strings.Cut(path.Base(p), "@")
		if _, err := os.Stat(filepath.Join(dir, program)); err != nil {
			return false
		}
	}
	return true
}

// moduleRoot finds the directory of go.mod above the working directory.
func moduleRoot() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("working directory: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("no go.mod at or above %s", start)
		}
	}
}
