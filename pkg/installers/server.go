package installers

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/vetted"
)

// Server is one web server of this machine, shared by all targets that it serves. It is safe for concurrent use.
type Server struct {
	name         string
	test, reload Command
	active       func(context.Context) (bool, error)
	elsewhere    func(context.Context) error // reloads a server of another machine, instead of the command

	edits   chan struct{} // holds one token while somebody edits
	reloads chan struct{} // holds one token while a reload runs

	rounds rounds
	memory sync.Map // what plugins know about the server, by keys of their own

	mu   sync.Mutex
	next *reloadRound // the reload that has not begun yet; nil when nobody waits
}

// reloadRound is one reload and all who asked for it before it began.
type reloadRound struct {
	done chan struct{}
	err  error
}

// NewServer makes a Server. A test without Argv always passes; a nil active takes the server as running.
func NewServer(name string, test, reload Command, active func(context.Context) (bool, error)) *Server {
	return &Server{
		name: name, test: test, reload: reload, active: active,
		edits: make(chan struct{}, 1), reloads: make(chan struct{}, 1),
	}
}

// NewServerElsewhere makes a Server of another machine from what reloads it.
func NewServerElsewhere(name string, reload func(context.Context) error) *Server {
	s := NewServer(name, Command{}, Command{}, nil)
	s.elsewhere = reload
	return s
}

// Name is the name that was given to NewServer.
func (s *Server) Name() string { return s.name }

// Memory is where plugins keep what they know about the server, by keys of their own types. It lives as long as s.
func (s *Server) Memory() *sync.Map { return &s.memory }

type answerKey struct{ program, question string }

type answer struct {
	info fs.FileInfo
	text []byte
}

// Ask runs a command once for each state of its program: as long as the file is the same, so is its answer about itself.
func (s *Server) Ask(ctx context.Context, question Command) ([]byte, error) {
	if len(question.Argv) == 0 {
		return question.Run(ctx)
	}
	key := answerKey{question.Argv[0], strings.Join(question.Argv[1:], "\x00")}
	info, err := os.Stat(question.Argv[0])
	if old, ok := s.memory.Load(key); ok && err == nil {
		if a := old.(answer); os.SameFile(a.info, info) && a.info.Size() == info.Size() && a.info.ModTime().Equal(info.ModTime()) {
			return a.text, nil
		}
	}
	text, failed := question.Run(ctx)
	if failed == nil && err == nil {
		s.memory.Store(key, answer{info, text})
	}
	return text, failed
}

// Lock waits until no other target edits the server's configuration. Hold it from reading the configuration until
// [Change.Apply] has returned; a renewal that edits nothing gives it back before it calls Reload, so that it can share
// the reload with others.
func (s *Server) Lock(ctx context.Context) (unlock func(), err error) {
	select {
	case s.edits <- struct{}{}:
		return sync.OnceFunc(func() { <-s.edits }), nil
	case <-ctx.Done():
		return nil, fmt.Errorf("wait for another edit of %s: %w", s.name, context.Cause(ctx))
	}
}

// Test runs the server's own test of its configuration.
func (s *Server) Test(ctx context.Context) error {
	s.rounds.use()
	if len(s.test.Argv) == 0 {
		return nil
	}
	_, err := s.test.Run(ctx)
	return err
}

// Reload makes the server read its configuration and certificates again; files that were written before the call are
// read. Callers that arrive while a reload runs share the next one. A stopped server is a [*NotRunningError] and is not
// started. A caller whose ctx ends stops waiting; the reload that others share goes on, up to its command's deadline.
func (s *Server) Reload(ctx context.Context) error {
	s.mu.Lock()
	round := s.next
	if round == nil {
		round = &reloadRound{done: make(chan struct{})}
		s.next = round
		go s.run(context.WithoutCancel(ctx), round)
	}
	s.mu.Unlock()
	select {
	case <-round.done:
		return round.err
	case <-ctx.Done():
		return fmt.Errorf("wait for the reload of %s: %w", s.name, context.Cause(ctx))
	}
}

// run waits for the present reload, closes the round to further callers and reloads for all of them.
func (s *Server) run(ctx context.Context, round *reloadRound) {
	s.reloads <- struct{}{}
	s.mu.Lock()
	s.next = nil
	s.mu.Unlock()
	round.err = guard.Err(func() error { return s.reloadOnce(ctx) })()
	<-s.reloads
	close(round.done)
}

// Running asks whether the server runs, of its unit or pid file. One that cannot be asked is taken as running.
func (s *Server) Running(ctx context.Context) (bool, error) {
	if s.active == nil {
		return true, nil
	}
	running, err := s.active(ctx)
	if err != nil {
		return false, fmt.Errorf("ask whether %s is running: %w", s.name, err)
	}
	return running, nil
}

// Examine returns an error if a reload would fail: the server does not run, or its program may not be run.
func (s *Server) Examine(ctx context.Context) error {
	if len(s.reload.Argv) > 0 {
		if err := vetted.Program(s.reload.Argv[0]); err != nil {
			return err
		}
	}
	running, err := s.Running(ctx)
	if err == nil && !running {
		return &NotRunningError{Server: s.name}
	}
	return err
}

func (s *Server) reloadOnce(ctx context.Context) error {
	s.rounds.use()
	running, err := s.Running(ctx)
	switch {
	case err != nil:
		return err
	case !running:
		return &NotRunningError{Server: s.name}
	}
	if s.elsewhere != nil {
		return s.elsewhere(ctx)
	}
	_, err = s.reload.Run(ctx)
	return err
}

const systemctl = "/usr/bin/systemctl"

// SystemdReload is the command that reloads a systemd unit.
func SystemdReload(unit string) Command {
	return Command{Argv: []string{systemctl, "reload", "--", unit}}
}

// SystemdActive asks systemd whether a unit is active, for [NewServer].
func SystemdActive(unit string) func(context.Context) (bool, error) {
	return func(ctx context.Context) (bool, error) {
		_, err := Command{Argv: []string{systemctl, "is-active", "--quiet", "--", unit}}.Run(ctx)
		var failed *CommandError
		if errors.As(err, &failed) && isInactive(failed.ExitCode) {
			return false, nil
		}
		return err == nil, err
	}
}

// isInactive knows the exit codes of "systemctl is-active": 3 for a unit that is not active, 4 for one that does not
// exist (systemctl(1), "Exit status").
func isInactive(code int) bool { return code == 3 || code == 4 }
