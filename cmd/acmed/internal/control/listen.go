package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/peer"
)

// Listen makes the control socket, and its directory where a service manager did not. Another daemon that answers there is an error; a socket that nobody answers on is
// replaced. The socket has mode 0660 from the moment it has its name, and only root, the daemon's own user and members of
// the socket's group are answered, whatever the directory allows.
func Listen(path string) (net.Listener, error) {
	if err := clearStale(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("control socket %s: the directory %s is missing (%w); create it, or set socket: to another path", path, dir, err)
	}
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+strconv.Itoa(os.Getpid()))
	if err := clearLeft(temp); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temp, Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(temp, 0o660), syscall.Rename(temp, path)); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket %s: %w", path, err), l.Close(), os.Remove(temp))
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	gid := -1
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		gid = int(st.Gid)
	}
	return &guarded{UnixListener: l, path: path, inode: info, gid: gid}, nil
}

func clearStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("control socket: %w", err)
	case info.Mode().Type() != os.ModeSocket:
		return fmt.Errorf("control socket %s: something that is not a socket is in the way; remove it or set socket: to another path", path)
	}
	dialer := net.Dialer{Timeout: time.Second}
	conn, err := dialer.DialContext(context.Background(), "unix", path)
	if err == nil {
		_ = conn.Close()
		return fmt.Errorf("control socket %s: another acmed answers there", path)
	}
	return nil
}

// clearLeft removes the socket of a daemon that was killed before it had its name, and that had our process ID, as each
// daemon of a container has.
func clearLeft(temp string) error {
	info, err := os.Lstat(temp)
	if err != nil || info.Mode().Type() != os.ModeSocket {
		return nil // what else is there makes listening fail
	}
	if err := os.Remove(temp); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	return nil
}

// guarded answers strangers with an error and hands everybody else on.
type guarded struct {
	*net.UnixListener
	path  string
	inode os.FileInfo
	gid   int
}

// Accept returns the next connection of somebody who may ask.
func (g *guarded) Accept() (net.Conn, error) {
	for {
		conn, err := g.AcceptUnix()
		if err != nil {
			return nil, err
		}
		uid, gid, err := peer.Of(conn)
		if err == nil && g.allowed(conn, uid, gid) {
			return conn, nil
		}
		go refuse(conn, uid)
	}
}

// Close removes the socket, unless another daemon has put its own there meanwhile.
func (g *guarded) Close() error {
	err := g.UnixListener.Close()
	if now, statErr := os.Lstat(g.path); statErr == nil && os.SameFile(now, g.inode) {
		err = errors.Join(err, os.Remove(g.path))
	}
	return err
}

// allowed counts the groups that the process has, and those that its user would get at the next login.
func (g *guarded) allowed(conn *net.UnixConn, uid, gid int) bool {
	if uid == 0 || uid == os.Geteuid() || gid == g.gid {
		return true
	}
	if groups, err := peer.Groups(conn); err == nil && slices.Contains(groups, g.gid) {
		return true
	}
	u, err := user.LookupId(strconv.Itoa(uid))
	if err != nil {
		return false
	}
	groups, err := u.GroupIds()
	return err == nil && slices.Contains(groups, strconv.Itoa(g.gid))
}

// refuse tells a stranger why in a form that the client understands. What it sends is thrown away for a moment, because a
// client that cannot write does not read either.
func refuse(conn *net.UnixConn, uid int) {
	defer func() { _ = conn.Close() }()
	body, err := json.Marshal(Line{Error: Forbidden(uid)})
	if err != nil {
		return
	}
	_ = conn.SetDeadline(time.Now().Add(time.Second))
	_, err = fmt.Fprintf(conn, "HTTP/1.1 %d Forbidden\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s",
		http.StatusForbidden, len(body), body)
	if err == nil && conn.CloseWrite() == nil {
		_, _ = io.CopyN(io.Discard, conn, MaxRequest)
	}
}
