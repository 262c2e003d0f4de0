// Package listener opens the sockets on which challenge responders answer strangers, and opens and closes them with
// the need ([Shared]).
//
// It promises a bound on open connections. When it is reached, the oldest connection of the network that holds the most,
// or lately had to make room the most, makes room for the new one: a crowd cuts off itself and not the CA. A crowd of so
// many networks that none is seen often still can, and behind a proxy all clients are of one network. A port that is
// taken is reported with the process that holds it ([Holder]). It reads no bytes of a connection except the PROXY
// protocol header of trusted peers.
package listener

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/pkg/challenges"
	"github.com/pires/go-proxyproto"
)

// Config says where to listen and whom to believe.
type Config struct {
	Addr     string         // host:port, :port, or unix:/path
	Listener net.Listener   // a socket handed over by the service manager; Addr is then not used
	Proxies  []netip.Prefix // peers that may send a PROXY protocol header; not empty on a unix socket: every peer may
	MaxConns int            // connections open at once
	Timeout  time.Duration  // for the PROXY protocol header
}

// socketMode lets a proxy of another user connect. What the responders say is public, and the directory can restrict
// access further.
const socketMode fs.FileMode = 0o666

// Open listens. Errors of the operating system are [*challenges.BindError].
func (c *Config) Open(ctx context.Context) (net.Listener, error) {
	if err := ctx.Err(); err != nil { // a lookup that is quicker than the end of ctx would still listen
		return nil, err
	}
	ln := c.Listener
	if ln == nil {
		var err error
		if path, ok := strings.CutPrefix(c.Addr, "unix:"); ok {
			ln, err = openUnix(ctx, path)
		} else {
			ln, err = openTCP(ctx, c.Addr)
		}
		if err != nil {
			return nil, err
		}
	}
	ln = newLimited(ln, c.MaxConns)
	if len(c.Proxies) == 0 {
		return ln, nil
	}
	return &proxyproto.Listener{Listener: ln, ConnPolicy: c.policy, ReadHeaderTimeout: c.Timeout}, nil
}

func (c *Config) policy(o proxyproto.ConnPolicyOptions) (proxyproto.Policy, error) {
	tcp, ok := o.Upstream.(*net.TCPAddr)
	if !ok {
		return proxyproto.USE, nil
	}
	for _, p := range c.Proxies {
		if p.Contains(tcp.AddrPort().Addr().Unmap()) {
			return proxyproto.USE, nil
		}
	}
	return proxyproto.SKIP, nil
}

func openTCP(ctx context.Context, addr string) (net.Listener, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err == nil {
		return ln, nil
	}
	failed := &challenges.BindError{Addr: addr, Err: err}
	if errors.Is(err, syscall.EADDRINUSE) {
		failed.Holder = HolderOf(addr)
	}
	return nil, failed
}

func openUnix(ctx context.Context, path string) (net.Listener, error) {
	if err := removeStale(ctx, path); err != nil {
		return nil, &challenges.BindError{Addr: path, Err: err}
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", path)
	if err != nil {
		return nil, &challenges.BindError{Addr: path, Err: err}
	}
	if err := os.Chmod(path, socketMode); err != nil {
		_ = ln.Close()
		return nil, &challenges.BindError{Addr: path, Err: err}
	}
	return ln, nil
}

// removeStale removes the socket of a process that died without doing so. Anything else at the path stays.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look at the socket: %w", err)
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s exists and is not a socket", path)
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = conn.Close()
		return syscall.EADDRINUSE
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return fmt.Errorf("ask who listens on the socket: %w", err)
	}
	return os.Remove(path)
}
