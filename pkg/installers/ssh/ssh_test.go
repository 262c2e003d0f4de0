package ssh

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// server is a TLS server that reads its certificate when it is reloaded.
type server struct {
	m     *machine
	addr  string
	mu    sync.Mutex
	seen  int
	hung  bool
	pairs []tls.Certificate
}

const reloadScript = `if test -e "$0/broken"; then echo "cannot reload" >&2; exit 3; fi; echo reload >>"$0/reloads"`

func newServer(m *machine) *server {
	s := &server{m: m}
	var err error
	if s.pairs, err = installertest.KeyPairs(installertest.Bundle(m.t, "default.example")); err != nil {
		m.t.Fatal(err)
	}
	s.addr = installertest.Serve(m.t, s.load).Addr
	return s
}

func (s *server) reloads() int {
	text, err := os.ReadFile(s.m.path("reloads"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.m.t.Error(err)
	}
	return strings.Count(string(text), "\n")
}

func (s *server) load() ([]tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.reloads(); n != s.seen && !s.hung {
		s.seen = n
		if pair, err := tls.LoadX509KeyPair(s.m.path("certs/fullchain.pem"), s.m.path("certs/privkey.pem")); err == nil {
			s.pairs = []tls.Certificate{pair}
		}
	}
	return s.pairs, nil
}

func (s *server) hang(hung bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung = hung
}

func (s *server) breakReload(broken bool) {
	if broken {
		s.m.write("broken", "")
	} else if err := os.Remove(s.m.path("broken")); err != nil {
		s.m.t.Fatal(err)
	}
}

func (s *server) config() Config {
	c := s.m.config()
	c.Reload = []string{"/bin/sh", "-c", reloadScript, s.m.dir}
	c.Verify, c.VerifyWait = []string{s.addr}, 200*time.Millisecond
	return c
}

// TestConformance runs the suite against an OpenSSH server with SFTP and without, on an empty directory and on one with files
// that somebody else made.
func TestConformance(t *testing.T) {
	for name, o := range map[string]options{"SFTP": {}, "shell": {noSFTP: true}} {
		t.Run(name, func(t *testing.T) {
			installertest.Run(t, func(t *testing.T) installertest.Fixture {
				m := newMachine(t, o)
				if o.noSFTP {
					m.write("certs/fullchain.pem", "an older certificate\n")
					m.write("certs/privkey.pem", "an older key\n\n")
				}
				s := newServer(m)
				target, publish, state := installertest.Live(t, "www.example.com")
				c := s.config()
				c.FullChain, c.Key = "fullchain.pem", "privkey.pem"
				p, err := New(c, target, NewHost(c, secret))
				if err != nil {
					t.Fatal(err)
				}
				return installertest.Fixture{
					Installer: p, Names: []string{"www.example.com"}, Root: m.path("certs"), State: state, Publish: publish, Reloads: s.reloads,
					Break:   map[installertest.Step]func(bool){installertest.Reload: s.breakReload, installertest.Probe: s.hang},
					Comment: "# renewed by hand",
				}
			})
		})
	}
}

func mustInstall(t *testing.T, p *Installer, b *certs.Bundle) {
	t.Helper()
	if err := errors.Join(p.Install(t.Context(), b), p.Verify(t.Context(), b)); err != nil {
		t.Fatal(err)
	}
}

// TestHostKey: only the pinned key is accepted, by known_hosts and by fingerprint, and nothing is sent to another machine.
func TestHostKey(t *testing.T) {
	m := newMachine(t, options{})
	m.keygen("other")
	m.keygen("rsa", "-t", "rsa", "-b", "2048", "-N", "")
	b := installertest.Bundle(t, "www.example.com")
	good := m.config()
	by := m.config()
	by.KnownHosts, by.HostKey = "", m.fingerprint("host")
	for name, c := range map[string]Config{"known_hosts": good, "fingerprint": by} {
		p := m.target(c)
		mustInstall(t, p, b)
		if err := p.Uninstall(t.Context()); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	before := m.sessions()
	changed, unknown := m.config(), m.config()
	changed.KnownHosts, unknown.KnownHosts = m.path("changed"), m.path("unknown")
	m.write("changed", fmt.Sprintf("[127.0.0.1]:%d %s", m.port, m.read("other.pub")))
	m.write("unknown", "elsewhere.example "+m.read("host.pub"))
	another := m.config()
	another.KnownHosts = m.path("kind")
	m.write("kind", fmt.Sprintf("[127.0.0.1]:%d %s", m.port, m.read("rsa.pub")))
	by.HostKey = m.fingerprint("other")
	open := m.config()
	open.KnownHosts = m.path("open")
	m.write("open", m.read("known_hosts"))
	if err := os.Chmod(m.path("open"), 0o666); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		c    Config
		want string
	}{
		"changed":              {changed, m.fingerprint("other")},
		"not in the file":      {unknown, "none in"},
		"another kind of key":  {another, "host key"},
		"another fingerprint":  {by, m.fingerprint("host")},
		"writable by everyone": {open, "can be changed by others"},
	} {
		err := m.target(tt.c).Install(t.Context(), b)
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
	}
	if m.sessions() != before {
		t.Error("somebody logged in to a machine with another key")
	}
	if entries, err := os.ReadDir(m.path("certs")); err != nil || len(entries) > 0 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

// TestExamine: a directory that is missing or cannot be written to, and another host key, are found before there is a
// certificate, and nothing is written for it.
func TestExamine(t *testing.T) {
	for name, o := range map[string]options{"SFTP": {}, "shell": {noSFTP: true}, "read-only": {fixed: true}, "read-only, shell": {fixed: true, noSFTP: true}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, o)
			missing, other := m.config(), m.config()
			missing.Dir = m.path("missing")
			other.KnownHosts, other.HostKey = "", "SHA256:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
			want := ""
			if o.fixed {
				want = m.path("certs") + ": permission denied"
			}
			for _, tt := range []struct {
				c    Config
				want string
			}{{m.config(), want}, {missing, m.path("missing") + ": file does not exist"}, {other, "is pinned"}} {
				err := m.target(tt.c).Examine(t.Context())
				if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
					t.Errorf("%v, want %q", err, tt.want)
				}
			}
			if entries, err := os.ReadDir(m.path("certs")); err != nil || len(entries) > 0 {
				t.Errorf("the directory has %v, %v", entries, err)
			}
		})
	}
}

