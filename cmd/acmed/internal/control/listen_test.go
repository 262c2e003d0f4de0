package control

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
)

// dead leaves a socket that nobody listens on.
func dead(t *testing.T, path string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

// TestListenAfterCrash: the sockets that a killed daemon leaves are no obstacle, also those of its last moment and of the
// process ID that a container gives each time.
func TestListenAfterCrash(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "acmed.sock")
	dead(t, path)
	dead(t, filepath.Join(dir, fmt.Sprintf(".acmed.sock.%d", os.Getpid())))
	if _, err := Dial(t.Context(), path); !errors.Is(err, ErrNoDaemon) {
		t.Errorf("nobody answers: %v", err)
	}
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Lstat(path)
	if err != nil || info.Mode() != os.ModeSocket|0o660 {
		t.Errorf("the socket is %v, %v", info.Mode(), err)
	}
	if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another acmed answers") {
		t.Errorf("two daemons: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// TestListenInTheWay: what is not a socket is neither removed nor followed.
func TestListenInTheWay(t *testing.T) {
	for name, put := range map[string]func(other, path string) error{
		"a file":                      func(_, path string) error { return os.WriteFile(path, []byte("precious"), 0o600) },
		"a directory":                 func(_, path string) error { return os.Mkdir(path, 0o700) },
		"a link to a socket":          os.Symlink,
		"a link to nothing":           func(other, path string) error { return os.Symlink(other+"x", path) },
		"a link to a socket's folder": func(other, path string) error { return os.Symlink(filepath.Dir(other), path) },
	} {
		dir, elsewhere := t.TempDir(), t.TempDir()
		path, other := filepath.Join(dir, "acmed.sock"), filepath.Join(elsewhere, "other.sock")
		dead(t, other)
		if err := put(other, path); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
			t.Errorf("%s in the way: %v", name, err)
		}
		if after, err := os.Lstat(path); err != nil || !os.SameFile(before, after) {
			t.Errorf("%s was replaced: %v", name, err)
		}
		if list, err := os.ReadDir(elsewhere); err != nil || len(list) != 1 {
			t.Errorf("%s: beside the other socket are %v, %v", name, list, err)
		}
	}
}

// TestCloseLeavesTheNextDaemon: a daemon that ends late does not take the socket of its successor away.
func TestCloseLeavesTheNextDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmed.sock")
	first, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	second, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	defer second.Close()
	if err := first.Close(); err != nil {
		t.Error(err)
	}
	if _, err := Dial(t.Context(), path); err != nil {
		t.Error("the socket is gone:", err)
	}
}
