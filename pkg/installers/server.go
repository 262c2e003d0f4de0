package installers

import (
	"context"
	"errors"
)

// Server is one web server of this machine, shared by all targets that it serves.
type Server struct {
	name         string
	test, reload Command
	active       func(context.Context) (bool, error)
}

// NewServer makes a Server. A test without Argv always passes; a nil active takes the server as running.
func NewServer(name string, test, reload Command, active func(context.Context) (bool, error)) *Server {
	return &Server{name: name, test: test, reload: reload, active: active}
}

// Name is the name that was given to NewServer.
func (s *Server) Name() string { return s.name }

// Lock waits until no other target edits the server's configuration.
func (s *Server) Lock(_ context.Context) (unlock func(), err error) {
	return nil, errors.New("not ready")
}

// Test runs the server's own test.
func (s *Server) Test(_ context.Context) error { return errors.New("not ready") }

// Reload makes the server read its configuration again.
func (s *Server) Reload(_ context.Context) error { return errors.New("not ready") }

// SystemdReload is the command that reloads a systemd unit.
func SystemdReload(unit string) Command {
	return Command{Argv: []string{"/usr/bin/systemctl", "reload", "--", unit}}
}

// SystemdActive asks systemd whether a unit is active, for [NewServer].
func SystemdActive(_ string) func(context.Context) (bool, error) {
	return func(context.Context) (bool, error) { return false, errors.New("not ready") }
}
