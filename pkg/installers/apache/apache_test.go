package apache

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

const (
	binary  = "/usr/sbin/apache2"
	modsDir = "/etc/apache2/mods-available"
)

// instance is an Apache of a test's own: its configuration, logs and pid file below a temporary directory.
type instance struct {
	t     testing.TB
	conf  string // directory of the configuration, laid out as Debian does
	run   string // logs, pid, flags
	plain int    // a free port, {plain} in the files
	tls   int    // another one, {tls} in the files
}

// mainConf is the main file of most tests, laid out as on Debian.
const mainConf = `ServerRoot {conf}
DefaultRuntimeDir {run}
PidFile {run}/apache2.pid
ErrorLog {run}/error.log
Mutex file:{run} default
User www-data
Group www-data
ServerName main.example
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
StartServers 1
ThreadsPerChild 25
MaxRequestWorkers 50
ThreadLimit 25
IncludeOptional mods-enabled/*.load
IncludeOptional mods-enabled/*.conf
Include ports.conf
IncludeOptional conf-enabled/*.conf
IncludeOptional sites-enabled/*.conf
`

const portsConf = `Listen 127.0.0.1:{plain}

<IfModule ssl_module>
	Listen 127.0.0.1:{tls}
</IfModule>
`

// newInstance writes a configuration without starting Apache. Files are named relative to its directory; one in
// sites-available is enabled. A name without content takes the file away.
func newInstance(t testing.TB, files map[string]string) *instance {
	t.Helper()
	if _, err := os.Stat(binary); err != nil {
		t.Skip("Apache is not installed")
	}
	a := &instance{t: t, conf: t.TempDir(), run: t.TempDir(), plain: acmetest.FreePort(t), tls: acmetest.FreePort(t)}
	for _, dir := range []string{"sites-available", "sites-enabled", "conf-available", "conf-enabled", "mods-available", "mods-enabled"} {
		must(t, os.Mkdir(a.path(dir), 0o755))
	}
	a.copyModules()
	a.write("apache2.conf", mainConf)
	a.write("ports.conf", portsConf)
	for name, text := range files {
		if text == "" {
			must(t, os.Remove(a.path(name)))
			continue
		}
		a.write(name, text)
		if base, ok := strings.CutPrefix(name, "sites-available/"); ok {
			must(t, os.Symlink("../sites-available/"+base, a.path("sites-enabled/"+base)))
		}
	}
	for _, script := range []struct{ name, text string }{
		{"test.sh", `if [ -e {run}/break-before ]; then echo broken before >&2; exit 1; fi
if [ -e {run}/break-after ] && grep -rq 'acmed begin ' {conf}; then echo broken after >&2; exit 1; fi
exec {apache} -d {conf} -f {conf}/apache2.conf -t`},
		{"reload.sh", `echo reload >> {run}/reloads
if [ -e {run}/break-reload ]; then echo no reload >&2; exit 1; fi
if [ -e {run}/break-probe ]; then exit 0; fi
exec {apache} -d {conf} -f {conf}/apache2.conf -k graceful`},
		{"start.sh", `exec {apache} -d {conf} -f {conf}/apache2.conf -k start >{run}/start.log 2>&1`},
	} {
		must(t, os.WriteFile(filepath.Join(a.run, script.name), []byte("#!/bin/sh\n"+a.expand(script.text)+"\n"), 0o755))
	}
	return a
}

// copyModules fills mods-available with the files of the distribution and enables what an ordinary site needs.
func (a *instance) copyModules() {
	a.t.Helper()
	names, err := filepath.Glob(modsDir + "/*")
	must(a.t, err)
	for _, name := range names {
		text, err := os.ReadFile(name)
		must(a.t, err)
		must(a.t, os.WriteFile(a.path("mods-available/"+filepath.Base(name)), text, 0o644))
	}
	for _, name := range []string{"alias.load", "mime.load", "mime.conf", "setenvif.load"} {
		must(a.t, os.Symlink("../mods-available/"+name, a.path("mods-enabled/"+name)))
	}
	a.write("mods-available/ssl.conf", "SSLSessionCache shmcb:{run}/ssl_scache(512000)\n")
}

