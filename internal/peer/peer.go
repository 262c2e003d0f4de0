// Package peer says who is at the other end of a unix socket, as the kernel knows it.
package peer

import (
	"errors"
	"net"
	"unsafe"

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

// Groups returns the supplementary groups of the process that connected, as they were then (SO_PEERGROUPS in socket(7)):
// those of the kernel, which may be others than the group database has for the user. Before Linux 4.13 it fails.
func Groups(conn *net.UnixConn) ([]int, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	var list []uint32
	ctrlErr := raw.Control(func(fd uintptr) { list, err = peerGroups(fd) })
	if err := errors.Join(ctrlErr, err); err != nil {
		return nil, err
	}
	groups := make([]int, len(list))
	for i, gid := range list {
		groups[i] = int(gid)
	}
	return groups, nil
}

// peerGroups asks the kernel, which says how much room it needs if there is too little.
func peerGroups(fd uintptr) ([]uint32, error) {
	list := make([]uint32, 32)
	for {
		size := uint32(len(list) * 4) //nolint:gosec // at most 65,536 groups, NGROUPS_MAX
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&list[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // what the call takes
		switch {
		case errno == 0:
			return list[:size/4], nil
		case !errors.Is(errno, unix.ERANGE) || int(size/4) <= len(list):
			return nil, errno
		}
		list = make([]uint32, size/4)
	}
}
