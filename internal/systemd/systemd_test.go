package systemd

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestNotify(t *testing.T) {
	if err := Notify(Ready); err != nil {
		t.Error("without systemd:", err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	if err := Notify(Ready, Status("two\nlines")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 100)
	n, err := conn.Read(buf)
	if want := "READY=1\nSTATUS=two lines"; err != nil || string(buf[:n]) != want {
		t.Errorf("systemd was told %q, %v", buf[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", path+"x")
	if err := Notify(Watchdog); err == nil {
		t.Error("a missing socket is no error")
	}
}

func TestWatchdogInterval(t *testing.T) {
	self := strconv.Itoa(os.Getpid())
	for _, tt := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"x", "", 0}, {"-1", "", 0}, {"0", "", 0},
		{"300000000", "", 100 * time.Second}, {"3000000", self, time.Second}, {"3000000", "1", 0},
	} {
		t.Setenv("WATCHDOG_USEC", tt.usec)
		t.Setenv("WATCHDOG_PID", tt.pid)
		if got := WatchdogInterval(); got != tt.want {
			t.Errorf("%q, %q: %s, want %s", tt.usec, tt.pid, got, tt.want)
		}
	}
}

// TestSockets runs itself as a service: the shell sets LISTEN_PID to the process that it becomes.
func TestSockets(t *testing.T) {
	if os.Getenv("SERVE") != "" {
		serve()
		return
	}
	if list, err := Sockets(); list != nil || err != nil {
		t.Errorf("without systemd: %v, %v", list, err)
	}
	path := filepath.Join(t.TempDir(), "sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	file, err := l.File()
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" -test.run '^TestSockets$'`, self)
	cmd.Env = append(os.Environ(), "SERVE=1", "LISTEN_FDS=1", "LISTEN_FDNAMES=ours.socket")
	cmd.ExtraFiles = []*os.File{file}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = file.Close(), l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if said, err := io.ReadAll(conn); err != nil || string(said) != "ours.socket" {
		t.Errorf("the service said %q, %v", said, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error("the service removed the socket of systemd:", err)
	}
}

func serve() {
	list, err := Sockets()
	if err != nil || len(list) != 1 {
		panic(fmt.Sprint(list, err))
	}
	conn, err := list[0].Accept()
	if err != nil {
		panic(err)
	}
	_, _ = conn.Write([]byte(list[0].Name))
	_, _ = conn.Close(), list[0].Close()
}

func TestSocketsRefusesNonsense(t *testing.T) {
	t.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
	for _, count := range []string{"", "x", "-1", "1000000"} {
		t.Setenv("LISTEN_FDS", count)
		if list, err := Sockets(); err == nil {
			t.Errorf("LISTEN_FDS=%q gives %v", count, list)
		}
	}
}

func TestToJournal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	info, err := w.Stat()
	if err != nil {
		t.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	for stream, want := range map[string]bool{"": false, "1:2": false, fmt.Sprintf("%d:%d", st.Dev, st.Ino): true} {
		t.Setenv("JOURNAL_STREAM", stream)
		if got := ToJournal(w); got != want {
			t.Errorf("JOURNAL_STREAM=%q: %v", stream, got)
		}
	}
	_ = w.Close()
	if ToJournal(w) {
		t.Error("a closed file goes to the journal")
	}
}
