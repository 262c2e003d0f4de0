package dns01

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/text"
)

// worker is the provider of one credential, run in a child process. The child lives from the first record that is set to
// the last that is removed, because many providers remember in memory what they made. Requests go to it one at a time.
type worker struct {
	path      string // of acmed-dns
	provider  string
	envFile   string
	resolvers []string
	timeout   time.Duration

	turn  chan struct{} // holds one element while no request is under way; what follows belongs to the holder
	child *child
	set   map[string]bool // records that were presented and not yet cleaned up, by key
}

func newWorker(path, provider, envFile string, resolvers []string, timeout time.Duration) *worker {
	w := &worker{
		path: path, provider: provider, envFile: envFile, resolvers: resolvers, timeout: timeout,
		turn: make(chan struct{}, 1), set: map[string]bool{},
	}
	w.turn <- struct{}{}
	return w
}

// Present asks the child, which it starts when there is none, to set the record.
func (w *worker) Present(ctx context.Context, r Record) error { return w.call(ctx, OpPresent, r) }

// CleanUp asks the child to remove the record.
func (w *worker) CleanUp(ctx context.Context, r Record) error { return w.call(ctx, OpCleanUp, r) }

// call returns early when the context ends, but lets the request that is under way go on to its own deadline: the child
// may be holding records of other orders.
func (w *worker) call(ctx context.Context, op Op, r Record) error {
	select {
	case <-w.turn:
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	result := make(chan error, 1)
	go func() {
		result <- guard.Err(func() error { return w.do(op, r) })()
		w.rest()
		w.turn <- struct{}{}
	}()
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (w *worker) do(op Op, r Record) error {
	if op == OpCleanUp {
		defer delete(w.set, key(r))
	}
	if w.child != nil && w.child.hasEnded() {
		w.child.end()
		w.child = nil
	}
	if w.child == nil {
		if err := w.start(); err != nil {
			return fmt.Errorf("DNS worker for %s: %w", w.provider, err)
		}
	}
	if op == OpPresent {
		w.set[key(r)] = true
	}
	_, err := w.child.request(Request{Op: op, Record: &r}, w.timeout)
	if err != nil {
		if _, nothing := permanence(err); nothing {
			delete(w.set, key(r))
		}
		return fmt.Errorf("DNS worker for %s: %s: %w", w.provider, op, err)
	}
	return nil
}

// rest ends the child when there is nothing left for it to remember.
func (w *worker) rest() {
	if w.child != nil && (len(w.set) == 0 || w.child.broken) {
		w.child.end()
		w.child = nil
	}
}

// start runs the child and exchanges hellos with it.
func (w *worker) start() error {
	env, err := credentialEnv(w.envFile)
	if err != nil {
		return messenger(refused(err))
	}
	c, err := startChild(w.path, env)
	if err != nil {
		return messenger(refused(fmt.Errorf("%w; is acmed-dns installed?", err)))
	}
	hello := &Hello{Protocol: ProtocolVersion, Provider: w.provider, Resolvers: w.resolvers}
	answer, err := c.request(Request{Op: OpHello, Hello: hello}, w.timeout)
	if err == nil && answer.Protocol != ProtocolVersion {
		err = messenger(refused(fmt.Errorf("%s %s speaks protocol %d, want %d; install the acmed-dns of this release",
			w.path, text.Line(answer.Version, 50), answer.Protocol, ProtocolVersion)))
	}
	if err != nil {
		c.end()
		return err
	}
	w.child = c
	return nil
}

// child is one running worker process.
type child struct {
	proc   *process
	stdin  *os.File
	lines  chan []byte
	stderr *tail
	redact redactor
	id     uint64
	broken bool                   // it broke the protocol or did not answer, and was killed
	flood  atomic.Pointer[string] // why its output made it be killed
}

// The bounds on a child. Workers print a few log lines per record, so a megabyte on stderr is a fault. Ending takes some
// milliseconds; the grace is for providers that log out.
const (
	maxStderr = 1 << 20
	endGrace  = 10 * time.Second
)

func startChild(path string, env map[string]string) (*child, error) {
	read, write, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer read.Close() //nolint:errcheck // the child has its own
	c := &child{stdin: write, lines: make(chan []byte, 1), stderr: &tail{limit: maxStderr}, redact: newRedactor(env)}
	started := make(chan struct{})
	flood := func(what string) {
		c.flood.CompareAndSwap(nil, &what)
		<-started
		c.proc.kill()
	}
	c.stderr.over = func() { flood("it flooded its standard error and was killed") }
	stdout := &lineWriter{lines: c.lines, over: func() { flood("it said more than it was asked for and was killed") }}
	c.proc, err = startProcess([]string{path}, environ(env), read, stdout, c.stderr)
	if err != nil {
		_ = write.Close() // nobody got it
		return nil, err
	}
	close(started)
	return c, nil
}

func (c *child) hasEnded() bool {
	select {
	case <-c.proc.done:
		return true
	default:
		return false
	}
}

// request sends one line and waits for the line that answers it. A child that does not answer properly in time is killed.
func (c *child) request(req Request, timeout time.Duration) (Response, error) {
	c.id++
	req.ID = c.id
	line, err := json.Marshal(req)
	if err != nil {
		return Response{}, err
	}
	if err := c.stdin.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return Response{}, c.fail(err)
	}
	if _, err := c.stdin.Write(append(line, '\n')); err != nil {
		return Response{}, c.fail(fmt.Errorf("it does not read its requests: %w", err))
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	select {
	case line := <-c.lines:
		return c.answer(line)
	case <-c.proc.done:
		select {
		case line := <-c.lines: // the last it said before it ended
			return c.answer(line)
		default:
		}
		return Response{}, c.fail(errors.New("it ended without an answer"))
	case <-timer.C:
		return Response{}, c.fail(final(fmt.Errorf("it did not answer within %s and was killed", timeout)))
	}
}

func (c *child) answer(line []byte) (Response, error) {
	var resp Response
	if err := json.Unmarshal(line, &resp); err != nil || resp.ID != c.id {
		return Response{}, c.fail(fmt.Errorf("it broke the protocol and was killed: %q", c.redact.clean(string(line))))
	}
	if resp.Error != "" {
		err := errors.New(c.redact.clean(resp.Error))
		if denied(resp.Error) {
			err = refused(err)
		}
		return resp, err
	}
	return resp, nil
}

// fail kills the child and adds to the error how it ended and what it printed.
func (c *child) fail(err error) error {
	c.broken = true
	ended := c.hasEnded()
	c.proc.kill()
	<-c.proc.done
	if what := c.flood.Load(); what != nil {
		err = final(errors.New(*what))
	} else if ended && c.proc.err != nil {
		err = fmt.Errorf("%w (%w)", err, c.proc.err)
	}
	return messenger(fmt.Errorf("%w%s", err, c.stderr.quote(c.redact)))
}

// end closes the child's input, upon which it ends, and kills it when it does not.
func (c *child) end() {
	_ = c.stdin.Close() // the child sees the end either way
	timer := time.NewTimer(endGrace)
	defer timer.Stop()
	select {
	case <-c.proc.done:
	case <-timer.C:
		c.proc.kill()
		<-c.proc.done
	}
}

// lineWriter cuts the child's output into lines. One line may wait to be read: a child that says more than it was asked
// for, or a line that is too long, is killed.
type lineWriter struct {
	lines chan<- []byte
	over  func()
	rest  []byte
}

var errFlood = errors.New("too much output")

// Write fails when the child has to be killed.
func (w *lineWriter) Write(p []byte) (int, error) {
	n := len(p)
	for {
		line, after, found := bytes.Cut(p, []byte("\n"))
		if len(w.rest)+len(line) >= MaxLine {
			w.over()
			return 0, errFlood
		}
		w.rest = append(w.rest, line...)
		if !found {
			return n, nil
		}
		select {
		case w.lines <- w.rest:
		default:
			w.over()
			return 0, errFlood
		}
		w.rest, p = nil, after
	}
}
