package haproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

const binary = "/usr/sbin/haproxy"

// instance is a private HAProxy on a free port, in a directory with a short name: unix sockets need one.
type instance struct {
	t      *testing.T
	dir    string // below it: haproxy.cfg, admin.sock and certs
	addr   string
	socket string
	cmd    *exec.Cmd
}

// options changes the configuration of an instance.
type options struct {
	crt      string // what the bind line names, below the directory; "" is the directory certs
	list     bool   // the bind line names a list with crt in it
	extra    string // more words for the bind line
	global   string // a line for the global section
	noSocket bool
	level    string // of the runtime socket; "" is admin
}

func start(t *testing.T, o options) *instance {
	t.Helper()
	h := prepare(t, o)
	h.run()
	return h
}

// prepare writes the configuration; certs holds a default certificate.
func prepare(t *testing.T, o options) *instance {
	t.Helper()
	if _, err := os.Stat(binary); err != nil {
		t.Skip("there is no HAProxy on this machine")
	}
	dir, err := os.MkdirTemp("", "hap")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	h := &instance{t: t, dir: dir, addr: freeAddr(t), socket: filepath.Join(dir, "admin.sock")}
	if err := os.Mkdir(h.path("certs"), 0o700); err != nil {
		t.Fatal(err)
	}
	h.write("certs/default.pem", installertest.Bundle(t, "default.example"))
	h.configure(o)
	return h
}

// configure writes the configuration.
func (h *instance) configure(o options) {
	t := h.t
	t.Helper()
	text, err := os.ReadFile("testdata/haproxy.cfg")
	if err != nil {
		t.Fatal(err)
	}
	socket := ""
	if o.noSocket {
		h.socket = ""
	} else {
		if o.level == "" {
			o.level = "admin"
		}
		socket = fmt.Sprintf("stats socket %s mode 600 level %s", h.socket, o.level)
	}
	if o.crt == "" {
		o.crt = "certs"
	}
	_, port, _ := net.SplitHostPort(h.addr)
	load := "crt " + h.path(o.crt)
	if o.list {
		if err := os.WriteFile(h.path("list.txt"), []byte(h.path("certs/default.pem")+"\n"+h.path(o.crt)+" www.example.com\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		load = "crt-list " + h.path("list.txt")
	}
	config := strings.NewReplacer("SOCKET", socket+"\n    "+o.global, "PORT", port, "crt CRT", load+" "+o.extra).Replace(string(text))
	if err := os.WriteFile(h.path("haproxy.cfg"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (h *instance) path(name string) string { return filepath.Join(h.dir, name) }

// write puts a combined file in place as an operator would.
func (h *instance) write(name string, b *certs.Bundle) {
	h.t.Helper()
	if err := os.WriteFile(h.path(name), append(b.FullChainPEM(), b.KeyPEM...), 0o600); err != nil {
		h.t.Fatal(err)
	}
}

// run starts HAProxy with a master process, as systemd does, and waits until it answers.
func (h *instance) run() {
	h.t.Helper()
	output, err := os.Create(h.path("output"))
	if err != nil {
		h.t.Fatal(err)
	}
	defer output.Close()
	h.cmd = exec.Command(binary, "-W", "-db", "-f", h.path("haproxy.cfg"))
	h.cmd.Stdout, h.cmd.Stderr = output, output
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := h.cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	h.t.Cleanup(h.stop)
	await.NoError(h.t, func() error {
		if err := h.answers(); err != nil {
			said, _ := os.ReadFile(output.Name())
			return fmt.Errorf("HAProxy does not answer: %w\n%s", err, said)
		}
		return nil
	})
}

// stop ends all processes of HAProxy.
func (h *instance) stop() {
	_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL)
	_ = h.cmd.Wait()
}

func (h *instance) answers() error {
	addrs := map[string]string{h.addr: "tcp"}
	if h.socket != "" {
		addrs[h.socket] = "unix"
	}
	for addr, network := range addrs {
		conn, err := net.Dial(network, addr)
		if err != nil {
			return err
		}
		conn.Close()
	}
	return nil
}

// config is that of a target for the file certs/www.pem.
func (h *instance) config() Config {
	return Config{
		File: h.path("certs/www.pem"), Socket: h.path("admin.sock"), Verify: []string{h.addr}, VerifyTimeout: 2 * time.Second,
		Reload: []string{"/bin/false"}, // a test in which HAProxy must not be reloaded
	}
}

// ask sends a line to the runtime socket.
func (h *instance) ask(command string) string {
	h.t.Helper()
	reply, err := api{h.socket}.call(h.t.Context(), command, nil)
	if err != nil {
		h.t.Fatal(err)
	}
	return reply
}

var pidLine = regexp.MustCompile(`(?m)^Pid: (\d+)$`)

// worker is the process that serves.
func (h *instance) worker() string {
	h.t.Helper()
	m := pidLine.FindStringSubmatch(h.ask("show info"))
	if m == nil {
		h.t.Fatal("HAProxy does not tell its process")
	}
	return m[1]
}

// hold opens a transaction for the default certificate, so that every other one is refused, or aborts it.
func (h *instance) hold(on bool) {
	h.t.Helper()
	if !on {
		h.ask("abort ssl cert " + h.path("certs/default.pem"))
		return
	}
	b := installertest.Bundle(h.t, "default.example")
	reply, err := api{h.socket}.call(context.Background(), "set ssl cert "+h.path("certs/default.pem"), append(b.FullChainPEM(), b.KeyPEM...))
	if err != nil || !strings.Contains(reply, "created") {
		h.t.Fatal(reply, err)
	}
}

// relay passes connections on to HAProxy, or to another server while it is diverted.
type relay struct {
	addr     string
	diverted atomic.Bool
}

func newRelay(t *testing.T, to, other string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			target := to
			if r.diverted.Load() {
				target = other
			}
			wg.Go(func() { pass(conn, target) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return r
}

func pass(client net.Conn, addr string) {
	defer client.Close()
	server, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer server.Close()
	go func() {
		_, _ = io.Copy(server, client)
		server.Close()
	}()
	_, _ = io.Copy(client, server)
}
