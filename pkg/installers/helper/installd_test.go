package helper

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
	"github.com/acmed/acmed/pkg/store"
)

// served is a web server that serves what the live paths hold when it is reloaded.
type served struct {
	live string

	mu    sync.Mutex
	chain string
	err   error         // the next Install fails with it, after the reload
	hold  chan struct{} // Install waits for it
	runs  atomic.Int32  // installs at the same time
}

func (s *served) Install(ctx context.Context, _ *certs.Bundle) error {
	if s.runs.Add(1) != 1 {
		panic("two installations at once")
	}
	defer s.runs.Add(-1)
	if s.hold != nil {
		select {
		case <-s.hold:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	text, err := os.ReadFile(s.live)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err == nil {
		s.chain = string(text)
	}
	failed := s.err
	s.err = nil
	return errors.Join(err, failed)
}

func (s *served) Verify(_ context.Context, b *certs.Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.chain != string(b.FullChainPEM()) || len(b.KeyPEM) == 0 {
		return errors.New("serves something else")
	}
	return nil
}

func (s *served) Preview(context.Context, *certs.Bundle) (string, error) { return "a diff", nil }

func (s *served) Notes(context.Context, *certs.Bundle) ([]string, error) {
	return []string{"one note", "another note"}, nil
}

func (s *served) Uninstall(context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.chain = ""
	return nil
}

// plain is an installer that can do nothing more.
type plain struct{ installers.Installer }

// helper is a running server with the target www for a.example.
type helper struct {
	t      *testing.T
	socket string
	store  *store.Store
	server *served
	logs   *observer.ObservedLogs
	stop   context.CancelFunc
	ended  chan error
}

func start(t *testing.T, change ...func(*ServerConfig)) *helper {
	t.Helper()
	state := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(state, 0o700); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(state)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	core, logs := observer.New(zapcore.DebugLevel)
	h := &helper{
		t: t, store: s, logs: logs, server: &served{live: store.PathsIn(s.Dir(), "www").FullChain}, ended: make(chan error, 1),
		socket: filepath.Join(t.TempDir(), "sock"),
	}
	names := []certs.Identifier{{Type: certs.DNS, Value: "a.example"}}
	c := ServerConfig{Log: zap.New(core), Targets: map[string]*Target{
		"www":   NewTarget("www", names, h.server, s, time.Now),
		"plain": NewTarget("plain", names, plain{h.server}, s, time.Now),
	}}
	for _, f := range change {
		f(&c)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: h.socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.socket, 0o666); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	h.stop = cancel
	go func() { h.ended <- NewServer(c).Run(ctx, l) }()
	t.Cleanup(cancel)
	return h
}

func (h *helper) client(target string) *Client {
	h.t.Helper()
	c, err := New(Config{Target: target, Socket: h.socket})
	if err != nil {
		h.t.Fatal(err)
	}
	return c
}

func (h *helper) want(err error, part string) {
	h.t.Helper()
	if part == "" && err != nil || part != "" && (err == nil || !strings.Contains(err.Error(), part)) {
		h.t.Fatalf("the error is %v, want %q", err, part)
	}
}

// noKey checks that no part of the keys got into the log.
func (h *helper) noKey(bundles ...*certs.Bundle) {
	h.t.Helper()
	text := fmt.Sprint(h.logs.All())
	for _, b := range bundles {
		for line := range strings.SplitSeq(string(b.KeyPEM), "\n") {
			if len(line) > 20 && !strings.HasPrefix(line, "-----") && strings.Contains(text, line) {
				h.t.Fatal("the log has a private key")
			}
		}
	}
}

func TestLife(t *testing.T) {
	h, ctx := start(t), t.Context()
	c := h.client("www")
	first, second := installertest.Bundle(t, "a.example"), installertest.Dual(t, "a.example")
	h.want(c.Verify(ctx, first), "has not got this certificate")
	diff, err := c.Preview(ctx, first)
	if err != nil || diff != "a diff" {
		t.Errorf("Preview = %q, %v", diff, err)
	}
	shorter := *first
	shorter.ChainPEM = nil
	for _, b := range []*certs.Bundle{first, first, &shorter, first, second} {
		h.want(c.Install(ctx, b), "")
		h.want(c.Verify(ctx, b), "")
		if have, err := h.store.Load("www"); err != nil || !have.Current.Presents(b) {
			t.Errorf("the copy has another chain than %s, %v", b.ChainPEM, err)
		}
	}
	h.want(c.Verify(ctx, first), "has not got this certificate")
	have, err := h.store.Load("www")
	if err != nil || len(have.Versions) != 2 || have.Current.RSA == nil {
		t.Errorf("the copies are %+v, %v", have, err)
	}
	if info, err := os.Stat(store.PathsIn(h.store.Dir(), "www").Key); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the key is %v, %v", info, err)
	}
	h.want(c.Uninstall(ctx), "")
	h.want(c.Uninstall(ctx), "")
	if _, err := os.Stat(filepath.Dir(store.PathsIn(h.store.Dir(), "www").Key)); !errors.Is(err, os.ErrNotExist) {
		t.Error("the copies are still there")
	}
	h.noKey(first, second, second.RSA)
}

func TestRefused(t *testing.T) {
	h, ctx := start(t), t.Context()
	good := installertest.Bundle(t, "a.example")
	without := *good
	without.KeyPEM = nil
	mixed := *good
	mixed.KeyPEM = installertest.Bundle(t, "a.example").KeyPEM
	twin := installertest.Dual(t, "a.example")
	twin.RSA = installertest.Bundle(t, "b.example")
	tests := []struct {
		name, target string
		b            *certs.Bundle
		err          string
	}{
		{"another name", "www", installertest.Bundle(t, "b.example"), "wrong names"},
		{"one name more", "www", installertest.Bundle(t, "a.example", "b.example"), "wrong names"},
		{"without a key", "www", &without, "without its private key"},
		{"another key", "www", &mixed, "does not belong"},
		{"another twin", "www", twin, "wrong names"},
		{"unknown target", "../etc", good, "has no target"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := h.client("www")
			c.target = tt.target
			h.want(c.Install(ctx, tt.b), tt.err)
			_, err := c.Preview(ctx, tt.b)
			h.want(err, tt.err)
			if h.server.chain != "" {
				t.Error("it was installed")
			}
		})
	}
	c := h.client("plain")
	if diff, err := c.Preview(ctx, good); err != nil || diff != installers.NoPreview {
		t.Errorf("Preview = %q, %v", diff, err)
	}
	h.want(c.Uninstall(ctx), "cannot be uninstalled")
	h.noKey(good)
}

