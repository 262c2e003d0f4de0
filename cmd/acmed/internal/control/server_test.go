package control

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/notify"
)

// fake answers status and renew; nothing asks it for more.
type fake struct {
	Backend
	asked atomic.Int32
	renew func(progress func(Progress)) (Report, error)
}

func (f *fake) Status(context.Context, StatusRequest) (Status, error) {
	f.asked.Add(1)
	return Status{Version: Version}, nil
}

func (f *fake) Renew(_ context.Context, _ RenewRequest, progress func(Progress)) (Report, error) {
	f.asked.Add(1)
	return f.renew(progress)
}

// serve starts a server in a directory that everybody may enter.
func serve(t *testing.T, b Backend) (path string, server *Server) {
	t.Helper()
	dir := t.TempDir()
	if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Dir(dir), 0o755)); err != nil {
		t.Fatal(err)
	}
	return serveIn(t, b, dir)
}

func serveIn(t *testing.T, b Backend, dir string) (path string, server *Server) {
	t.Helper()
	path = filepath.Join(dir, "acmed.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	server = NewServer(b, zap.NewNop())
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.http.Close()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return path, server
}

// connect opens a connection that ends with the test, if not before.
func connect(t *testing.T, path string) net.Conn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return conn
}

const question = "POST /v1/status HTTP/1.1\r\nHost: acmed\r\nContent-Length: 2\r\n\r\n{}"

func TestTooMuch(t *testing.T) {
	t.Parallel()
	backend := &fake{}
	path, _ := serve(t, backend)
	client, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	name := func(n int) StatusRequest { return StatusRequest{Names: []string{strings.Repeat("a", n)}} }
	if _, err := client.Status(t.Context(), name(MaxRequest-100)); err != nil {
		t.Error("a request of the greatest length:", err)
	}
	var refused *Error
	if _, err := client.Status(t.Context(), name(MaxRequest)); !errors.As(err, &refused) || refused.Code != CodeUsage {
		t.Error("a request that is too long:", err)
	}
	conn := connect(t, path)
	if _, err := io.WriteString(conn, "POST /v1/status HTTP/1.1\r\nX: "+strings.Repeat("a", 16<<10)); err != nil {
		t.Fatal(err)
	}
	if answer, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || answer.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header that is too long: %v, %v", answer, err)
	} else {
		_ = answer.Body.Close()
	}
	if n := backend.asked.Load(); n != 1 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// TestEndless: of a body without an end, no more is read than the limit and what the socket holds.
func TestEndless(t *testing.T) {
	t.Parallel()
	path, _ := serve(t, &fake{})
	conn := connect(t, path)
	if _, err := fmt.Fprintf(conn, "POST /v1/status HTTP/1.1\r\nHost: acmed\r\nContent-Length: %d\r\n\r\n{\"names\":[\"", 1<<40); err != nil {
		t.Fatal(err)
	}
	block, sent := []byte(strings.Repeat("a", 64<<10)), 0
	for sent < 8*MaxRequest {
		n, err := conn.Write(block)
		sent += n
		if err != nil {
			t.Logf("%d KiB were taken", sent>>10)
			return
		}
	}
	t.Errorf("%d MiB were read of a request without an end", sent>>20)
}

// TestHalf: who does not finish a request is not waited for.
func TestHalf(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		sent string
		most time.Duration
	}{
		"half a header": {"POST /v1/status HTTP/1.1\r\nHost: ac", headerTime},
		"half a body":   {"POST /v1/status HTTP/1.1\r\nHost: acmed\r\nContent-Length: 100\r\n\r\n{\"names\":", 2 * headerTime},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			backend := &fake{}
			path, _ := serve(t, backend)
			conn, begun := connect(t, path), time.Now()
			if _, err := io.WriteString(conn, tt.sent); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, conn); err != nil {
				t.Error(err)
			}
			if took := time.Since(begun); took < tt.most/2 || took > tt.most+time.Minute {
				t.Errorf("it ended after %s, want %s", took, tt.most)
			}
			if n := backend.asked.Load(); n != 0 {
				t.Error("half a request was obeyed")
			}
		})
	}
}