// TestOneConnection: twenty certificates for one machine log in once and run few commands.
func TestOneConnection(t *testing.T) {
	m := newMachine(t, options{})
	s := newServer(m)
	c := s.config()
	c.Verify = nil
	host := NewHost(c, secret)
	shared := NewServer(c, host)
	var wg sync.WaitGroup
	for i := range 20 {
		one := c
		one.Dir = m.path(fmt.Sprintf("certs/%d", i))
		if err := os.Mkdir(one.Dir, 0o755); err != nil {
			t.Fatal(err)
		}
		target, _, _ := installertest.Live(t, "www.example.com")
		target.Server = shared
		p, err := New(one, target, host)
		if err != nil {
			t.Fatal(err)
		}
		b := installertest.Bundle(t, "www.example.com")
		wg.Go(func() {
			if err := p.Install(t.Context(), b); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	host.mu.Lock()
	host.drop()
	host.mu.Unlock()
	if n := m.sessions(); n != 1 {
		t.Errorf("%d logins", n)
	}
	if n := s.reloads(); n < 1 || n > 3 {
		t.Errorf("%d reloads", n)
	}
}

// TestFullDisk: what does not fit leaves nothing behind, and the files of before.
func TestFullDisk(t *testing.T) {
	for name, o := range map[string]options{"SFTP": {small: true}, "shell": {small: true, noSFTP: true}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, o)
			p := m.target(m.config())
			first := installertest.Bundle(t, "www.example.com")
			mustInstall(t, p, first)
			state, err := p.host.exec("dd if=/dev/zero of=" + m.path("certs/filler") + " bs=1k count=64 2>/dev/null; ls -A " + m.path("certs"))
			if err != nil {
				t.Fatal(err)
			}
			err = p.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
			if err == nil {
				t.Fatal("installed on a full disk")
			}
			if err := p.Verify(t.Context(), first); err != nil {
				t.Errorf("the old files: %v", err)
			}
			now, err := p.host.exec("ls -A " + m.path("certs"))
			if diff := cmp.Diff(state, now); err != nil || diff != "" {
				t.Errorf("files (-before +after): %v\n%s", err, diff)
			}
			if _, err := p.host.exec("rm " + m.path("certs/filler")); err != nil {
				t.Fatal(err)
			}
			mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
		})
	}
}