func TestErrorsKeepTheirType(t *testing.T) {
	h, ctx := start(t), t.Context()
	c, b := h.client("www"), installertest.Bundle(t, "a.example")
	for range 2 {
		h.server.err = &installers.NotRunningError{Server: "nginx"}
		err := c.Install(ctx, b)
		if stopped := (*installers.NotRunningError)(nil); !errors.As(err, &stopped) || stopped.Server != "nginx" {
			t.Errorf("got %v", err)
		}
		h.server.err = &installers.LaterError{After: time.Minute, Err: errors.New("busy")}
		err = c.Install(ctx, b)
		if later := (*installers.LaterError)(nil); !errors.As(err, &later) || later.After != time.Minute || !strings.HasSuffix(err.Error(), ": busy") {
			t.Errorf("got %v", err)
		}
		h.server.err = &installers.BrokenServerError{Err: errors.New("line 7")}
		err = c.Install(ctx, b)
		if broken := (*installers.BrokenServerError)(nil); !errors.As(err, &broken) || broken.Err.Error() != "line 7" {
			t.Errorf("got %v", err)
		}
		h.server.err = advice.Tag(advice.ServerTestFailed, &installers.RefusedEditError{Err: errors.New("line 8")})
		err = c.Install(ctx, b)
		if refused := (*installers.RefusedEditError)(nil); !errors.As(err, &refused) || advice.Of(err) != advice.ServerTestFailed {
			t.Errorf("got %v", err)
		}
	}
	h.server.err = errors.New("\x1b[31mred")
	h.want(c.Install(ctx, b), `\u001b[31mred`)
}