// TestCrowd: who comes when the house is full waits, and is answered when somebody leaves.
func TestCrowd(t *testing.T) {
	t.Parallel()
	backend := &fake{}
	path, _ := serve(t, backend)
	crowd := make([]net.Conn, maxConns)
	for i := range crowd {
		crowd[i] = connect(t, path)
	}
	late := connect(t, path)
	if _, err := io.WriteString(late, question); err != nil {
		t.Fatal(err)
	}
	if err := late.SetReadDeadline(time.Now().Add(500 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if n, err := late.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || backend.asked.Load() != 0 {
		t.Fatalf("connection %d got %d bytes, %v", maxConns+1, n, err)
	}
	_ = crowd[0].Close()
	if err := late.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	answer, err := http.ReadResponse(bufio.NewReader(late), nil)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%v, %v", answer, err)
	}
	_ = answer.Body.Close()
}

// TestDeaf: a client that reads nothing holds up no work, and its connection ends.
func TestDeaf(t *testing.T) {
	t.Parallel()
	worked := make(chan struct{})
	backend := &fake{renew: func(progress func(Progress)) (Report, error) {
		defer close(worked)
		for range 3 * streamQueue {
			progress(Progress{Certificate: strings.Repeat("a", 1<<10)})
		}
		return Report{}, nil
	}}
	path, server := serve(t, backend)
	conn := connect(t, path)
	if _, err := io.WriteString(conn, strings.Replace(question, "status", "renew", 1)); err != nil {
		t.Fatal(err)
	}
	select {
	case <-worked:
	case <-time.After(2 * time.Minute):
		t.Fatal("the work waits for the client")
	}
	ctx, cancel := context.WithTimeout(t.Context(), writeTime+time.Minute)
	defer cancel()
	if err := server.Shutdown(ctx); err != nil {
		t.Error("the answer has not ended:", err)
	}
}

// TestStranger: a user who is neither root, nor the daemon's, nor in the socket's group gets nothing but the reason, even
// when the socket's mode lets everybody in.
func TestStranger(t *testing.T) {
	t.Parallel()
	if os.Getuid() != 0 {
		t.Skip("another user is needed, which root alone can become")
	}
	const nobody = 65534
	backend := &fake{}
	path, _ := serve(t, backend)
	var refused *Error
	as(t, nobody, nobody, func() {
		if _, err := Dial(t.Context(), path); !errors.As(err, &refused) || refused.Code != CodePermission {
			t.Error("the mode lets a stranger in:", err)
		}
	})
	if err := os.Chmod(path, 0o666); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct{ uid, gid, want int }{
		"a stranger": {nobody, nobody, http.StatusForbidden},
		"the group":  {nobody, os.Getegid(), http.StatusOK},
		"root":       {0, nobody, http.StatusOK},
	} {
		var conn net.Conn
		as(t, tt.uid, tt.gid, func() { conn = connect(t, path) })
		if _, err := io.WriteString(conn, question); err != nil {
			t.Fatal(err)
		}
		answer, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || answer.StatusCode != tt.want {
			t.Errorf("%s: %v, %v, want %d", name, answer, err, tt.want)
			continue
		}
		body, err := io.ReadAll(answer.Body)
		if denied := strings.Contains(string(body), "user 65534 may not control acmed"); err != nil || denied != (tt.want == http.StatusForbidden) {
			t.Errorf("%s: %s, %v", name, body, err)
		}
		_ = answer.Body.Close()
	}
	if n := backend.asked.Load(); n != 2 {
		t.Errorf("the backend was asked %d times", n)
	}
}

// as does something as another user, in a thread of its own that ends afterwards.
func as(t *testing.T, uid, gid int, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		for _, call := range []struct {
			number uintptr
			id     int
		}{{syscall.SYS_SETRESGID, gid}, {syscall.SYS_SETRESUID, uid}} {
			if _, _, errno := syscall.RawSyscall(call.number, uintptr(call.id), uintptr(call.id), uintptr(call.id)); errno != 0 {
				t.Error(errno)
				return
			}
		}
		do()
	}()
	<-done
}

// following has one event, and then an error for the reader.
type following struct{ Backend }

func (following) Events(_ context.Context, r EventsRequest, event func(notify.Event) error) error {
	if err := event(notify.Event{Kind: notify.Obtained, Time: r.Since}); err != nil {
		return err
	}
	return &Error{Code: CodeSlow, Message: "events were lost"}
}

// TestEvents: what a reader is told passes over the socket, and so does why it ends.
func TestEvents(t *testing.T) {
	path, _ := serve(t, following{})
	c, err := Dial(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	since := time.Date(2026, 12, 20, 8, 0, 0, 0, time.UTC)
	var got []notify.Event
	err = c.Events(t.Context(), EventsRequest{Since: since}, func(e notify.Event) error { got = append(got, e); return nil })
	var answer *Error
	if !errors.As(err, &answer) || answer.Code != CodeSlow || len(got) != 1 || !got[0].Time.Equal(since) {
		t.Errorf("%v, %v", got, err)
	}
	enough := errors.New("enough")
	if err := c.Events(t.Context(), EventsRequest{}, func(notify.Event) error { return enough }); !errors.Is(err, enough) {
		t.Error(err)
	}
}
