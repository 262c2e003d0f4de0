package e2e

import (
	"bytes"
	"context"
	"crypto/tls"
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
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// terminal is a program at a pseudo-terminal of its own.
type terminal struct {
	t      *testing.T
	master *os.File
	cmd    *exec.Cmd

	mu   sync.Mutex
	said bytes.Buffer
	seen int // how much of it expect has gone past
	done chan struct{}
}

func startTerminal(t *testing.T, argv ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(master.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(master.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 200})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminals here: %v", err)
	}
	p := &terminal{t: t, master: master, cmd: exec.Command(argv[0], argv[1:]...), done: make(chan struct{})}
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = slave, slave, slave
	p.cmd.Env = append(os.Environ(), "TERM=xterm")
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = slave.Close()
	go p.listen()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = master.Close()
		<-p.done
		if t.Failed() {
			t.Logf("the terminal:\n%s", p.text())
		}
	})
	return p
}

func (p *terminal) listen() {
	defer close(p.done)
	buf := make([]byte, 4096)
	for {
		n, err := p.master.Read(buf)
		p.mu.Lock()
		p.said.Write(buf[:n])
		p.mu.Unlock()
		if err != nil { // EIO once the program is gone
			return
		}
	}
}

func (p *terminal) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.said.String()
}

// expect waits for a text after the one expected before.
func (p *terminal) expect(text string) {
	p.t.Helper()
	await.NoError(p.t, func() error {
		i := strings.Index(p.text()[p.seen:], text)
		if i < 0 {
			return fmt.Errorf("the terminal never says %q; it says:\n%s", text, p.text())
		}
		p.seen += i + len(text)
		return nil
	})
}

func (p *terminal) typeText(text string) {
	p.t.Helper()
	if _, err := io.WriteString(p.master, text); err != nil {
		p.t.Fatal(err)
	}
}

