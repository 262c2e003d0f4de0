package listener

import (
	"context"
	"errors"
	"net"
	"sync"
)

// ErrClosed is returned by Acquire after Close.
var ErrClosed = errors.New("the challenge responder was closed")

// Shared is a socket with many users: it is opened for the first and closed after the last. A socket that was handed
// over cannot be opened a second time, so it stays open until [Shared.Close].
type Shared struct {
	config Config
	serve  func(net.Listener) (stop func())

	mu     sync.Mutex
	users  int
	held   bool
	closed bool
	addr   net.Addr
	stop   func()
}

// NewShared prepares a socket without opening it. The function serve is called with each listener that is opened; it
// must return at once, and what it returns must end the service, close the listener and wait for both.
func NewShared(c Config, serve func(net.Listener) (stop func())) *Shared {
	return &Shared{config: c, serve: serve, held: c.Listener != nil}
}

// Acquire adds a user and opens the socket if needed. After an error there is no further user.
func (s *Shared) Acquire(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return err
	}
	s.users++
	return nil
}

// Release takes a user away and closes the socket after the last one.
func (s *Shared) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.users--
	if s.users == 0 && !s.held {
		s.shut()
	}
}

// Hold opens the socket and keeps it open until Close, with or without users.
func (s *Shared) Hold(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.open(ctx); err != nil {
		return err
	}
	s.held = true
	return nil
}

// Close closes the socket for good.
func (s *Shared) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.shut()
	if s.config.Listener != nil {
		_ = s.config.Listener.Close()
	}
}

// Addr returns the address of the open socket, nil while it is closed.
func (s *Shared) Addr() net.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.addr
}

func (s *Shared) open(ctx context.Context) error {
	if s.closed {
		return ErrClosed
	}
	if s.stop != nil {
		return nil
	}
	ln, err := s.config.Open(ctx)
	if err != nil {
		return err
	}
	s.addr = ln.Addr()
	s.stop = s.serve(ln)
	return nil
}

func (s *Shared) shut() {
	if s.stop == nil {
		return
	}
	s.stop()
	s.stop, s.addr = nil, nil
}
