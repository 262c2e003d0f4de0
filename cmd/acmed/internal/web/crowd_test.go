package web

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
)

// TestIdleCrowd: however many clients keep their connections without asking, those who ask are answered.
func TestIdleCrowd(t *testing.T) {
	s := server(&fake{list: few()})
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(l) }()
	dial := func() net.Conn {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		_ = conn.SetDeadline(time.Now().Add(2 * time.Minute))
		return conn
	}
	ask := func(conn net.Conn, path string) {
		t.Helper()
		_, _ = io.WriteString(conn, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(path, err)
		}
		if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
			t.Error(path, resp.Status, err)
		}
	}
	for i := range 3 * maxConns { // half of them have been answered once, the others never ask
		if conn := dial(); i%2 == 0 {
			ask(conn, "/livez")
		}
	}
	for _, path := range []string{"/livez", "/", "/metrics"} {
		ask(dial(), path)
	}
	now, cancel := context.WithCancel(t.Context())
	cancel()
	_ = s.Shutdown(now)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// far is a connection of somebody on another machine, or on this one.
type far struct {
	net.Conn
	ip     net.IP
	closed bool
}

func (f *far) RemoteAddr() net.Addr { return &net.TCPAddr{IP: f.ip} }
func (f *far) Close() error         { f.closed = true; return nil }

// TestPlacesForThisMachine: strangers whose requests all run leave places for this machine, and never push it out.
func TestPlacesForThisMachine(t *testing.T) {
	c := new(crowd)
	come := func(ip string) *far {
		f := &far{ip: net.ParseIP(ip)}
		c.state(f, http.StateNew)
		return f
	}
	mine := come("127.0.0.1")
	c.state(mine, http.StateIdle)
	for i := range 2 * maxConns {
		f := come("192.0.2.1")
		if f.closed != (i >= elsewhere) {
			t.Fatalf("stranger %d: closed is %v", i, f.closed)
		}
		if !f.closed {
			c.state(f, http.StateActive)
		}
	}
	for range maxConns {
		f := come("::1")
		if f.closed {
			t.Fatal("this machine has no place")
		}
		c.state(f, http.StateIdle)
		c.state(f, http.StateClosed)
	}
	if mine.closed {
		t.Error("a stranger pushed this machine out")
	}
	if n := len(c.conns); n != elsewhere+1 {
		t.Errorf("%d connections", n)
	}
}
