package helper

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/peer"
)

// guarded answers strangers with an error and hands everybody else on, [maxConns] at a time. The mode of the socket already
// keeps strangers away; this does not depend on who made the socket.
type guarded struct {
	*net.UnixListener
	users  []int
	log    *zap.Logger
	slots  chan struct{} // holds a token for each connection
	closed chan struct{}
	close  sync.Once
}

// client is a connection of somebody who may ask.
type client struct {
	*net.UnixConn
	uid   int
	leave func()
}

// Close gives the connection's place to the next one.
func (c *client) Close() error {
	defer c.leave()
	return c.UnixConn.Close()
}

// Close stops listening. Who connects from now on waits for the next helper.
func (g *guarded) Close() error {
	err := g.UnixListener.Close()
	g.close.Do(func() { close(g.closed) })
	return err
}

// Accept returns the next connection of somebody who may ask.
func (g *guarded) Accept() (net.Conn, error) {
	select {
	case g.slots <- struct{}{}:
	case <-g.closed:
		return nil, net.ErrClosed
	}
	leave := sync.OnceFunc(func() { <-g.slots })
	for {
		conn, err := g.AcceptUnix()
		if err != nil {
			leave()
			return nil, err
		}
		uid, _, err := peer.Of(conn)
		if err == nil && (uid == 0 || uid == os.Geteuid() || slices.Contains(g.users, uid)) {
			return &client{UnixConn: conn, uid: uid, leave: leave}, nil
		}
		g.log.Warn("connection refused", zap.Int("user", uid), zap.Error(err))
		go turnAway(conn, uid)
	}
}

// turnAway tells a stranger why. What it sends is thrown away for a moment, because a client that cannot write does not
// read either.
func turnAway(conn *net.UnixConn, uid int) {
	defer func() { _ = conn.Close() }()
	body, err := json.Marshal(answer{Error: &failure{Kind: kindRefused, Message: fmt.Sprintf("user %d may not use the helper", uid)}})
	if err != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 %d Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		http.StatusForbidden, len(body), body)
	if err == nil && conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, maxMessage)
	}
}