// start writes a configuration and runs Apache with it until the test ends.
func start(t testing.TB, files map[string]string) *instance {
	t.Helper()
	a := newInstance(t, files)
	a.start()
	return a
}

func (a *instance) start() {
	a.t.Helper()
	// In a script, because the daemon keeps the output open.
	if _, err := (installers.Command{Argv: []string{filepath.Join(a.run, "start.sh")}}).Run(context.Background()); err != nil {
		said, _ := os.ReadFile(filepath.Join(a.run, "start.log"))
		log, _ := os.ReadFile(filepath.Join(a.run, "error.log"))
		a.t.Fatalf("%v\n%s\n%s", err, said, log)
	}
	a.t.Cleanup(a.stop)
	await.True(a.t, "Apache answers", func() bool {
		conn, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(a.plain)))
		if err == nil {
			conn.Close()
		}
		return err == nil && a.pid() != 0 // it opens its ports first
	})
}

func (a *instance) expand(text string) string {
	return strings.NewReplacer("{run}", a.run, "{conf}", a.conf, "{apache}", binary,
		"{plain}", strconv.Itoa(a.plain), "{tls}", strconv.Itoa(a.tls)).Replace(text)
}

func (a *instance) path(name string) string { return filepath.Join(a.conf, name) }

func (a *instance) write(name, text string) {
	a.t.Helper()
	must(a.t, os.MkdirAll(filepath.Dir(a.path(name)), 0o755))
	must(a.t, os.WriteFile(a.path(name), []byte(a.expand(text)), 0o644))
}

func (a *instance) read(name string) string {
	a.t.Helper()
	text, err := os.ReadFile(a.path(name))
	must(a.t, err)
	return string(text)
}

// flag makes a step of the scripts fail, or work again.
func (a *instance) flag(name string) func(bool) {
	return func(on bool) {
		path := filepath.Join(a.run, name)
		if on {
			must(a.t, os.WriteFile(path, nil, 0o600))
			return
		}
		must(a.t, os.Remove(path))
	}
}

func (a *instance) reloads() int {
	text, err := os.ReadFile(filepath.Join(a.run, "reloads"))
	if err != nil {
		return 0
	}
	return strings.Count(string(text), "\n")
}

