package listener

import (
	"container/list"
	"net"
	"net/netip"
	"sync"
)

const (
	fairShare = 16 // a network can count on one in so many of all connections
	memory    = 64 // what made room is remembered for so many times all connections
)

// limited bounds the connections of a listener. A new connection over the bound closes an old one: the oldest of the
// network with the most connections, open ones and those that made room lately, if these are more than its fair share;
// else the oldest of all. So clients that come back as fast as they are cut off take places from each other and not from
// the CA, also when they are of many networks; and a CA needs milliseconds, so whoever has been connected for longest is
// the least likely to be one. Closing the listener closes its connections too.
type limited struct {
	net.Listener
	most int

	mu      sync.Mutex
	open    *list.List           // of *limitedConn, the oldest in front
	counts  map[netip.Prefix]int // open connections and those that made room lately
	evicted int                  // since the counts of those were halved
	closed  bool
}

func newLimited(ln net.Listener, most int) *limited {
	return &limited{Listener: ln, most: most, open: list.New(), counts: map[netip.Prefix]int{}}
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
		l.makeRoom()
	}
	c.place = l.open.PushBack(c)
	l.counts[c.from]++
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

// makeRoom closes one connection and remembers its network.
func (l *limited) makeRoom() {
	victim := l.victim()
	l.evict(victim)
	l.counts[victim.Value.(*limitedConn).from]++
	if l.evicted++; l.evicted >= memory*l.most {
		l.forget()
	}
}

// victim chooses the connection that makes room.
func (l *limited) victim() *list.Element {
	chosen, most := l.open.Front(), l.most/fairShare
	for e := l.open.Front(); e != nil; e = e.Next() {
		if n := l.counts[e.Value.(*limitedConn).from]; n > most {
			chosen, most = e, n
		}
	}
	return chosen
}

// forget halves what is remembered, which also bounds it.
func (l *limited) forget() {
	l.evicted = 0
	open := map[netip.Prefix]int{}
	for e := l.open.Front(); e != nil; e = e.Next() {
		open[e.Value.(*limitedConn).from]++
	}
	for from, n := range l.counts {
		if n = open[from] + (n-open[from])/2; n == 0 {
			delete(l.counts, from)
			continue
		}
		l.counts[from] = n
	}
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
	if l.counts[c.from]--; l.counts[c.from] == 0 {
		delete(l.counts, c.from)
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
