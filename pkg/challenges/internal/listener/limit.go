package listener

import (
	"container/list"
	"net"
	"sync"
)

// limited bounds the connections of a listener. A new connection over the bound closes the oldest one: a CA needs
// milliseconds, so whoever has been connected for longest is the least likely to be one. Closing the listener closes
// its connections too.
type limited struct {
	net.Listener
	most int

	mu     sync.Mutex
	open   *list.List // of *limitedConn, the oldest in front
	closed bool
}

func newLimited(ln net.Listener, most int) *limited {
	return &limited{Listener: ln, most: most, open: list.New()}
}

// Accept returns the next connection.
func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: conn, owner: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	for l.open.Len() >= l.most {
		l.evict()
	}
	c.place = l.open.PushBack(c)
	return c, nil
}

// Close stops listening and closes every connection.
func (l *limited) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for l.open.Len() > 0 {
		l.evict()
	}
	return err
}

func (l *limited) evict() {
	oldest := l.open.Remove(l.open.Front()).(*limitedConn)
	_ = oldest.Conn.Close()
}

type limitedConn struct {
	net.Conn
	owner *limited
	place *list.Element
}

// Close closes the connection and gives its place to another.
func (c *limitedConn) Close() error {
	c.owner.mu.Lock()
	c.owner.open.Remove(c.place)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
