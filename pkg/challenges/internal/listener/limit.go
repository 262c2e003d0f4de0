package listener

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

// fairShare says which part of all connections a network can count on: one in so many.
const fairShare = 16

// limited bounds the connections of a listener. A new connection over the bound closes an old one: the oldest of the
// network that holds the most, if that is more than its fair share, else the oldest of all. So clients that come back as
// fast as they are cut off take places from each other and not from the CA; and a CA needs milliseconds, so whoever has
// been connected for longest is the least likely to be one. Closing the listener closes its connections too.
type limited struct {
	net.Listener
	most int

	mu     sync.Mutex
	open   *list.List // of *limitedConn, the oldest in front
	held   map[netip.Prefix]int
	closed bool
}

func newLimited(ln net.Listener, most int) *limited {
	return &limited{Listener: ln, most: most, open: list.New(), held: map[netip.Prefix]int{}}
}

// Accept returns the next connection.
func (l *limited) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &limitedConn{Conn: conn, owner: l, from: network(conn.RemoteAddr())}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		_ = conn.Close()
		return nil, net.ErrClosed
	}
	for l.open.Len() >= l.most {
		l.evict(l.victim())
	}
	c.place = l.open.PushBack(c)
	l.held[c.from]++
	return c, nil
}

// Close stops listening and closes every connection.
func (l *limited) Close() error {
	err := l.Listener.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for l.open.Len() > 0 {
		l.evict(l.open.Front())
	}
	return err
}

// victim chooses the connection that makes room.
func (l *limited) victim() *list.Element {
	chosen, most := l.open.Front(), l.most/fairShare
	for e := l.open.Front(); e != nil; e = e.Next() {
		if n := l.held[e.Value.(*limitedConn).from]; n > most {
			chosen, most = e, n
		}
	}
	return chosen
}

func (l *limited) evict(e *list.Element) {
	c := e.Value.(*limitedConn)
	l.remove(c)
	_ = c.Conn.Close()
}

// remove gives the place of a connection to another. A connection that lost it already is no error.
func (l *limited) remove(c *limitedConn) {
	if c.gone {
		return
	}
	c.gone = true
	l.open.Remove(c.place)
	if l.held[c.from]--; l.held[c.from] == 0 {
		delete(l.held, c.from)
	}
}

// network is what one customer of an access or hosting provider gets: an IPv4 /24 or an IPv6 /48. All peers without such
// an address, as on a unix socket, are one network.
func network(addr net.Addr) netip.Prefix {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.Prefix{}
	}
	ip, bits := tcp.AddrPort().Addr().Unmap(), 48
	if ip.Is4() {
		bits = 24
	}
	prefix, _ := ip.Prefix(bits) // bits are in range
	return prefix
}

type limitedConn struct {
	net.Conn
	owner *limited
	from  netip.Prefix
	place *list.Element
	gone  bool // has no place any more
}

// Close closes the connection and gives its place to another.
func (c *limitedConn) Close() error {
	c.owner.mu.Lock()
	c.owner.remove(c)
	c.owner.mu.Unlock()
	return c.Conn.Close()
}
