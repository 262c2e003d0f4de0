package listener

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/challenges"
)

// Holder returns the process of this machine that listens on a TCP port in the way of addr, or nil when there is none
// or its owner may not be seen. Linux only: it reads /proc.
func Holder(addr netip.AddrPort) *challenges.Process { return holder("/proc", addr) }

// HolderOf is Holder for an address as a configuration has it, such as ":80".
func HolderOf(addr string) *challenges.Process {
	tcp, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		return nil
	}
	return Holder(tcp.AddrPort())
}

func holder(proc string, addr netip.AddrPort) *challenges.Process {
	inodes := map[string]bool{}
	for _, table := range []string{"net/tcp", "net/tcp6"} {
		listening(filepath.Join(proc, table), addr, inodes)
	}
	if len(inodes) == 0 {
		return nil
	}
	for _, pid := range pids(proc) {
		if holds(filepath.Join(proc, strconv.Itoa(pid), "fd"), inodes) {
			return &challenges.Process{Name: processName(proc, pid), PID: pid}
		}
	}
	return nil
}

// listening adds the inodes of the sockets in one of the kernel's tables that listen where addr would.
func listening(table string, addr netip.AddrPort, inodes map[string]bool) {
	f, err := os.Open(table)
	if err != nil {
		return
	}
	defer func() { _ = f.Close() }()
	const listen = "0A" // TCP_LISTEN of the kernel's net/tcp_states.h
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 || fields[3] != listen {
			continue
		}
		local, err := parseKernelAddr(fields[1])
		if err == nil && inTheWay(local, addr) {
			inodes["socket:["+fields[9]+"]"] = true
		}
	}
}

// parseKernelAddr reads ADDRESS:PORT in hexadecimal, where the address is made of 32-bit words in the byte order of the
// machine (little endian on everything that acmed is built for).
func parseKernelAddr(text string) (netip.AddrPort, error) {
	host, port, _ := strings.Cut(text, ":")
	raw, err := hex.DecodeString(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", text, err)
	}
	for word := range slices.Chunk(raw, 4) {
		slices.Reverse(word)
	}
	ip, ok := netip.AddrFromSlice(raw)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("address %q has %d bytes", text, len(raw))
	}
	n, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("address %q: %w", text, err)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}

func inTheWay(local, wanted netip.AddrPort) bool {
	if local.Port() != wanted.Port() {
		return false
	}
	return !wanted.Addr().IsValid() || wanted.Addr().IsUnspecified() || local.Addr().IsUnspecified() ||
		local.Addr() == wanted.Addr().Unmap()
}

// pids lists the processes, the oldest number first, so that the parent of a group of workers is found before them.
func pids(proc string) []int {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil
	}
	var list []int
	for _, e := range entries {
		if pid, err := strconv.Atoi(e.Name()); err == nil {
			list = append(list, pid)
		}
	}
	slices.Sort(list)
	return list
}

func holds(dir string, inodes map[string]bool) bool {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	for _, e := range entries {
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil && inodes[target] {
			return true
		}
	}
	return false
}

// processName reads the name that a process gave itself. It may be anything, so only printable ASCII is kept.
func processName(proc string, pid int) string {
	text, err := os.ReadFile(filepath.Join(proc, strconv.Itoa(pid), "comm"))
	if err != nil {
		return "a process"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return -1
		}
		return r
	}, string(text))
}