// TestExamine: what the helper knows of its server reaches the daemon, without a certificate.
func TestExamine(t *testing.T) {
	var ready error
	h := start(t, func(c *ServerConfig) { c.Targets["www"].Ready = func(context.Context) error { return ready } })
	h.want(h.client("www").Examine(t.Context()), "")
	h.want(h.client("plain").Examine(t.Context()), "")
	h.want(h.client("gone").Examine(t.Context()), "has no target")
	ready = &installers.NotRunningError{Server: "nginx"}
	err := h.client("www").Examine(t.Context())
	if stopped := (*installers.NotRunningError)(nil); !errors.As(err, &stopped) || stopped.Server != "nginx" || h.server.runs.Load() != 0 {
		t.Errorf("got %v", err)
	}
}

// TestNotes: what the installer notes reaches the daemon.
func TestNotes(t *testing.T) {
	h, b := start(t), installertest.Bundle(t, "a.example")
	notes, err := h.client("www").Notes(t.Context(), b)
	if err != nil || !slices.Equal(notes, []string{"one note", "another note"}) {
		t.Errorf("notes %q, %v", notes, err)
	}
	if notes, err := h.client("plain").Notes(t.Context(), b); err != nil || len(notes) > 0 {
		t.Errorf("notes %q, %v of an installer that has none", notes, err)
	}
}

func TestFailureGoesBack(t *testing.T) {
	h, ctx := start(t), t.Context()
	c, first, second := h.client("www"), installertest.Bundle(t, "a.example"), installertest.Bundle(t, "a.example")
	h.want(c.Install(ctx, first), "")
	for range 2 {
		h.server.err = errors.New("the probe failed")
		h.want(c.Install(ctx, second), "the probe failed")
		h.want(c.Verify(ctx, first), "")
	}
	have, err := h.store.Load("www")
	if err != nil || len(have.Versions) != 2 {
		t.Errorf("the copies are %+v, %v", have, err)
	}
	h.want(c.Install(ctx, second), "")
	h.want(c.Verify(ctx, second), "")
}

func TestCallsTakeTurnsAndSurviveTheirClient(t *testing.T) {
	h := start(t)
	h.server.hold = make(chan struct{})
	c, b := h.client("www"), installertest.Bundle(t, "a.example")
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { h.want(c.Install(ctx, b), "context canceled") })
	}
	for h.server.runs.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	cancel()
	wg.Wait()
	close(h.server.hold)
	h.want(c.Install(t.Context(), b), "")
	h.want(c.Verify(t.Context(), b), "")
}

func TestStopWaitsForCalls(t *testing.T) {
	h := start(t)
	h.server.hold = make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- h.client("www").Install(t.Context(), installertest.Bundle(t, "a.example")) }()
	for h.server.runs.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	h.stop()
	select {
	case err := <-h.ended:
		t.Fatalf("stopped in the middle: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(h.server.hold)
	if err := errors.Join(<-done, <-h.ended); err != nil {
		t.Error(err)
	}
}

func TestIdle(t *testing.T) {
	h := start(t, func(c *ServerConfig) { c.Idle = 300 * time.Millisecond })
	h.server.hold = make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- h.client("www").Install(t.Context(), installertest.Bundle(t, "a.example")) }()
	select {
	case err := <-h.ended:
		t.Fatalf("ended while somebody was connected: %v", err)
	case <-time.After(time.Second):
	}
	close(h.server.hold)
	if err := errors.Join(<-done, <-h.ended); err != nil {
		t.Error(err)
	}
}

// TestRestart: calls that run end and later ones wait for the next helper.
func TestRestart(t *testing.T) {
	h := start(t)
	h.server.hold = make(chan struct{})
	done := make(chan error, 1)
	go func() { done <- h.client("www").Install(t.Context(), installertest.Bundle(t, "a.example")) }()
	for h.server.runs.Load() == 0 {
		time.Sleep(time.Millisecond)
	}
	if err := Restart(t.Context(), h.socket); err != nil {
		t.Fatal(err)
	}
	if conn, err := net.Dial("unix", h.socket); err == nil {
		_ = conn.Close()
		t.Error("the helper that ends takes another call")
	}
	select {
	case err := <-h.ended:
		t.Fatalf("ended in the middle of a call: %v", err)
	default:
	}
	close(h.server.hold)
	if err := errors.Join(<-done, <-h.ended); err != nil {
		t.Error(err)
	}
	h.want(Restart(t.Context(), h.socket), "systemctl enable --now acmed-installd.socket")
}

