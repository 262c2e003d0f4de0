package tlsalpn01

import (
	"crypto/tls"
	"errors"
	"net"
	"time"

	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/pkg/challenges"
	"go.uber.org/zap"
)

func (r *Responder) serve(ln net.Listener) (stop func()) {
	ended := make(chan struct{})
	var running guard.Group
	running.Go(guard.Logged(r.log, "challenge responder", func() {
		for {
			conn, ok := r.accept(ln, ended)
			if !ok {
				return
			}
			running.Go(guard.Logged(r.log, "challenge responder", func() { r.handshake(conn) }))
		}
	}))
	return func() {
		close(ended)
		_ = ln.Close() // ends the handshakes too
		running.Wait()
	}
}

// acceptPause keeps a machine without free file descriptors from a busy loop.
const acceptPause = 50 * time.Millisecond

// accept returns the next connection, or false when the listener was closed.
func (r *Responder) accept(ln net.Listener, ended <-chan struct{}) (net.Conn, bool) {
	for {
		conn, err := ln.Accept()
		if err == nil {
			return conn, true
		}
		if errors.Is(err, net.ErrClosed) {
			return nil, false
		}
		r.log.Warn("challenge responder cannot accept", zap.Stringer("addr", ln.Addr()), zap.Error(err))
		select {
		case <-ended:
			return nil, false
		case <-time.After(acceptPause):
		}
	}
}

// handshake completes a validation and closes the connection. A client that is not entitled to one gets an alert.
func (r *Responder) handshake(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return
	}
	client := tls.Server(conn, &tls.Config{GetConfigForClient: r.config, MinVersion: tls.VersionTLS12})
	if err := client.Handshake(); err != nil { //nolint:noctx // bounded by the deadline, ended by closing the listener
		return
	}
	r.log.Debug("challenge answered", zap.String("type", string(challenges.TLSALPN01)),
		zap.Stringer("client", conn.RemoteAddr()), zap.String("name", client.ConnectionState().ServerName))
	_ = client.Close()
}