// pid is the process of this instance, known by the directory in its command line; 0 when there is none.
func (a *instance) pid() int {
	text, err := os.ReadFile(filepath.Join(a.run, "apache2.pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	must(a.t, err)
	title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || pid <= 1 || !strings.Contains(string(title), a.conf) {
		return 0
	}
	return pid
}

func (a *instance) stop() {
	pid := a.pid()
	if group, err := syscall.Getpgid(pid); pid == 0 || err != nil || group != pid {
		return
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL) // the group that Apache made for itself; a polite end takes seconds
	await.True(a.t, "Apache ends", func() bool {
		title, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		return err != nil || len(title) == 0
	})
}

// config is the target's configuration for this Apache.
func (a *instance) config() Config {
	return Config{
		Binary: binary, Root: a.conf, Config: a.path("apache2.conf"), PIDFile: filepath.Join(a.run, "apache2.pid"), Listen: a.tls,
		Test: []string{filepath.Join(a.run, "test.sh")}, Reload: []string{filepath.Join(a.run, "reload.sh")},
		VerifyTimeout: 2 * time.Second,
	}
}

// lineage is a certificate with its live paths and the function that activates a version.
type lineage struct {
	installers.Target
	publish func(*certs.Bundle)
	state   string
}

func newLineage(t testing.TB, names ...string) *lineage {
	t.Helper()
	l := &lineage{}
	l.Target, l.publish, l.state = installertest.Live(t, names...)
	return l
}

func (a *instance) installer(cfg Config, l *lineage) *Installer {
	a.t.Helper()
	i, err := New(cfg, l.Target)
	must(a.t, err)
	return i
}

// get asks for http(s)://host/path at the instance.
func (a *instance) get(scheme, host, path string) (*http.Response, string) {
	a.t.Helper()
	resp, body, err := a.request(scheme, host, path)
	must(a.t, err)
	return resp, body
}

func (a *instance) request(scheme, host, path string) (*http.Response, string, error) {
	port := a.plain
	if scheme == "https" {
		port = a.tls
	}
	addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	client := &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{ServerName: host, InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       5 * time.Second,
	}
	req, err := http.NewRequestWithContext(a.t.Context(), http.MethodGet, scheme+"://"+addr+path, nil)
	if err != nil {
		return nil, "", err
	}
	req.Host = host
	resp, err := client.Do(req)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp, string(body), err
}

// files are the files and links below the configuration, as text.
func (a *instance) files() map[string]string {
	a.t.Helper()
	all := map[string]string{}
	must(a.t, filepath.WalkDir(a.conf, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || strings.Contains(path, "mods-available") {
			return err
		}
		name, err := filepath.Rel(a.conf, path)
		if err != nil {
			return err
		}
		if d.Type()&fs.ModeSymlink != 0 {
			all[name], err = os.Readlink(path)
			all[name] = "-> " + all[name]
			return err
		}
		text, err := os.ReadFile(path)
		all[name] = string(text)
		return err
	}))
	return all
}

// stamps tell a file that was written again with the same content from one that was not.
func (a *instance) stamps() map[string]string {
	a.t.Helper()
	all := map[string]string{}
	for name := range a.files() {
		info, err := os.Lstat(a.path(name))
		must(a.t, err)
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok {
			a.t.Fatalf("%s has no inode", name)
		}
		all[name] = fmt.Sprintf("inode %d, changed %d.%09d", st.Ino, st.Ctim.Sec, st.Ctim.Nsec)
	}
	return all
}

func (a *instance) wantFiles(before map[string]string, what string) {
	a.t.Helper()
	if diff := cmp.Diff(before, a.files()); diff != "" {
		a.t.Errorf("%s (-before +after):\n%s", what, diff)
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// site is a plain virtual host for names; it answers everything with 404 and the body.
func site(names, body string) string {
	server, aliases, more := strings.Cut(names, " ")
	text := fmt.Sprintf("<VirtualHost *:{plain}>\n    ServerName %s\n    ErrorDocument 404 %q\n", server, body)
	if more {
		text += "    ServerAlias " + aliases + "\n"
	}
	return text + "</VirtualHost>\n"
}

// secureSite is one on the TLS port with a certificate of its own.
func (a *instance) secureSite(names, body string, b *certs.Bundle) string {
	a.t.Helper()
	name, _, _ := strings.Cut(names, " ")
	cert, key := filepath.Join(a.run, name+".pem"), filepath.Join(a.run, name+".key")
	must(a.t, os.WriteFile(cert, b.FullChainPEM(), 0o644))
	must(a.t, os.WriteFile(key, b.KeyPEM, 0o600))
	text := strings.Replace(site(names, body), "{plain}", "{tls}", 1)
	return strings.Replace(text, "</VirtualHost>", fmt.Sprintf("    SSLEngine on\n    SSLCertificateFile %s\n    SSLCertificateKeyFile %s\n</VirtualHost>", cert, key), 1)
}

// enableModule does what a2enmod does.
func (a *instance) enableModule(ids ...string) {
	a.t.Helper()
	for _, id := range ids {
		for _, ext := range []string{".load", ".conf"} {
			if exists(a.path("mods-available/" + id + ext)) {
				must(a.t, os.Symlink("../mods-available/"+id+ext, a.path("mods-enabled/"+id+ext)))
			}
		}
	}
}

func portOf(t testing.TB, addr string) int {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	must(t, err)
	n, err := strconv.Atoi(port)
	must(t, err)
	return n
}

// addr is where the instance serves TLS.
func (a *instance) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(a.tls)) }
