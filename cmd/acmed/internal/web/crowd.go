package web

import (
	"net"
	"net/http"
	"sync"
	"time"
)

// elsewhere is how many connections clients on other machines have together. The other places are for a monitoring system
// on this one.
const elsewhere = maxConns - 8

// crowd bounds how many clients are connected, and lets one that waits give way to one that comes. The zero crowd is ready.
type crowd struct {
	mu    sync.Mutex
	conns map[net.Conn]guest
}

type guest struct {
	local bool
	busy  bool      // a request runs
	since time.Time // when it came or ended its last request
}

// state is for [http.Server.ConnState].
func (c *crowd) state(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if state == http.StateClosed || state == http.StateHijacked {
		delete(c.conns, conn)
		return
	}
	if state == http.StateNew && !c.room(local(conn)) {
		_ = conn.Close() // everybody before it is served
		return
	}
	if c.conns == nil {
		c.conns = map[net.Conn]guest{}
	}
	c.conns[conn] = guest{local: local(conn), busy: state == http.StateActive, since: time.Now()}
}

// room makes a place for a new client.
func (c *crowd) room(isLocal bool) bool {
	others := 0
	for _, g := range c.conns {
		if !g.local {
			others++
		}
	}
	if len(c.conns) < maxConns && (isLocal || others < elsewhere) {
		return true
	}
	victim := c.victim(isLocal)
	if victim == nil {
		return false
	}
	delete(c.conns, victim)
	_ = victim.Close()
	return true
}

// victim is who gives way to a new client, or nil: whoever waits longest without a request, first of those elsewhere.
func (c *crowd) victim(isLocal bool) (victim net.Conn) {
	for conn, g := range c.conns {
		if g.busy || g.local && !isLocal {
			continue
		}
		if victim == nil || g.before(c.conns[victim]) {
			victim = conn
		}
	}
	return victim
}

// before reports whether g gives way before other does.
func (g guest) before(other guest) bool {
	if g.local != other.local {
		return other.local
	}
	return g.since.Before(other.since)
}

func local(conn net.Conn) bool {
	tcp, ok := conn.RemoteAddr().(*net.TCPAddr)
	return !ok || tcp.IP.IsLoopback()
}
