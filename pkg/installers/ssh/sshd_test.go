package ssh

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
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

// machine is an OpenSSH server on a free port of 127.0.0.1 that root may log in to, with a directory for certificates.
type machine struct {
	t        *testing.T
	dir      string // below it: sshd.conf, keys and certs
	port     int
	output   lockedBuffer
	sessions func() int // how many clients have logged in
}

type lockedBuffer struct {
	mu   sync.Mutex
	kept bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept.Write(p)
}

func (b *lockedBuffer) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept.String()
}

// options changes the server.
type options struct {
	noSFTP bool
	small  bool // certs is a file system of 64 kB
	fixed  bool // certs is a file system that is read-only
}

func newMachine(t *testing.T, o options) *machine {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("only root can run a machine of its own")
	}
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Skip("there is no OpenSSH server on this machine")
	}
	m := &machine{t: t, dir: t.TempDir()}
	m.sessions = func() int { return strings.Count(m.output.text(), "Accepted publickey") }
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	m.port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	m.keygen("login")
	m.keygen("host")
	if err := os.Mkdir(m.path("certs"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.known("host")
	conf := fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %s\nAuthorizedKeysFile %s\nUsePAM no\nStrictModes no\nPidFile none\n"+
		"PermitRootLogin prohibit-password\nPasswordAuthentication no\nLogLevel VERBOSE\nMaxStartups 100\n", m.port, m.path("host"), m.path("login.pub"))
	if !o.noSFTP {
		conf += "Subsystem sftp internal-sftp\n"
	}
	m.write("sshd.conf", conf)
	// The server wants an empty directory below /run; it gets a /run of its own.
	script := `mount -t tmpfs none /run && mkdir -m 755 /run/sshd && `
	if o.small {
		script += `mount -t tmpfs -o size=64k none ` + m.path("certs") + ` && `
	}
	if o.fixed {
		script += `mount -t tmpfs -o ro none ` + m.path("certs") + ` && `
	}
	m.start(script + `exec /usr/sbin/sshd -D -e -f ` + m.path("sshd.conf"))
	return m
}

func (m *machine) start(script string) {
	m.t.Helper()
	cmd := exec.Command("/usr/bin/unshare", "-m", "/bin/sh", "-c", script)
	cmd.Stdout, cmd.Stderr, cmd.WaitDelay = &m.output, &m.output, 500*time.Millisecond // sessions keep them open
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	})
	await.NoError(m.t, func() error {
		conn, err := net.Dial("tcp", m.addr())
		if err != nil {
			return fmt.Errorf("sshd does not answer: %w\n%s", err, m.output.text())
		}
		return conn.Close()
	})
}

func (m *machine) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(m.port)) }

func (m *machine) path(name string) string { return filepath.Join(m.dir, name) }

func (m *machine) write(name, content string) {
	m.t.Helper()
	if err := os.WriteFile(m.path(name), []byte(content), 0o600); err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) read(name string) string {
	m.t.Helper()
	content, err := os.ReadFile(m.path(name))
	if err != nil {
		m.t.Fatal(err)
	}
	return string(content)
}

func (m *machine) keygen(name string, more ...string) {
	m.t.Helper()
	if len(more) == 0 {
		more = []string{"-t", "ed25519", "-N", ""}
	}
	if out, err := exec.Command("/usr/bin/ssh-keygen", append(more, "-q", "-f", m.path(name))...).CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
}

// known makes a key the one that is known of the machine.
func (m *machine) known(key string) {
	m.t.Helper()
	m.write("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s", m.port, m.read(key+".pub")))
}

func (m *machine) fingerprint(key string) string {
	m.t.Helper()
	out, err := exec.Command("/usr/bin/ssh-keygen", "-lf", m.path(key+".pub")).Output()
	if err != nil {
		m.t.Fatal(err)
	}
	return strings.Fields(string(out))[1]
}

// config is that of a target in the directory certs.
func (m *machine) config() Config {
	return Config{Host: m.addr(), User: "root", KnownHosts: m.path("known_hosts"), KeyFile: m.path("login"), Dir: m.path("certs")}
}

func secret(path string) (certs.Secret, error) {
	text, err := os.ReadFile(path)
	return certs.Secret(bytes.TrimSpace(text)), err
}

func (m *machine) target(c Config) *Installer {
	m.t.Helper()
	target, _, _ := installertest.Live(m.t, "www.example.com")
	p, err := New(c, target, NewHost(c, secret))
	if err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() { p.host.mu.Lock(); p.host.drop(); p.host.mu.Unlock() })
	return p
}

// link passes connections on to a machine until it is cut: at once, or after so many bytes to the machine.
type link struct {
	addr string
	left atomic.Int64
	cut  atomic.Bool

	mu    sync.Mutex
	conns []net.Conn
}

func newLink(t *testing.T, to string) *link {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	k := &link{addr: l.Addr().String()}
	k.left.Store(1 << 60)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { k.pass(conn, to) })
		}
	})
	t.Cleanup(func() { l.Close(); k.sever(); wg.Wait() })
	return k
}

// sever ends all connections and takes no more.
func (k *link) sever() {
	k.cut.Store(true)
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range k.conns {
		c.Close()
	}
	k.conns = nil
}

func (k *link) pass(client net.Conn, to string) {
	defer client.Close()
	server, err := net.Dial("tcp", to)
	if err != nil || k.cut.Load() {
		return
	}
	defer server.Close()
	k.mu.Lock()
	k.conns = append(k.conns, client, server)
	k.mu.Unlock()
	go func() {
		_, _ = io.Copy(client, server)
		client.Close()
	}()
	buf := make([]byte, 1024)
	for {
		n, err := client.Read(buf)
		if err != nil {
			return
		}
		if k.left.Add(int64(-n)) < 0 {
			k.sever()
			return
		}
		if _, err := server.Write(buf[:n]); err != nil {
			return
		}
	}
}
