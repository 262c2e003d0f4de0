package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// limit bounds the memory that a running unit may take from now on, and returns what lifts the limit. MemoryMax= does it
// where the container has the controller, which with the first version of cgroups it has not.
func limit(m *machine, unit string, bytes int) (lift func()) {
	m.t.Helper()
	set := func(value string) {
		m.do("systemctl", "set-property", "--runtime", unit, "MemoryMax="+value, "MemorySwapMax=0")
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.controllers"); err == nil {
		set(fmt.Sprint(bytes))
		return func() { set("infinity") }
	}
	dir := filepath.Join("/sys/fs/cgroup/memory", fmt.Sprintf("acmed-test-%d", os.Getpid()))
	write := func(name string, value int) error {
		return os.WriteFile(filepath.Join(dir, name), fmt.Append(nil, value), 0o644)
	}
	err := errors.Join(os.Mkdir(dir, 0o755), write("memory.limit_in_bytes", bytes), write("cgroup.procs", outside(m, m.pid(unit))))
	if err != nil {
		m.t.Fatal(err)
	}
	return func() { _ = os.Remove(dir) }
}

// outside is the process ID that a process of the container has here.
func outside(m *machine, pid int) int {
	m.t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/status")
	if err != nil {
		m.t.Fatal(err)
	}
	namespace, err := os.Readlink("/proc/" + m.leader + "/ns/pid")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, file := range files {
		text, _ := os.ReadFile(file) // it may have ended
		var here, there int
		_, after, _ := strings.Cut(string(text), "\nNSpid:")
		if n, _ := fmt.Sscan(after, &here, &there); n != 2 || there != pid {
			continue
		}
		if ns, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", here)); err == nil && ns == namespace {
			return here
		}
	}
	m.t.Fatalf("process %d of the container is not known here", pid)
	return 0
}
