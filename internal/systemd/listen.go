package systemd

import (
	"fmt"
	"net"
	"os"
	"strconv"

	"github.com/coreos/go-systemd/v22/activation"
)

// Socket is a listening socket that systemd opened.
type Socket struct {
	Name string // FileDescriptorName= of the socket unit, which is the unit's own name unless set
	net.Listener
}

// maxFDs is far more sockets than any unit of ours has.
const maxFDs = 64

// Sockets returns the sockets that systemd opened for this process, none without socket activation. Call it once: it
// takes the file descriptors over. Programs that this process starts do not inherit them.
func Sockets() ([]Socket, error) {
	if os.Getenv("LISTEN_PID") != strconv.Itoa(os.Getpid()) {
		return nil, nil
	}
	// The library takes whatever number it is given, and a wrong one would close descriptors of somebody else.
	if count, err := strconv.Atoi(os.Getenv("LISTEN_FDS")); err != nil || count < 0 || count > maxFDs {
		return nil, fmt.Errorf("LISTEN_FDS is not a number from 0 to %d", maxFDs)
	}
	files := activation.Files(true)
	sockets := make([]Socket, 0, len(files))
	var failed error
	for i, f := range files {
		l, err := net.FileListener(f)
		_ = f.Close() // the listener has a copy
		if err != nil {
			failed = fmt.Errorf("socket %d (%q) from systemd: %w", i, f.Name(), err)
			continue
		}
		if u, ok := l.(*net.UnixListener); ok {
			u.SetUnlinkOnClose(false) // the path is systemd's
		}
		sockets = append(sockets, Socket{Name: f.Name(), Listener: l})
	}
	if failed != nil {
		for _, s := range sockets {
			_ = s.Close()
		}
		return nil, failed
	}
	return sockets, nil
}
