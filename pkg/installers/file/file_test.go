package file

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// reloadScript notes a reload in $0/reloads, or fails when $0/broken is there.
const reloadScript = `if test -e "$0/broken"; then echo "cannot reload" >&2; exit 1; fi; echo reload >>"$0/reloads"`

// server is a TLS server that reads its certificate when it is reloaded, like most of them.
type server struct {
	t       *testing.T
	control string // where the reload command leaves its notes
	root    string
	mu      sync.Mutex
	seen    int
	hung    bool
	pairs   []tls.Certificate
}

func newServer(t *testing.T) *server {
	s := &server{t: t, control: t.TempDir(), root: t.TempDir()}
	var err error
	if s.pairs, err = installertest.KeyPairs(installertest.Bundle(t, "default.example")); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) reloads() int {
	text, err := os.ReadFile(filepath.Join(s.control, "reloads"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		s.t.Error(err)
	}
	return bytes.Count(text, []byte("\n"))
}

func (s *server) load() ([]tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if n := s.reloads(); n != s.seen && !s.hung {
		s.seen = n
		var fresh []tls.Certificate
		for _, suffix := range []string{"", "-rsa"} {
			at := func(name string) string { return filepath.Join(s.root, name+suffix+".pem") }
			if pair, err := tls.LoadX509KeyPair(at("fullchain"), at("privkey")); err == nil {
				fresh = append(fresh, pair)
			}
		}
		if fresh != nil {
			s.pairs = fresh
		}
	}
	return s.pairs, nil
}

func (s *server) breakReload(broken bool) {
	path := filepath.Join(s.control, "broken")
	var err error
	if broken {
		err = os.WriteFile(path, nil, 0o600)
	} else {
		err = os.Remove(path)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) hang(hung bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.hung = hung
}

func (s *server) config(addr string) Config {
	return Config{
		Dir:        s.root,
		Reload:     []string{"/bin/sh", "-c", reloadScript, s.control},
		Verify:     []string{addr},
		VerifyWait: 200 * time.Millisecond,
	}
}

// TestConformance runs the suite on an empty directory and on one with files that somebody else made.
func TestConformance(t *testing.T) {
	for _, occupied := range []bool{false, true} {
		name := "empty directory"
		if occupied {
			name = "existing files"
		}
		t.Run(name, func(t *testing.T) {
			installertest.Run(t, func(t *testing.T) installertest.Fixture { return fixture(t, occupied) })
		})
	}
}

func fixture(t *testing.T, occupied bool) installertest.Fixture {
	s := newServer(t)
	tlsServer := installertest.Serve(t, s.load)
	if occupied {
		write(t, filepath.Join(s.root, "fullchain.pem"), "an older certificate\n", 0o640)
		write(t, filepath.Join(s.root, "privkey.pem"), "an older key\n", 0o600)
	}
	target, publish, state := installertest.Live(t, "www.example.com")
	p, err := New(s.config(tlsServer.Addr), target)
	if err != nil {
		t.Fatal(err)
	}
	return installertest.Fixture{
		Installer: p, Names: []string{"www.example.com"}, Root: s.root, State: state, Publish: publish, Reloads: s.reloads,
		Break:   map[installertest.Step]func(bool){installertest.Reload: s.breakReload, installertest.Probe: s.hang},
		Comment: "# renewed by hand",
	}
}

func write(t *testing.T, path, content string, mode fs.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
}

func TestDualUnitIsProvedForBothKeyTypes(t *testing.T) {
	s := newServer(t)
	addr := installertest.Serve(t, s.load).Addr
	target, _, _ := installertest.Live(t, "www.example.com")
	p, err := New(s.config(addr), target)
	if err != nil {
		t.Fatal(err)
	}
	b := installertest.Dual(t, "www.example.com")
	if err := p.Install(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(t.Context(), b); err != nil {
		t.Error(err)
	}
	if err := os.Remove(filepath.Join(s.root, "privkey-rsa.pem")); err != nil {
		t.Fatal(err)
	}
	if err := p.Verify(t.Context(), b); err == nil || !strings.Contains(err.Error(), "privkey-rsa.pem") {
		t.Errorf("Verify without the twin's key = %v", err)
	}
}

func TestReloadsAgainWhenTheServerStillServesTheOldCertificate(t *testing.T) {
	s := newServer(t)
	addr := installertest.Serve(t, s.load).Addr
	target, _, _ := installertest.Live(t, "www.example.com")
	c := s.config(addr)
	quiet := c
	quiet.Verify = nil
	withoutProbe, err := New(quiet, target)
	if err != nil {
		t.Fatal(err)
	}
	withProbe, err := New(c, target)
	if err != nil {
		t.Fatal(err)
	}
	b := installertest.Bundle(t, "www.example.com")
	s.hang(true)
	if err := withoutProbe.Install(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if err := withProbe.Install(t.Context(), b); err == nil {
		t.Error("Install returned nil while the server serves another certificate")
	}
	s.hang(false)
	if err := withProbe.Install(t.Context(), b); err != nil {
		t.Error(err)
	}
	if n := s.reloads(); n < 2 {
		t.Errorf("%d reloads, want one more for the second Install", n)
	}
}

func TestOwnerGroupAndMode(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	tests := []struct {
		name        string
		config      Config
		uid, gid    uint32
		key, public fs.FileMode
	}{
		{"defaults", Config{}, 0, 0, 0o600, 0o644},
		{"numbers", Config{Owner: "4711", Group: "4712"}, 4711, 4712, 0o640, 0o644},
		{"names", Config{Owner: "daemon", Group: "daemon", Mode: "0440"}, 1, 1, 0o440, 0o644},
		{"group alone", Config{Group: "4712"}, 0, 4712, 0o640, 0o644},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.config.Dir = t.TempDir()
			target, _, _ := installertest.Live(t, "a.example")
			old := syscall.Umask(0)
			defer syscall.Umask(old)
			p, err := New(tt.config, target)
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Install(t.Context(), installertest.Bundle(t, "a.example")); err != nil {
				t.Fatal(err)
			}
			for name, mode := range map[string]fs.FileMode{"privkey.pem": tt.key, "fullchain.pem": tt.public} {
				info, err := os.Stat(filepath.Join(tt.config.Dir, name))
				if err != nil {
					t.Fatal(err)
				}
				st := info.Sys().(*syscall.Stat_t)
				if info.Mode() != mode || st.Uid != tt.uid || st.Gid != tt.gid {
					t.Errorf("%s is %v of %d:%d, want %v of %d:%d", name, info.Mode(), st.Uid, st.Gid, mode, tt.uid, tt.gid)
				}
			}
		})
	}
}

// TestKeepsWhatAGroupWasGiven: an operator who let a group read the key, without a word in the configuration, finds it so
// after the next check and the next renewal. A configured mode counts as it is, and others never read a key.
func TestKeepsWhatAGroupWasGiven(t *testing.T) {
	for _, tt := range []struct {
		name, mode  string
		found, want fs.FileMode
		upToDate    bool
	}{
		{"widened for a group", "", 0o640, 0o640, true},
		{"widened for all", "", 0o644, 0o640, false},
		{"narrowed", "", 0o400, 0o600, false},
		{"configured", "0600", 0o640, 0o600, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			target, _, _ := installertest.Live(t, "a.example")
			p, err := New(Config{Dir: dir, Mode: tt.mode}, target)
			if err != nil {
				t.Fatal(err)
			}
			b := installertest.Bundle(t, "a.example")
			if err := p.Install(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			key := filepath.Join(dir, "privkey.pem")
			if err := os.Chmod(key, tt.found); err != nil {
				t.Fatal(err)
			}
			if err := p.Verify(t.Context(), b); (err == nil) != tt.upToDate {
				t.Errorf("Verify = %v", err)
			}
			for range 2 {
				if err := p.Install(t.Context(), installertest.Bundle(t, "a.example")); err != nil {
					t.Fatal(err)
				}
				if info, err := os.Stat(key); err != nil || info.Mode() != tt.want {
					t.Errorf("the key has mode %v, %v, want %v", info.Mode(), err, tt.want)
				}
			}
		})
	}
}

// TestSingleAfterDual: the RSA files of a certificate that is no longer dual do not stay, unless they are the operator's.
func TestSingleAfterDual(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "cert-rsa.pem"), "by the operator\n", 0o644)
	target, _, _ := installertest.Live(t, "a.example")
	p, err := New(Config{Dir: dir}, target)
	if err != nil {
		t.Fatal(err)
	}
	exist := func(want bool, names ...string) {
		t.Helper()
		for _, name := range names {
			if _, err := os.Stat(filepath.Join(dir, name)); (err == nil) != want {
				t.Errorf("%s: %v, want it to exist: %v", name, err, want)
			}
		}
	}
	install := func(b *certs.Bundle) {
		t.Helper()
		if err := errors.Join(p.Install(t.Context(), b), p.Verify(t.Context(), b)); err != nil {
			t.Fatal(err)
		}
	}
	install(installertest.Bundle(t, "a.example"))
	exist(true, "cert-rsa.pem")
	for range 2 {
		install(installertest.Dual(t, "a.example"))
		exist(true, "cert-rsa.pem", "privkey-rsa.pem")
		install(installertest.Bundle(t, "a.example"))
		exist(false, "cert-rsa.pem", "privkey-rsa.pem", "fullchain-rsa.pem")
	}
	install(installertest.Dual(t, "a.example"))
	write(t, filepath.Join(dir, "chain-rsa.pem"), "edited by the operator\n", 0o644)
	install(installertest.Bundle(t, "a.example"))
	exist(true, "chain-rsa.pem")
	if err := os.Remove(filepath.Join(dir, "chain-rsa.pem")); err != nil {
		t.Fatal(err)
	}
	if err := p.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "cert-rsa.pem")); err != nil || string(text) != "by the operator\n" {
		t.Errorf("the operator's file is %q, %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

func TestUnknownOwnerChangesNothing(t *testing.T) {
	target, _, _ := installertest.Live(t, "a.example")
	dir := t.TempDir()
	p, err := New(Config{Dir: dir, Owner: "nobody-of-this-name"}, target)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Install(t.Context(), installertest.Bundle(t, "a.example")); err == nil || !strings.Contains(err.Error(), "nobody-of-this-name") {
		t.Errorf("Install = %v", err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("the directory has %v, %v", entries, err)
	}
}

func TestSharedDirectory(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o777|fs.ModeSticky); err != nil {
		t.Fatal(err)
	}
	for _, allow := range []bool{false, true} {
		target, _, _ := installertest.Live(t, "a.example")
		p, err := New(Config{Dir: dir, AllowSharedDir: allow}, target)
		if err != nil {
			t.Fatal(err)
		}
		err = p.Install(t.Context(), installertest.Bundle(t, "a.example"))
		if (err == nil) != allow {
			t.Errorf("allow_shared_dir %v: Install = %v", allow, err)
		}
	}
}

func TestServerNameOfAnAddress(t *testing.T) {
	target, _, _ := installertest.Live(t, "*.example.com", "www.example.com")
	p, err := New(Config{Dir: "/etc/ssl/x", Verify: []string{"127.0.0.1:443", "[::1]:443/other.example", "smtp://mail.example:25"}}, target)
	if err != nil {
		t.Fatal(err)
	}
	want := []endpoint.Endpoint{
		{Addr: "127.0.0.1:443", ServerName: "www.example.com"},
		{Addr: "[::1]:443", ServerName: "other.example"},
		{Addr: "mail.example:25", StartTLS: "smtp"},
	}
	for i, e := range p.Endpoints {
		if e != want[i] {
			t.Errorf("endpoint %d = %+v, want %+v", i, e, want[i])
		}
	}
}

func TestRecoverWithoutACrash(t *testing.T) {
	target, _, _ := installertest.Live(t, "a.example")
	p, err := New(Config{Dir: t.TempDir()}, target)
	if err != nil {
		t.Fatal(err)
	}
	b := installertest.Bundle(t, "a.example")
	for range 2 {
		if err := p.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := p.Install(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Verify(t.Context(), b); err != nil {
		t.Error(err)
	}
}

func TestCertificateFromACSRHasNoKeyFile(t *testing.T) {
	full := installertest.Bundle(t, "a.example")
	b, err := certs.NewBundle(full.FullChainPEM(), nil)
	if err != nil {
		t.Fatal(err)
	}
	target, _, _ := installertest.Live(t, "a.example")
	for _, tt := range []struct {
		config Config
		ok     bool
	}{{Config{FullChain: "c.pem"}, true}, {Config{Key: "k.pem"}, false}, {Config{Combined: "k.pem"}, false}} {
		tt.config.Dir = t.TempDir()
		p, err := New(tt.config, target)
		if err != nil {
			t.Fatal(err)
		}
		if err := p.Install(t.Context(), b); (err == nil) != tt.ok {
			t.Errorf("%+v: Install = %v", tt.config, err)
		}
	}
}
