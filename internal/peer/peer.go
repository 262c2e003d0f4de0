// Package peer says who is at the other end of a unix socket, as the kernel knows it.
package peer

import (
	"errors"
	"net"

	"golang.org/x/sys/unix"
)

// Of returns the user and the group of the process that connected, as they were then (SO_PEERCRED in unix(7)).
func Of(conn *net.UnixConn) (uid, gid int, err error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return -1, -1, err
	}
	var cred *unix.Ucred
	ctrlErr := raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err := errors.Join(ctrlErr, err); err != nil {
		return -1, -1, err
	}
	return int(cred.Uid), int(cred.Gid), nil
}