// code waits for the end.
func (p *terminal) code() int {
	p.t.Helper()
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		p.t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

const ctrlC = "\x03"

// minute is a machine with a web server that has plain HTTP for two sites, and no acmed.
type minute struct {
	*site
	kind  string // of the web server
	files []string
	flags []string // that describe it

	siteText string // of the only site; "" for two that serve files
}

func newMinute(t *testing.T, kind string) *minute {
	t.Helper()
	m := &minute{site: newSite(t), kind: kind}
	for _, name := range []string{"acmed.yaml", "state", "nginx.conf"} {
		if err := os.RemoveAll(filepath.Join(m.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for dir := m.dir; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(m.dir, "html"), 0o755); err != nil {
		t.Fatal(err)
	}
	m.write("html/index.html", "hello\n")
	switch kind {
	case "nginx":
		m.privateNginx()
	case "apache":
		m.privateApache()
	}
	return m
}

func (m *minute) privateNginx() {
	m.files = []string{"nginx.conf"}
	m.write("nginx.conf", strings.NewReplacer("{dir}", m.dir, "{plain}", fmt.Sprint(m.ca.HTTPPort)).Replace(`pid {dir}/nginx.pid;
error_log {dir}/error.log;
events {}
http {
	access_log off;
	server {
		listen 127.0.0.1:{plain};
		server_name example.com www.example.com;
		root {dir}/html;
	}
	server {
		listen 127.0.0.1:{plain};
		server_name shop.example.com;
		root {dir}/html;
	}
}
`))
	m.startNginx()
	m.set("config="+m.nginxConf, "prefix="+m.dir, "pid_file="+m.dir+"/nginx.pid")
}

func (m *minute) set(pairs ...string) {
	m.flags = []string{"--server", m.kind}
	for _, pair := range append(pairs, fmt.Sprintf("listen=%d", m.tls)) {
		m.flags = append(m.flags, "--set", pair)
	}
}

func (m *minute) privateApache() {
	const binary = "/usr/sbin/apache2"
	if _, err := os.Stat(binary); err != nil {
		m.t.Skip("Apache is not installed")
	}
	m.files = []string{"apache2.conf", "ports.conf", "sites-available/shop.conf", "sites-available/www.conf"}
	for _, dir := range []string{"sites-available", "sites-enabled", "conf-available", "conf-enabled", "mods-available", "mods-enabled"} {
		if err := os.Mkdir(filepath.Join(m.dir, dir), 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	mods, err := filepath.Glob("/etc/apache2/mods-available/*")
	if err != nil {
		m.t.Fatal(err)
	}
	for _, mod := range mods {
		text, err := os.ReadFile(mod)
		if err != nil {
			m.t.Fatal(err)
		}
		m.write("mods-available/"+filepath.Base(mod), string(text))
	}
	expand := strings.NewReplacer("{dir}", m.dir, "{plain}", fmt.Sprint(m.ca.HTTPPort), "{tls}", fmt.Sprint(m.tls))
	m.write("mods-available/ssl.conf", expand.Replace("SSLSessionCache shmcb:{dir}/ssl_scache(512000)\n"))
	m.write("ports.conf", expand.Replace("Listen 127.0.0.1:{plain}\n<IfModule ssl_module>\n\tListen 127.0.0.1:{tls}\n</IfModule>\n"))
	m.write("apache2.conf", expand.Replace(`ServerRoot {dir}
DefaultRuntimeDir {dir}
PidFile {dir}/apache2.pid
ErrorLog {dir}/error.log
Mutex file:{dir} default
User www-data
Group www-data
ServerName main.example
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
DirectoryIndex index.html
StartServers 1
ThreadsPerChild 25
MaxRequestWorkers 50
ThreadLimit 25
IncludeOptional mods-enabled/*.load
IncludeOptional mods-enabled/*.conf
Include ports.conf
IncludeOptional conf-enabled/*.conf
IncludeOptional sites-enabled/*.conf
`))
	sites := map[string]string{"shop": "", "www": "\tServerAlias www.example.com\n"}
	if m.siteText != "" {
		sites = nil
		m.files = []string{"apache2.conf", "ports.conf", "sites-available/site.conf"}
		m.write("sites-available/site.conf", m.siteText)
		if err := os.Symlink("../sites-available/site.conf", filepath.Join(m.dir, "sites-enabled/site.conf")); err != nil {
			m.t.Fatal(err)
		}
		for _, module := range []string{"proxy", "proxy_http", "rewrite", "alias", "ssl", "socache_shmcb"} {
			directive := map[string]string{"proxy": "Proxy", "proxy_http": "Proxy", "rewrite": "Rewrite", "alias": "Redirect", "ssl": "SSL", "socache_shmcb": "SSL"}[module]
			if strings.Contains(m.siteText, directive) || directive == "Proxy" && strings.Contains(m.siteText, "[P]") {
				m.write("mods-enabled/"+module+".load", m.read("mods-available/"+module+".load"))
			}
		}
	}
	for name, aliases := range sites {
		server := strings.Replace(name+".example.com", "www.", "", 1)
		m.write("sites-available/"+name+".conf", expand.Replace("<VirtualHost 127.0.0.1:{plain}>\n\tServerName "+server+"\n"+aliases+"\tDocumentRoot {dir}/html\n</VirtualHost>\n"))
		if err := os.Symlink("../sites-available/"+name+".conf", filepath.Join(m.dir, "sites-enabled", name+".conf")); err != nil {
			m.t.Fatal(err)
		}
	}
	args := []string{"-d", m.dir, "-f", m.dir + "/apache2.conf", "-k"}
	if err := exec.Command(binary, append(args, "start")...).Run(); err != nil {
		m.t.Fatalf("Apache: %v\n%s", err, m.read("error.log"))
	}
	m.t.Cleanup(func() {
		_ = exec.Command(binary, append(args, "stop")...).Run()
		for range 500 {
			if _, err := os.Stat(filepath.Join(m.dir, "apache2.pid")); err != nil {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
	})
	m.set("binary="+binary, "root="+m.dir, "config="+m.dir+"/apache2.conf", "pid_file="+m.dir+"/apache2.pid", "layout=debian")
}

// installed runs "make install" and returns the program, which the rest of the test uses.
func installed(t *testing.T) {
	t.Helper()
	root := t.TempDir()
	cmd := exec.CommandContext(t.Context(), "make", "-C", "../..", "install", "DESTDIR="+root)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "MAKE") || strings.HasPrefix(v, "MFLAGS=") })
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("make install: %v\n%s", err, out)
	}
	for _, file := range []string{
		"bin/acmed", "lib/systemd/system/acmed.service", "lib/systemd/system/acmed-installd.socket", "lib/sysusers.d/acmed.conf", "lib/tmpfiles.d/acmed.conf",
		"share/man/man1/acmed.1", "share/man/man1/acmed-enable.1", "share/man/man1/acmed-dns.1", "share/man/man5/acmed.yaml.5",
		"share/bash-completion/completions/acmed", "share/zsh/vendor-completions/_acmed", "share/fish/vendor_completions.d/acmed.fish",
		"share/doc/acmed/acmed.yaml", "share/doc/acmed/prometheus/alerts.yaml", "share/doc/acmed/grafana/acmed.json", "share/doc/acmed/proxies/README.md",
	} {
		if info, err := os.Stat(filepath.Join(root, "usr", file)); err != nil || info.Size() == 0 {
			t.Errorf("make install leaves no /usr/%s: %v", file, err)
		}
	}
	built := acmed
	t.Cleanup(func() { acmed = built })
	acmed = filepath.Join(root, "usr/bin/acmed")
}

// enable starts "acmed enable" at a terminal.
func (m *minute) enable(args ...string) *terminal {
	m.t.Helper()
	argv := []string{acmed, "-c", filepath.Join(m.dir, "acmed.yaml"), "enable", "--directory", m.ca.Directory, "--ca-file", m.dir + "/ca.pem"}
	return startTerminal(m.t, append(append(argv, m.flags...), args...)...)
}

func (m *minute) disable(args ...string) *terminal {
	m.t.Helper()
	return startTerminal(m.t, append([]string{acmed, "-c", filepath.Join(m.dir, "acmed.yaml"), "disable"}, args...)...)
}

func (m *minute) content() (all []string) {
	m.t.Helper()
	for _, name := range m.files {
		all = append(all, m.read(name))
	}
	return all
}

// untouched checks that nothing of acmed is there and that the web server's files are as before.
func (m *minute) untouched(when string, before []string) {
	m.t.Helper()
	for _, name := range []string{"acmed.yaml", "conf.d"} {
		if _, err := os.Stat(filepath.Join(m.dir, name)); err == nil {
			m.t.Errorf("%s: %s is there", when, name)
		}
	}
	for i, text := range m.content() {
		if text != before[i] {
			m.t.Errorf("%s: %s changed:\n%s", when, m.files[i], text)
		}
	}
}

// TestFirstMinute: from "make install" to a page in a browser and back at a terminal, with a typo and Ctrl-C on the way.
func TestFirstMinute(t *testing.T) {
	installed(t)
	for _, kind := range []string{"nginx", "apache"} {
		t.Run(kind, func(t *testing.T) {
			m := newMinute(t, kind)
			before := m.content()
			fresh := []string{"--state-dir", m.dir + "/state", "--socket", m.dir + "/acmed.sock"}

			// Ctrl-C at a question.
			p := m.enable(fresh...)
			p.expect("found 2 sites:")
			p.expect("for which?")
			p.typeText(ctrlC)
			p.expect("interrupted; nothing was changed")
			if code := p.code(); code != 1 {
				t.Errorf("exit %d", code)
			}
			m.untouched("after Ctrl-C at a question", before)

			// Ctrl-C in the middle of the order.
			fault, reached := stall(acmetest.Challenge, false)
			m.ca.Use(fault)
			p = m.enable(append(fresh, "--email", "ops@example.com", "-d", "example.com")...)
			p.expect("go ahead?")
			p.typeText("y\n")
			<-reached
			p.typeText(ctrlC)
			p.expect("everything is as it was before")
			if code := p.code(); code != 1 {
				t.Errorf("exit %d", code)
			}
			m.ca.Use()
			m.untouched("after Ctrl-C in the order", before)

			// Two typos, one in a name and one in an answer.
			p = m.enable(append(fresh, "-d", "exmaple.com", "-d", "www.example.com")...)
			p.expect(`no site is called "exmaple.com"; did you mean "example.com"?`)
			p.typeText("\n")
			p.expect("email address")
			p.typeText("ops@example.com\n")
			p.expect("acmed will obtain a certificate for example.com, www.example.com and install it in " + kind)
			p.expect("go ahead?")
			p.typeText("yse\n")
			p.expect("please answer y or n")
			p.typeText("yes\n")
			p.expect(fmt.Sprintf("https://example.com:%d/ works now", m.tls))
			p.expect("will be renewed about ")
			p.expect("ReadWritePaths=" + m.dir + "/html")
			p.expect("systemctl enable --now acmed")
			if code := p.code(); code != 0 {
				t.Fatalf("exit %d", code)
			}
			m.served()
			m.visit("example.com")

			// The rest through a daemon, chosen by a mistyped name first.
			m.start()
			m.waitFor("running", isOK)
			p = m.enable()
			p.expect("has a certificate already: example.com")
			p.expect("found 1 site:")
			p.typeText("shpo.example.com\n")
			p.expect(`did you mean "shop.example.com"?`)
			p.typeText("1\n")
			p.expect("go ahead?")
			p.typeText("\n")
			p.expect(fmt.Sprintf("https://shop.example.com:%d/ works now", m.tls))
			if code := p.code(); code != 0 {
				t.Fatalf("exit %d", code)
			}
			if err := m.page("shop.example.com"); err != nil {
				t.Error(err)
			}

			// And back.
			p = m.disable("shop.example.cmo")
			p.expect(`did you mean "shop.example.com"?`)
			if code := p.code(); code != 2 {
				t.Errorf("exit %d", code)
			}
			for i, name := range []string{"shop.example.com", "example.com"} {
				p = m.disable(append([]string{name}, []string{"--purge"}[:i]...)...)
				p.expect("go ahead?")
				p.typeText("y\n")
				p.expect(name + " is disabled")
				if code := p.code(); code != 0 {
					t.Fatalf("exit %d", code)
				}
			}
			for i, text := range m.content() {
				if text != before[i] {
					t.Errorf("%s is not as it was:\n%s", m.files[i], text)
				}
			}
			for name, kept := range map[string]bool{"shop.example.com": true, "example.com": false} {
				if _, err := os.Stat(filepath.Join(m.dir, "state/certs", name)); (err == nil) != kept {
					t.Errorf("%s kept: %v, want %v", name, err == nil, kept)
				}
			}
		})
	}
}

// visit opens a page in a browser. One that does not know the CA shows nothing of it, and one that does shows it.
func (m *minute) visit(name string) {
	m.t.Helper()
	if out, err := exec.CommandContext(m.t.Context(), "../needs.sh", "chromium:chromium", "certutil:libnss3-tools").CombinedOutput(); err != nil {
		m.t.Logf("no browser here: %v: %s", err, out)
		return
	}
	home := m.t.TempDir()
	page := func() string {
		m.t.Helper()
		cmd := exec.CommandContext(m.t.Context(), "chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
			"--disable-background-networking", "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * 127.0.0.1",
			"--user-data-dir="+m.t.TempDir(), "--dump-dom", fmt.Sprintf("https://%s:%d/", name, m.tls))
		cmd.Env = append(os.Environ(), "HOME="+home)
		out, err := cmd.Output()
		if err != nil {
			m.t.Fatalf("chromium: %v", err)
		}
		return string(out)
	}
	if text := page(); strings.Contains(text, "hello") {
		m.t.Errorf("a browser that does not know the CA shows %s", text)
	}
	m.write("issuing.pem", string(m.ca.IssuingRootPEM(0)))
	trusted := "sql:" + home + "/.pki/nssdb"
	if err := os.MkdirAll(home+"/.pki/nssdb", 0o700); err != nil {
		m.t.Fatal(err)
	}
	for _, args := range [][]string{{"-N", "--empty-password"}, {"-A", "-t", "C,,", "-n", "test", "-i", m.dir + "/issuing.pem"}} {
		if out, err := exec.Command("certutil", append([]string{"-d", trusted}, args...)...).CombinedOutput(); err != nil {
			m.t.Fatalf("certutil: %v\n%s", err, out)
		}
	}
	if text := page(); !strings.Contains(text, "hello") {
		m.t.Errorf("the browser shows %s", text)
	}
}

// page fetches a site as a browser does, by its name.
func (m *minute) page(name string) error {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, network, fmt.Sprintf("127.0.0.1:%d", m.tls))
	}
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		DialContext: dial, DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: m.ca.IssuingRoots()},
	}}
	return get(client, fmt.Sprintf("https://%s:%d/", name, m.tls))
}
