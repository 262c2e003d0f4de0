package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Socket is a listening socket that systemd opened.
type Socket struct {
	Name string // FileDescriptorName= of the socket unit, which is the unit's own name unless set
	net.Listener
}

// firstFD is the first file descriptor that systemd hands over, after standard error.
const firstFD = 3

// maxFDs is far more sockets than any unit of ours has.
const maxFDs = 64

// Sockets returns the sockets that systemd opened for this process, none without socket activation. Call it once: it
// takes the file descriptors over. Programs that this process starts do not inherit them.
func Sockets() ([]Socket, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	count, err := strconv.Atoi(os.Getenv("LISTEN_FDS"))
	if err != nil || count < 0 || count > maxFDs {
		return nil, fmt.Errorf("LISTEN_FDS is not a number from 0 to %d", maxFDs)
	}
	names := strings.Split(os.Getenv("LISTEN_FDNAMES"), ":")
	sockets := make([]Socket, 0, count)
	for i := range count {
		name := ""
		if i < len(names) {
			name = names[i]
		}
		l, err := take(firstFD+i, name)
		if err != nil {
			for _, s := range sockets {
				_ = s.Close()
			}
			return nil, fmt.Errorf("socket %d (%q) from systemd: %w", i, name, err)
		}
		sockets = append(sockets, Socket{Name: name, Listener: l})
	}
	return sockets, nil
}

// take makes a listener of a file descriptor, which it closes.
func take(fd int, name string) (net.Listener, error) {
	syscall.CloseOnExec(fd)
	f := os.NewFile(uintptr(fd), name)
	l, err := net.FileListener(f)
	_ = f.Close() // the listener has a copy
	if u, ok := l.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(false) // the path is systemd's
	}
	return l, err
}
