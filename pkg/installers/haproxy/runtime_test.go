package haproxy

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeSocket answers each connection with the bytes of reply, or never.
func fakeSocket(t *testing.T, reply func(net.Conn)) api {
	t.Helper()
	dir, err := os.MkdirTemp("", "hap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reply(conn)
			}()
		}
	}()
	return api{l.Addr().String()}
}

func TestHostileSocket(t *testing.T) {
	flood := strings.Repeat("x", 1<<20)
	a := fakeSocket(t, func(c net.Conn) {
		for {
			if _, err := c.Write([]byte(flood)); err != nil {
				return
			}
		}
	})
	if _, err := a.list(t.Context()); err == nil || !strings.Contains(err.Error(), "more than") || len(err.Error()) > 1000 {
		t.Errorf("a flood: %.200v", err)
	}
	a = fakeSocket(t, func(c net.Conn) { _, _ = c.Read(make([]byte, 1)); time.Sleep(time.Minute) })
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := a.list(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("silence: %v", err)
	}
	a = fakeSocket(t, func(c net.Conn) { _, _ = c.Write([]byte("\x1b[2J\x00 what?\n\n")) })
	if err := a.replace(t.Context(), "/a.pem", []byte("x")); err == nil || strings.ContainsAny(err.Error(), "\x1b\x00") {
		t.Errorf("control characters: %q", err)
	}
	a = fakeSocket(t, func(c net.Conn) {
		_, _ = c.Read(make([]byte, 100))
		_, _ = c.Write([]byte("Unknown command: 'show ssl cert'\n\n"))
	})
	var none *unavailableError
	if _, err := a.list(t.Context()); !errors.As(err, &none) {
		t.Errorf("an old HAProxy: %v", err)
	}
	if _, err := (api{filepath.Join(t.TempDir(), "none")}).list(t.Context()); !errors.As(err, &none) {
		t.Errorf("no socket: %v", err)
	}
}

func TestNotLoaded(t *testing.T) {
	have := []string{"/1.pem", "/2.pem", "/3.pem", "/4.pem", "/5.pem", "/6.pem", "/etc/haproxy/www.pem"}
	if text := notLoaded("/srv/www.pem", have).Error(); !strings.Contains(text, "it has /etc/haproxy/www.pem, /1.pem") || !strings.Contains(text, "and 2 more") {
		t.Error(text)
	}
	if text := notLoaded("/srv/www.pem", nil).Error(); !strings.Contains(text, "it has none") {
		t.Error(text)
	}
}

func TestValidate(t *testing.T) {
	c := Config{
		File: "www.pem", Name: "a b", Socket: "s", Owner: "-x", Mode: "0644", Unit: "a b", Reload: []string{"systemctl"},
		Timeout: 1, VerifyTimeout: -1, Verify: []string{"x"},
	}
	err := c.Validate()
	for _, key := range []string{"file", "name", "socket", "owner", "mode", "unit", "timeout", "verify_timeout", "verify"} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+key+": ") {
			t.Errorf("nothing about %s in %v", key, err)
		}
	}
	if err := (&Config{File: "/a.pem", Reload: []string{"systemctl"}}).Validate(); err == nil || !strings.HasPrefix(err.Error(), "reload: ") {
		t.Error(err)
	}
	for _, file := range []string{"/etc/haproxy/a b.pem", "/etc/haproxy/a;b.pem", "/etc/haproxy/a\nb.pem", `/etc/haproxy/a\b.pem`, "/etc/haproxy/"} {
		if (&Config{File: file}).Validate() == nil {
			t.Errorf("%q was accepted", file)
		}
	}
	if err := (&Config{File: "/etc/haproxy/certs/www.pem"}).Validate(); err != nil {
		t.Error(err)
	}
	a, b := Config{File: "/a.pem"}, Config{File: "/b.pem", Socket: "/run/haproxy/admin.sock"}
	if a.ServerKey() != b.ServerKey() {
		t.Error("two files of one HAProxy have two servers")
	}
}