// exec runs a command line and returns its output.
func (h *Host) exec(line string) (output string, err error) {
	err = h.with(func(c *connection) error {
		text, err := c.exec(line, nil)
		output = string(text)
		return err
	})
	return output, err
}

// TestCutConnection cuts the connection after every so many bytes of a renewal. Once the machine can be reached again, the files
// are those of before or the new ones, all of one certificate, and nothing else is there.
func TestCutConnection(t *testing.T) {
	for name, o := range map[string]options{"SFTP": {}, "shell": {noSFTP: true}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, o)
			first, second := installertest.Bundle(t, "www.example.com"), installertest.Bundle(t, "www.example.com")
			direct := m.config()
			direct.FullChain, direct.Key = "fullchain.pem", "privkey.pem"
			for bytes := int64(2700); bytes < 16000; bytes += 2500 {
				through := newLink(t, m.addr())
				c := direct
				c.Host = through.addr
				m.write("known_hosts", fmt.Sprintf("[127.0.0.1]:%d %s[127.0.0.1]:%s %s", m.port, m.read("host.pub"), strings.Split(through.addr, ":")[1], m.read("host.pub")))
				target, _, _ := installertest.Live(t, "www.example.com")
				p, err := New(direct, target, NewHost(direct, secret))
				if err != nil {
					t.Fatal(err)
				}
				mustInstall(t, p, first)
				cut, err := New(c, target, NewHost(c, secret))
				if err != nil {
					t.Fatal(err)
				}
				through.left.Store(bytes)
				err = cut.Install(t.Context(), second)
				if err != nil {
					if away := (*change.UnreachableError)(nil); !errors.As(err, &away) {
						t.Errorf("after %d bytes: %v", bytes, err)
					}
					if err := p.Recover(t.Context()); err != nil {
						t.Fatalf("after %d bytes: %v", bytes, err)
					}
					if err := p.Verify(t.Context(), first); err != nil {
						t.Errorf("after %d bytes, the old files: %v", bytes, err)
					}
				} else if err := p.Verify(t.Context(), second); err != nil {
					t.Errorf("after %d bytes, the new files: %v", bytes, err)
				}
				mustInstall(t, p, second)
				if err := p.Uninstall(t.Context()); err != nil {
					t.Error(err)
				}
				entries, err := os.ReadDir(m.path("certs"))
				if err != nil || len(entries) > 0 {
					t.Errorf("after %d bytes: left %v, %v", bytes, entries, err)
				}
			}
		})
	}
}

