package e2e

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// certbotMachine is a machine on which certbot, the Debian package, looked after certificates so far.
type certbotMachine struct {
	*site
	le string // its directory
}

func newCertbotMachine(t *testing.T) *certbotMachine {
	t.Helper()
	if _, err := exec.LookPath("certbot"); err != nil {
		t.Skip("certbot is not installed")
	}
	m := &certbotMachine{site: newSite(t, acmetest.WithProfile("default", 90*24*3600e9))}
	m.le = filepath.Join(m.dir, "letsencrypt")
	// The machine has no acmed yet.
	for _, name := range []string{"acmed.yaml", "state"} {
		if err := os.RemoveAll(filepath.Join(m.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// certbot runs it against the test's CA.
func (m *certbotMachine) certbot(args ...string) {
	m.t.Helper()
	cmd := exec.Command("certbot", append([]string{
		"--config-dir", m.le, "--work-dir", filepath.Join(m.dir, "work"), "--logs-dir", filepath.Join(m.dir, "logs"),
		"--server", m.ca.Directory, "--http-01-port", fmt.Sprint(m.ca.HTTPPort), "--non-interactive", "--agree-tos", "-m", "ops@example.com",
	}, args...)...)
	cmd.Env = append(os.Environ(), "REQUESTS_CA_BUNDLE="+filepath.Join(m.dir, "ca.pem"))
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("certbot %s: %v\n%s", args[0], err, out)
	}
}

// importAll runs import certbot.
func (m *certbotMachine) importAll(args ...string) (string, int) {
	m.t.Helper()
	return m.run(append([]string{"import", "certbot", "--dir", m.le, "--ca-file", m.dir + "/ca.pem", "--email", "ops@example.com",
		"--state-dir", m.dir + "/state", "--socket", m.dir + "/acmed.sock"}, args...)...)
}

// snapshot is everything below a directory: modes, links and content.
func snapshot(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		fmt.Fprintln(&b, path, info.Mode(), info.ModTime())
		switch {
		case entry.Type()&fs.ModeSymlink != 0:
			target, err := os.Readlink(path)
			b.WriteString(target)
			return err
		case entry.Type().IsRegular():
			text, err := os.ReadFile(path)
			b.Write(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// accountURI is what the CA called certbot's account.
func (m *certbotMachine) accountURI() string {
	m.t.Helper()
	files, err := filepath.Glob(filepath.Join(m.le, "accounts", "*", "*", "*", "regr.json"))
	if err != nil || len(files) != 1 {
		m.t.Fatalf("%v accounts, %v", files, err)
	}
	var registration struct{ URI string }
	text, err := os.ReadFile(files[0])
	if err == nil {
		err = json.Unmarshal(text, &registration)
	}
	if err != nil || registration.URI == "" {
		m.t.Fatalf("%s: %v", text, err)
	}
	return registration.URI
}

// TestImportCertbot: what certbot made goes on without a new order, and renews with the same account.
func TestImportCertbot(t *testing.T) {
	m := newCertbotMachine(t)
	webroot := filepath.Join(m.dir, "html")
	m.certbot("certonly", "--standalone", "-d", "example.com", "-d", "www.example.com")
	m.certbot("renew", "--no-random-sleep-on-renew", "--force-renewal", "--cert-name", "example.com")
	m.certbot("certonly", "--standalone", "-d", "rsa.example.com", "--key-type", "rsa", "--rsa-key-size", "2048", "--reuse-key",
		"--deploy-hook", "true")
	m.serveFiles(webroot)
	m.certbot("certonly", "--webroot", "-w", webroot, "-d", "files.example.com", "--cert-name", "Files")
	before, orders := snapshot(t, m.le), m.ca.Requests(acmetest.NewOrder)
	m.ca.ResetRequests()

	out, code := m.importAll()
	if code != 0 || !strings.Contains(out, "nothing was changed") || !strings.Contains(out, "webroot: "+webroot) {
		t.Fatalf("exit %d: %s", code, out)
	}
	if _, err := os.Stat(filepath.Join(m.dir, "acmed.yaml")); err == nil {
		t.Error("a review wrote files")
	}
	out, code = m.importAll("--write")
	if code != 0 || !strings.Contains(m.read("conf.d/rsa.example.com.yaml"), "/usr/bin/true") || !strings.Contains(out, m.accountURI()) {
		t.Fatalf("exit %d: %s", code, out)
	}
	if snapshot(t, m.le) != before {
		t.Error("the import changed certbot's directory")
	}
	for _, name := range []string{"example.com", "rsa.example.com", "files"} {
		want, err := os.ReadFile(filepath.Join(m.le, "live", strings.Replace(name, "files", "Files", 1), "privkey.pem"))
		if err != nil {
			t.Fatal(err)
		}
		reason := "nothing-to-do"
		if name == "rsa.example.com" { // its program runs first
			reason = "not-installed"
		}
		if status := m.statusOf(name); status.Order || status.Reason != reason {
			t.Errorf("%s: %+v", name, status)
		}
		if got := m.read("state/certs/" + name + "/current/privkey.pem"); !sameKey(t, want, got) {
			t.Errorf("%s has another key", name)
		}
	}
	if versions := m.statusOf("example.com").Versions; len(versions) != 2 {
		t.Errorf("example.com has %d versions, want both of certbot's", len(versions))
	}
	if out, code := m.run("renew"); code != 0 {
		t.Errorf("renew: exit %d: %s", code, out)
	}
	if seen := m.ca.Requests(acmetest.NewAccount) + m.ca.Requests(acmetest.NewOrder); seen != 0 {
		t.Errorf("the CA saw %d new accounts and orders before anything was due", seen)
	}

	if out, code := m.run("renew", "--force", "files"); code != 0 {
		t.Fatalf("renew --force files: exit %d: %s", code, out)
	}
	m.stopNginx() // it has the port of the others
	// certbot got two for example.com today
	if out, code := m.run("renew", "--force", "--yes", "example.com", "rsa.example.com"); code != 0 {
		t.Fatalf("renew --force: exit %d: %s", code, out)
	}
	if out, _ := m.run("account", "show", "ca-127.0.0.1"); !strings.Contains(out, m.accountURI()) {
		t.Errorf("the account is another one than %s:\n%s", m.accountURI(), out)
	}
	if n := m.ca.Requests(acmetest.NewOrder); n != 3 || orders != 4 {
		t.Errorf("the CA saw %d orders of acmed and %d of certbot", n, orders)
	}
}

// TestImportCertbotAccountByKey: when certbot has lost the account's URI, the CA finds it by the key.
func TestImportCertbotAccountByKey(t *testing.T) {
	m := newCertbotMachine(t)
	m.certbot("certonly", "--standalone", "-d", "example.com")
	uri := m.accountURI()
	files, err := filepath.Glob(filepath.Join(m.le, "accounts", "*", "*", "*", "regr.json"))
	if err != nil || os.WriteFile(files[0], []byte(`{"body": {}}`), 0o600) != nil {
		t.Fatal(err)
	}
	if out, code := m.importAll("--write"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if out, code := m.run("renew", "--force"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if out, _ := m.run("account", "show", "ca-127.0.0.1"); !strings.Contains(out, uri) {
		t.Errorf("the account is another one than %s:\n%s", uri, out)
	}
}

// TestImportCertbotNginx: a site that certbot's nginx plugin made serves the same certificate from acmed's files, and
// then a new one.
func TestImportCertbotNginx(t *testing.T) {
	m := newCertbotMachine(t)
	if out, err := exec.Command("certbot", "plugins").CombinedOutput(); err != nil || !strings.Contains(string(out), "* nginx") {
		t.Skip("certbot's nginx plugin is not installed")
	}
	webroot := filepath.Join(m.dir, "html")
	m.serveFiles(webroot)
	m.certbot("--nginx", "--nginx-server-root", m.dir, "--nginx-ctl", m.nginxCtl(), "--https-port", fmt.Sprint(m.tls),
		"-d", "example.com", "-d", "www.example.com", "--no-redirect")
	byCertbot := m.served()
	m.ca.ResetRequests()
	out, code := m.importAll("--write")
	if code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	// certbot's plugin knows its nginx by the directory alone; this one also has ports and a pid file of its own.
	conf := m.read("conf.d/example.com.yaml")
	config := "config: " + m.nginxConf
	if !strings.Contains(conf, config) || !strings.Contains(conf, "webroot: "+webroot) {
		t.Fatalf("not translated:\n%s", conf)
	}
	m.write("conf.d/example.com.yaml", strings.Replace(conf, config, fmt.Sprintf("%s\n          prefix: %s\n          pid_file: %s/nginx.pid\n          listen: %d",
		config, m.dir, m.dir, m.tls), 1))
	if out, code := m.run("renew"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if !m.served().Equal(byCertbot) || m.ca.Requests(acmetest.NewOrder) != 0 {
		t.Error("installing what was imported needs no new certificate")
	}
	if !strings.Contains(m.read("nginx.conf"), filepath.Join(m.dir, "state/certs/example.com/current/fullchain.pem")) {
		t.Errorf("nginx does not read acmed's files:\n%s", m.read("nginx.conf"))
	}
	if out, code := m.run("renew", "--force"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	if m.served().Equal(byCertbot) {
		t.Error("the renewed certificate is not served")
	}
}

// serveFiles runs nginx with a webroot where the CA validates.
func (m *certbotMachine) serveFiles(webroot string) {
	m.t.Helper()
	if err := os.Mkdir(webroot, 0o755); err != nil {
		m.t.Fatal(err)
	}
	for dir := m.dir; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			m.t.Fatal(err)
		}
	}
	conf := strings.ReplaceAll(m.read("nginx.conf"), fmt.Sprintf("listen 127.0.0.1:%d;", m.plain), fmt.Sprintf("listen 127.0.0.1:%d;\n\t\troot %s;", m.ca.HTTPPort, webroot))
	conf = strings.Replace(conf, "server_name example.com", "server_name files.example.com example.com", 1)
	m.write("nginx.conf", strings.Replace(conf, "\t\tlocation / { return 200 \"hello\\n\"; }\n", "", 1))
	m.startNginx()
}

func (m *certbotMachine) stopNginx() {
	m.t.Helper()
	if out, err := exec.Command(m.nginxCtl(), "-c", m.nginxConf, "-s", "stop").CombinedOutput(); err != nil {
		m.t.Fatalf("%v: %s", err, out)
	}
	await.True(m.t, "nginx stops", func() bool {
		_, err := os.Stat(filepath.Join(m.dir, "nginx.pid"))
		return err != nil
	})
}

// nginxCtl is a program that runs nginx on the test's own configuration, for certbot's plugin.
func (m *certbotMachine) nginxCtl() string {
	path := filepath.Join(m.dir, "nginx-ctl")
	text := fmt.Sprintf("#!/bin/sh\nexec /usr/sbin/nginx -p %[1]s -e %[1]s/error.log \"$@\"\n", m.dir)
	if err := os.WriteFile(path, []byte(text), 0o755); err != nil {
		m.t.Fatal(err)
	}
	return path
}

type importedStatus struct {
	Name, Health, Reason string
	Order                bool
	Versions             []struct{ ID string }
}

func (m *certbotMachine) statusOf(name string) importedStatus {
	m.t.Helper()
	out, code := m.run("status", "-o", "json", name)
	var answer struct{ Certificates []importedStatus }
	if err := json.Unmarshal([]byte(out), &answer); err != nil || len(answer.Certificates) != 1 {
		m.t.Fatalf("status %s: exit %d: %s", name, code, out)
	}
	return answer.Certificates[0]
}

// sameKey compares keys, whatever the PEM form.
func sameKey(t *testing.T, a []byte, b string) bool {
	t.Helper()
	public := func(text []byte) []byte {
		cmd := exec.Command("openssl", "pkey", "-pubout")
		cmd.Stdin = strings.NewReader(string(text))
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	return slices.Equal(public(a), public([]byte(b)))
}