func TestNobody(t *testing.T) {
	if socket := os.Getenv("ASK_AS_NOBODY"); socket != "" {
		c, err := New(Config{Target: "www", Socket: socket})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Print(c.Uninstall(t.Context()))
		return
	}
	if os.Getuid() != 0 {
		t.Skip("only root can become somebody else")
	}
	ask := func(h *helper) string {
		if err := os.Chmod(filepath.Dir(h.socket), 0o755); err != nil {
			t.Fatal(err)
		}
		self := filepath.Join(filepath.Dir(h.socket), "test")
		if err := exec.CommandContext(t.Context(), "cp", os.Args[0], self).Run(); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), self, "-test.run", "^TestNobody$")
		cmd.Env = []string{"ASK_AS_NOBODY=" + h.socket}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if err := os.Chmod(filepath.Dir(t.TempDir()), 0o755); err != nil {
		t.Fatal(err)
	}
	h := start(t)
	if out := ask(h); !strings.Contains(out, "user 65534 may not use the helper") {
		t.Errorf("nobody got %q", out)
	}
	if h.logs.FilterMessage("connection refused").Len() != 1 {
		t.Error("the log does not say so")
	}
	if out := ask(start(t, func(c *ServerConfig) { c.Users = []int{65534} })); !strings.HasPrefix(out, "<nil>") {
		t.Errorf("an allowed user got %q", out)
	}
}

// TestHostileRequests: whatever comes, the answer is short and the next request is served.
func TestHostileRequests(t *testing.T) {
	h := start(t)
	post := func(path, body string) (int, string) {
		client := h.client("www").http
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x"+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil || len(text) > 1<<10 {
			t.Errorf("%d bytes, %v", len(text), err)
		}
		return resp.StatusCode, string(text)
	}
	large, err := json.Marshal(request{Target: "www", Bundle: &bundle{FullChain: strings.Repeat("x", 2*maxMessage)}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		path, body string
		status     int
	}{
		{"/v1/install", "", 403}, {"/v1/install", "{", 403}, {"/v1/install", `{"target":"www"}`, 403},
		{"/v1/install", `{"target":"www","path":"/etc/passwd"}`, 403}, {"/v1/install", string(large), 403},
		{"/v1/install", `{"target":"www","bundle":{"fullchain":"x","rsa":{"rsa":{}}}}`, 403},
		{"/v1/uninstall", `{"target":"www","bundle":{"fullchain":"x"}}`, 403},
		{"/v1/run", `{"target":"www"}`, 404}, {"/v1/install/../run", "{}", 404},
	} {
		if status, text := post(tt.path, tt.body); status != tt.status {
			t.Errorf("%s %.60s: %d %s", tt.path, tt.body, status, text)
		}
	}
	h.want(h.client("www").Install(t.Context(), installertest.Bundle(t, "a.example")), "")
}

func TestBroken(t *testing.T) {
	h := start(t, func(c *ServerConfig) { c.Broken, c.Targets = errors.New("line 7"), nil })
	h.want(h.client("www").Install(t.Context(), installertest.Bundle(t, "a.example")), "the helper cannot work: line 7")
}

func TestNoHelper(t *testing.T) {
	c, err := New(Config{Target: "www", Socket: filepath.Join(t.TempDir(), "none")})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Uninstall(t.Context()); err == nil || !strings.Contains(err.Error(), "systemctl enable --now acmed-installd.socket") {
		t.Errorf("got %v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		c   Config
		err string
	}{
		{Config{Target: "www"}, ""},
		{Config{Target: "www", Socket: "/run/x"}, ""},
		{Config{}, "target: "},
		{Config{Target: "../x", Socket: "x"}, "socket: "},
	} {
		if _, err := New(tt.c); (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
			t.Errorf("%+v: %v", tt.c, err)
		}
	}
}