// TestOwnerAndMode: a key gets its owner before its mode, and what a group was given stays.
func TestOwnerAndMode(t *testing.T) {
	for name, o := range map[string]options{"SFTP": {}, "shell": {noSFTP: true}} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t, o)
			c := m.config()
			c.Owner, c.Group = "4711", "4712"
			p := m.target(c)
			mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
			for file, mode := range map[string]fs.FileMode{"privkey.pem": 0o640, "fullchain.pem": 0o644} {
				info, err := os.Stat(m.path("certs/" + file))
				if err != nil {
					t.Fatal(err)
				}
				st := info.Sys().(*syscall.Stat_t)
				if info.Mode() != mode || st.Uid != 4711 || st.Gid != 4712 {
					t.Errorf("%s: %v of %d:%d", file, info.Mode(), st.Uid, st.Gid)
				}
			}
			if err := os.Symlink("/etc/passwd", m.path("certs/x")); err != nil {
				t.Fatal(err)
			}
			c.Cert, c.Owner, c.Group = "x", "", ""
			if err := m.target(c).Install(t.Context(), installertest.Bundle(t, "www.example.com")); err == nil || !strings.Contains(err.Error(), "not a regular file") {
				t.Errorf("a link: %v", err)
			}
		})
	}
}

// TestLogin: keys that cannot be used say why, and a refused login changes nothing.
func TestLogin(t *testing.T) {
	m := newMachine(t, options{})
	m.keygen("locked", "-t", "ed25519", "-N", "correct horse")
	m.keygen("stranger")
	m.write("garbage", "no key")
	for file, want := range map[string]string{
		"locked": "has a passphrase", "stranger": "unable to authenticate", "garbage": "has no private key", "nowhere": "no such file",
	} {
		c := m.config()
		c.KeyFile = m.path(file)
		err := m.target(c).Install(t.Context(), installertest.Bundle(t, "www.example.com"))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "correct horse") {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

// TestReloadCommand: words reach the program as they are, and its failure is shown.
func TestReloadCommand(t *testing.T) {
	m := newMachine(t, options{})
	c := m.config()
	odd := `it's "$HOME" $(id) ; * \ é`
	c.Reload = []string{"/bin/sh", "-c", `printf %s "$1" >"$2"; echo "said $1" >&2; exit 7`, "sh", odd, m.path("said")}
	p := m.target(c)
	err := p.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
	var failed *installers.CommandError
	if !errors.As(err, &failed) || failed.ExitCode != 7 || !strings.Contains(failed.Output, "said it's") {
		t.Errorf("Install = %v", err)
	}
	if got := m.read("said"); got != odd {
		t.Errorf("the program got %q", got)
	}
	if entries, err := os.ReadDir(m.path("certs")); err != nil || len(entries) > 0 {
		t.Errorf("left %v, %v", entries, err)
	}
}

func TestValidate(t *testing.T) {
	c := Config{
		Host: "a b", User: "-x", KeyFile: "key", Dir: "tls", Cert: "../x", Owner: "root", Group: "ssl-cert", Mode: "0644",
		Reload: []string{""}, Timeout: 1, Verify: []string{"x"}, VerifyWait: -1,
	}
	err := c.Validate()
	for _, key := range []string{"host", "user", "known_hosts", "key_file", "dir", "cert", "owner", "group", "mode", "reload", "timeout", "verify", "verify_wait"} {
		if err == nil || !strings.Contains("\n"+err.Error(), "\n"+key+": ") {
			t.Errorf("nothing about %s in %v", key, err)
		}
	}
	good := Config{Host: "nas", User: "acmed", HostKey: "SHA256:" + strings.Repeat("a", 43), Agent: "/run/agent", Dir: "/etc/tls"}
	if err := good.Validate(); err != nil {
		t.Error(err)
	}
	for _, c := range []Config{
		{Host: "nas", User: "x", KnownHosts: "/k", HostKey: "SHA256:x", KeyFile: "/k", Dir: "/d"},
		{Host: "nas", User: "x", KnownHosts: "/k", KeyFile: "/k", Agent: "/a", Dir: "/d"},
		{Host: "nas:0", User: "x", KnownHosts: "/k", KeyFile: "/k", Dir: "/d"},
	} {
		if c.Validate() == nil {
			t.Errorf("%+v was accepted", c)
		}
	}
}
