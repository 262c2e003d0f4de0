package e2e

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// spying makes this binary a spy when it is in its environment.
const spying = "ACMED_TEST_SPY"

// event is what a spy reports: something that it could do for the first time, a process that it saw, or the end of a pass.
type event struct {
	Verb string // read, write, list, connect, signal; "process" or "pass"
	What string // a path, an address, or the number of a process
	Text string // of a process: its arguments
	Of   int    // of a process: its parent
}

// spy runs as another user and tries everything, again and again: each file below the directories of its arguments, each
// process, each socket. It changes nothing. It ends with its standard input.
func spy(dirs []string) {
	s := &snoop{known: map[event]bool{}, out: json.NewEncoder(os.Stdout)}
	go func() {
		_, _ = os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	for {
		for _, dir := range dirs {
			s.walk(dir, "")
		}
		for _, dir := range []string{"/run", "/run/lock", "/dev/shm", "/tmp", "/var/tmp", "/var/lib", "/etc"} {
			s.walk(dir, "acmed")
		}
		s.processes()
		s.sockets()
		if s.out.Encode(event{Verb: "pass"}) != nil {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type snoop struct {
	known map[event]bool
	out   *json.Encoder
}

func (s *snoop) can(verb, what string) { s.report(event{Verb: verb, What: what}) }

func (s *snoop) report(e event) {
	if !s.known[e] {
		s.known[e] = true
		_ = s.out.Encode(e)
	}
}

// walk tries a directory and all below it, of which only names with a part count at the top.
func (s *snoop) walk(dir, part string) {
	if unix.Access(dir, unix.W_OK|unix.X_OK) == nil && part == "" {
		s.can("write", dir)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	if part == "" {
		s.can("list", dir)
	}
	for _, entry := range entries {
		path := filepath.Join(dir, entry.Name())
		if !strings.Contains(entry.Name(), part) || part != "" && strings.HasPrefix(path, os.TempDir()+"/") {
			continue
		}
		switch {
		case entry.IsDir():
			s.walk(path, "")
		case entry.Type().IsRegular() && !s.known[event{Verb: "read", What: path}]:
			s.open(path)
		case entry.Type()&os.ModeSocket != 0:
			s.connect("unix", path, path)
		}
	}
}

func (s *snoop) open(path string) {
	if f, err := os.Open(path); err == nil {
		s.can("read", path)
		text, _ := io.ReadAll(f)
		if bytes.Contains(text, []byte("PRIVATE KEY")) || !utf8.Valid(text) && path != os.Args[0] { // a key store is not text
			s.can("read the key in", path)
		}
		_ = f.Close()
	}
	if f, err := os.OpenFile(path, os.O_WRONLY|syscall.O_NONBLOCK, 0); err == nil {
		s.can("write", path)
		_ = f.Close()
	}
}

func (s *snoop) connect(network, address, what string) {
	if conn, err := net.DialTimeout(network, address, time.Second); err == nil {
		s.can("connect", what)
		_ = conn.Close()
	}
}

func (s *snoop) processes() {
	entries, _ := os.ReadDir("/proc")
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		dir := filepath.Join("/proc", entry.Name())
		argv, _ := os.ReadFile(dir + "/cmdline")
		stat, err := os.ReadFile(dir + "/stat")
		if err != nil || len(argv) == 0 { // it has ended
			continue
		}
		parent := 0
		if fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:])); len(fields) > 1 {
			parent, _ = strconv.Atoi(fields[1])
		}
		s.report(event{"process", entry.Name(), strings.TrimSpace(string(bytes.ReplaceAll(argv, []byte{0}, []byte(" ")))), parent})
		if syscall.Kill(pid, 0) == nil {
			s.can("signal", entry.Name())
		}
		s.process(dir, entry.Name())
	}
}

// process tries all that /proc has about one.
func (s *snoop) process(dir, pid string) {
	for _, name := range []string{
		"auxv", "clear_refs", "cmdline", "comm", "coredump_filter", "environ", "io", "limits", "maps", "mem", "mountinfo", "numa_maps", "oom_score_adj",
		"pagemap", "personality", "sessionid", "smaps", "stack", "stat", "statm", "status", "syscall", "wchan",
	} {
		path := filepath.Join(dir, name)
		if f, err := os.Open(path); err == nil {
			if n, _ := f.Read(make([]byte, 1)); n > 0 {
				s.can("read", path)
			}
			_ = f.Close()
		}
		if f, err := os.OpenFile(path, os.O_WRONLY, 0); err == nil {
			s.can("write", path)
			_ = f.Close()
		}
	}
	for _, name := range []string{"cwd", "exe", "root", "ns/net"} {
		if _, err := os.Readlink(filepath.Join(dir, name)); err == nil {
			s.can("read", filepath.Join(dir, name))
		}
	}
	for _, name := range []string{"fd", "fdinfo", "map_files"} {
		if _, err := os.ReadDir(filepath.Join(dir, name)); err == nil {
			s.can("list", filepath.Join(dir, name))
		}
	}
}

// sockets tries each listener of the network and each abstract name.
func (s *snoop) sockets() {
	for _, file := range []string{"tcp", "tcp6", "unix"} {
		f, err := os.Open("/proc/net/" + file)
		if err != nil {
			continue
		}
		for lines := bufio.NewScanner(f); lines.Scan(); {
			fields := strings.Fields(lines.Text())
			switch {
			case file == "unix" && len(fields) == 8 && strings.HasPrefix(fields[7], "@"):
				s.connect("unix", fields[7], fields[7])
			case file != "unix" && len(fields) > 3 && fields[3] == "0A":
				address := endpoint(fields[1])
				s.connect("tcp", address, "tcp "+address)
			}
		}
		_ = f.Close()
	}
}

// endpoint decodes an address of /proc/net/tcp: words of the machine's byte order, which is little-endian where tests run.
func endpoint(field string) string {
	host, port, _ := strings.Cut(field, ":")
	raw, _ := hex.DecodeString(host)
	for i := 0; i+4 <= len(raw); i += 4 {
		slices.Reverse(raw[i : i+4])
	}
	n, _ := strconv.ParseUint(port, 16, 16)
	return net.JoinHostPort(net.IP(raw).String(), fmt.Sprint(n))
}
