package acmetest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
)

// Balancer hands each TCP connection to the next of its backends that accepts it.
type Balancer struct {
	listener net.Listener
	backends atomic.Pointer[[]int]
	next     atomic.Int64
}

// NewBalancer listens on a port of 127.0.0.1 until Close. It has no backends yet.
func NewBalancer(port int) (*Balancer, error) {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return nil, err
	}
	b := &Balancer{listener: l}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go b.forward(conn)
		}
	}()
	return b, nil
}

// Use replaces the backends by the servers at these ports of 127.0.0.1.
func (b *Balancer) Use(ports ...int) { b.backends.Store(&ports) }

// Close ends the listener. Connections go on.
func (b *Balancer) Close() error { return b.listener.Close() }

func (b *Balancer) forward(client net.Conn) {
	defer func() { _ = client.Close() }()
	list := b.backends.Load()
	if list == nil {
		return
	}
	var server net.Conn
	err := errors.New("no backend")
	for i := 0; i < len(*list) && err != nil; i++ {
		server, err = net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", (*list)[int(b.next.Add(1))%len(*list)]))
	}
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	go func() {
		_, _ = io.Copy(server, client)
		if half, ok := server.(*net.TCPConn); ok {
			_ = half.CloseWrite()
		}
	}()
	_, _ = io.Copy(client, server)
}
