package e2e

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"io/fs"
	"net/http"
	"syscall"

	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/acme"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/certs"
)

// migration is a machine on which another ACME client, a real program, looked after example.com so far.
type migration struct {
	*site
	program string
	home    string // the program's files
	args    []string
	account string // the account's URL at the CA
	conf    string // the web server's configuration
	server  []string
	renewed func() // what the operator's hook does
	orders  int    // of a forced renewal
}

// newMigration makes the machine. Its plain HTTP port is where the CA validates, and nginx serves challenges from files.
func newMigration(t *testing.T, program string) *migration {
	t.Helper()
	m := &migration{program: program, orders: 1}
	m.site = newSite(t, acmetest.WithProfile("default", 90*24*3600e9), acmetest.WithMiddleware(acmetest.At(acmetest.SetHeader("Retry-After", "1"))))
	m.home, m.conf = filepath.Join(m.dir, program), m.nginxConf
	for _, name := range []string{"acmed.yaml", "state"} { // no acmed yet
		if err := os.RemoveAll(filepath.Join(m.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for dir := m.dir; dir != os.TempDir() && len(dir) > 1; dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(m.home, 0o755), os.Mkdir(m.dir+"/wk", 0o755)); err != nil {
		t.Fatal(err)
	}
	m.server = []string{"--server", "nginx"}
	for _, pair := range []string{
		"config=" + m.nginxConf, "prefix=" + m.dir, "pid_file=" + m.dir + "/nginx.pid", fmt.Sprintf("listen=%d", m.tls), "verify_timeout=3s",
	} {
		m.server = append(m.server, "--set", pair)
	}
	return m
}

// exec runs a program of the other client.
func (m *migration) exec(env []string, argv ...string) {
	m.t.Helper()
	if _, err := exec.LookPath(argv[0]); err != nil {
		m.t.Skipf("%s is not installed; make test installs it", argv[0])
	}
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Dir, cmd.Env = m.dir, append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		m.t.Fatalf("%s: %v\n%s", argv, err, out)
	}
}

// serve lets nginx serve the program's files with TLS, and challenges where the CA validates.
func (m *migration) serve(chain, key string) {
	m.t.Helper()
	m.write("nginx.conf", strings.Replace(m.read("nginx.conf"), fmt.Sprintf("listen 127.0.0.1:%d;", m.plain), fmt.Sprintf(
		"listen 127.0.0.1:%d ssl;\n\t\tssl_certificate %s;\n\t\tssl_certificate_key %s;", m.tls, chain, key), 1))
	m.startNginx()
}

// challenges serves files where the CA validates, with an nginx of its own.
func (m *migration) challenges() {
	m.t.Helper()
	dir := m.t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		m.t.Fatal(err)
	}
	conf := fmt.Sprintf("pid %[1]s/nginx.pid;\nerror_log %[1]s/error.log;\nevents {}\nhttp {\n access_log off;\n server { listen 127.0.0.1:%[2]d; "+
		"location /.well-known/acme-challenge/ { alias %[3]s/wk/; } }\n}\n", dir, m.ca.HTTPPort, m.dir)
	if err := os.WriteFile(dir+"/nginx.conf", []byte(conf), 0o644); err != nil {
		m.t.Fatal(err)
	}
	m.exec(nil, "nginx", "-p", dir, "-c", dir+"/nginx.conf", "-e", dir+"/error.log")
	m.t.Cleanup(func() {
		_ = exec.Command("nginx", "-p", dir, "-c", dir+"/nginx.conf", "-e", dir+"/error.log", "-s", "stop").Run()
	})
}

// find is the first match of an expression in the program's files.
func (m *migration) find(pattern string) string {
	m.t.Helper()
	found := regexp.MustCompile(pattern).FindString(snapshot(m.t, m.home))
	if found == "" {
		m.t.Fatalf("no %s in %s", pattern, m.home)
	}
	return found
}

// move imports, and proves what an import promises: a review changes nothing, nothing is ordered or registered, the same
// certificate is served before and after, the next one comes from the same account, and everything can be undone.
func (m *migration) move(afterInstall func()) {
	t := m.t
	t.Helper()
	m.account = m.find(`https://127\.0\.0\.1:\d+/my-account/[0-9a-f]+`)
	before, home, conf := m.leaf(), snapshot(t, m.home), readFile(t, m.conf)
	m.ca.ResetRequests()
	args := append([]string{"import", m.program, "--dir", m.home, "--ca-file", m.dir + "/ca.pem", "--state-dir", m.dir + "/state", "--socket", m.dir + "/acmed.sock"}, m.server...)
	args = append(args, m.args...)

	out, code := m.run(args...)
	if _, err := os.Stat(filepath.Join(m.dir, "acmed.yaml")); code != 0 || err == nil || !strings.Contains(out, "nothing was changed") {
		t.Fatalf("the review: exit %d, %v: %s", code, err, out)
	}
	if out, code = m.run(append(args, "--write")...); code != 0 || !strings.Contains(out, m.account) {
		t.Fatalf("exit %d, want the account %s: %s", code, m.account, out)
	}
	if snapshot(t, m.home) != home || string(readFile(t, m.conf)) != string(conf) {
		t.Error("the import changed files of others")
	}
	if out, code := m.run("renew"); code != 0 {
		t.Fatalf("renew: exit %d: %s\n%s", code, out, m.read("conf.d/example.com.yaml"))
	}
	if afterInstall != nil {
		afterInstall()
		conf, home = nil, "" // the operator's edits are not acmed's to undo
	}
	if !m.soon(func() bool { return m.leaf().Equal(before) }) {
		t.Error("another certificate is served after the import")
	}
	if n := m.ca.Requests(acmetest.NewAccount) + m.ca.Requests(acmetest.NewOrder); n != 0 {
		t.Errorf("the CA saw %d new accounts and orders", n)
	}
	if out, code := m.run("renew", "--force", "--yes", "example.com"); code != 0 {
		t.Fatalf("renew --force: exit %d: %s", code, out)
	}
	if m.renewed != nil {
		m.renewed()
	}
	if !m.soon(func() bool { return !m.leaf().Equal(before) }) || m.ca.Requests(acmetest.NewOrder) != m.orders {
		t.Errorf("the new certificate is not served after %d orders", m.ca.Requests(acmetest.NewOrder))
	}
	if out, _ := m.run("account", "show", "ca-127.0.0.1"); !strings.Contains(out, m.account) {
		t.Errorf("the account is another one than %s: %s", m.account, out)
	}
	if out, code := m.run("disable", "example.com", "--yes"); code != 0 {
		t.Fatalf("disable: exit %d: %s", code, out)
	}
	left, err := filepath.Glob(filepath.Join(m.dir, "conf.d", "example*"))
	secrets, errSecrets := filepath.Glob(filepath.Join(m.dir, "secrets", "*"))
	if err != nil || errSecrets != nil || len(left)+len(secrets) > 0 {
		t.Errorf("after the undo there are %v, %v", left, secrets)
	}
	if conf != nil && (snapshot(t, m.home) != home || string(readFile(t, m.conf)) != string(conf)) {
		t.Error("the undo left changes in files of others")
	}
}

// soon waits for what a reload may take a moment to bring.
func (m *migration) soon(is func() bool) bool {
	m.t.Helper()
	for range 500 {
		if is() {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return false
}

// leaf is the certificate that a client gets, of whatever CA.
func (m *migration) leaf() *x509.Certificate {
	m.t.Helper()
	conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", m.tls), &tls.Config{ServerName: names[0], InsecureSkipVerify: true}) //nolint:gosec // compared byte by byte
	if err != nil {
		m.t.Fatalf("the endpoint is broken: %v", err)
	}
	defer func() { _ = conn.Close() }()
	return conn.ConnectionState().PeerCertificates[0]
}

func readFile(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestImportLego: Debian's lego, run by cron, with nginx that reads its files.
func TestImportLego(t *testing.T) {
	t.Parallel()
	m := newMigration(t, "lego")
	listen := fmt.Sprintf("127.0.0.1:%d", m.ca.HTTPPort)
	flags := []string{"lego", "--server", m.ca.Directory, "--accept-tos", "--email", "ops@example.com", "--path", m.home, "--http", "--http.port", listen, "-d", names[0], "-d", names[1]}
	m.exec([]string{"LEGO_CA_CERTIFICATES=" + m.dir + "/ca.pem"}, append(flags, "run")...)
	m.write("cron", "0 3 * * * root "+strings.Join(flags, " ")+` renew --days 20 --renew-hook "systemctl reload nginx" >/dev/null`+"\n")
	m.serve(m.home+"/certificates/example.com.crt", m.home+"/certificates/example.com.key")
	m.args = []string{"--settings", m.dir + "/cron"}
	m.move(nil)
}

// TestImportDehydrated: Debian's dehydrated with a hook, whose deploy_cert is called.
func TestImportDehydrated(t *testing.T) {
	t.Parallel()
	m := newMigration(t, "dehydrated")
	hook := m.home + "/hook.sh"
	if err := os.WriteFile(hook, fmt.Appendf(nil, "#!/bin/sh\n[ \"$1\" != deploy_cert ] || echo \"$2 $5\" >>%s/deployed\n", m.dir), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := fmt.Sprintf("CA=%q\nBASEDIR=%s\nWELLKNOWN=\"${BASEDIR}/../wk\"\nCONTACT_EMAIL=ops@example.com\nDOMAINS_TXT=${BASEDIR}/domains.txt\nHOOK=%s\n", m.ca.Directory, m.home, hook)
	for name, text := range map[string]string{"config": conf, "domains.txt": "example.com www.example.com\n"} {
		if err := os.WriteFile(filepath.Join(m.home, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	m.challenges()
	env := []string{"CURL_CA_BUNDLE=" + m.dir + "/ca.pem"}
	m.exec(env, "dehydrated", "--config", m.home+"/config", "--register", "--accept-terms")
	m.exec(env, "dehydrated", "--config", m.home+"/config", "--cron")
	m.serve(m.home+"/certs/example.com/fullchain.pem", m.home+"/certs/example.com/privkey.pem")
	m.move(nil)
	if want := "example.com " + m.dir + "/state/certs/example.com/"; strings.Count(m.read("deployed"), want) != 2 {
		t.Errorf("the hook was called with %q, want %q twice, for the import and for the renewal", m.read("deployed"), want)
	}
}

// TestImportModMD: Apache's own client. Its certificate is served from acmed's files once the domain is not managed any more.
func TestImportModMD(t *testing.T) {
	t.Parallel()
	m := newMigration(t, "mod_md")
	m.home += "/md"
	m.conf = m.dir + "/httpd.conf"
	modules := "LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so\n"
	for _, name := range []string{"authz_core", "socache_shmcb", "ssl", "md", "alias"} {
		modules += fmt.Sprintf("LoadModule %[1]s_module /usr/lib/apache2/modules/mod_%[1]s.so\n", name)
	}
	m.write("httpd.conf", fmt.Sprintf(`ServerRoot %[1]s
PidFile %[1]s/httpd.pid
Mutex file:%[1]s
Listen 127.0.0.1:%[2]d
Listen 127.0.0.1:%[3]d
User www-data
Group www-data
ErrorLog %[1]s/error.log
LogLevel md:info
%[4]sMDStoreDir %[5]s
MDCertificateAuthority %[6]s
MDCACertificateFile %[1]s/ca.pem
MDCertificateAgreement accepted
MDContactEmail ops@example.com
MDPortMap 80:%[2]d 443:%[3]d
MDCAChallenges http-01
Include %[1]s/managed.conf
DocumentRoot %[1]s/html
ServerName localhost
<VirtualHost *:%[2]d>
ServerName example.com
ServerAlias www.example.com
</VirtualHost>
<VirtualHost *:%[3]d>
ServerName example.com
ServerAlias www.example.com
SSLEngine on
</VirtualHost>
`, m.dir, m.ca.HTTPPort, m.tls, modules, m.home, m.ca.Directory))
	m.write("managed.conf", "MDomain example.com www.example.com\n")
	if err := os.Mkdir(m.dir+"/html", 0o755); err != nil {
		t.Fatal(err)
	}
	m.exec(nil, "apache2", "-f", m.conf)
	t.Cleanup(func() { _ = exec.Command("apache2", "-f", m.conf, "-k", "stop").Run() })
	await.NoError(t, func() error {
		if log := m.read("error.log"); !strings.Contains(log, "AH10059") {
			return fmt.Errorf("mod_md got no certificate:\n%s", log)
		}
		return nil
	})
	graceful := func() { m.exec(nil, "apache2", "-f", m.conf, "-k", "graceful") }
	graceful()
	await.True(t, "Apache serves the certificate of mod_md", func() bool {
		_, err := os.Stat(m.home + "/domains/example.com/pubcert.pem")
		return err == nil && m.tlsUp()
	})
	m.server = []string{"--server", "apache"}
	for _, pair := range []string{
		"config=" + m.conf, "root=" + m.dir, "pid_file=" + m.dir + "/httpd.pid", "binary=/usr/sbin/apache2", fmt.Sprintf("listen=%d", m.tls), "verify_timeout=5s",
	} {
		m.server = append(m.server, "--set", pair)
	}
	m.move(func() {
		m.write("managed.conf", "")
		graceful()
	})
}

// tlsUp reports whether the TLS port serves a certificate of the CA.
func (m *migration) tlsUp() bool {
	cmd := exec.Command("openssl", "s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", m.tls), "-servername", "example.com")
	out, _ := cmd.CombinedOutput()
	return strings.Contains(string(out), "issuer=CN = Pebble")
}

// fixture lays out recorded files of a program, with the addresses and paths of this machine, and registers the account at
// the CA with the recorded key. See testdata/imports/README.md.
func (m *migration) fixture(key func() crypto.Signer) {
	m.t.Helper()
	if err := os.CopyFS(m.home, os.DirFS("testdata/imports/"+m.program)); err != nil {
		m.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(m.ca.RootPEM)
	client := &acme.Client{Key: key(), DirectoryURL: m.ca.Directory, HTTPClient: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}}}
	account, err := client.Register(m.t.Context(), &acme.Account{Contact: []string{"mailto:ops@example.com"}}, acme.AcceptTOS)
	if err != nil {
		m.t.Fatal(err)
	}
	m.orders = 2 // the CA does not know the recorded certificate, and rejects an order that replaces it
	base := strings.TrimSuffix(m.ca.Directory, "/dir")
	uri := regexp.MustCompile(`https://127\.0\.0\.1:14010/my-account/[0-9a-f]+`)
	err = filepath.WalkDir(m.home, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		text := uri.ReplaceAllString(string(readFile(m.t, path)), account.URI)
		text = strings.NewReplacer("@DIR@", m.dir, "@HOME@", m.home, "https://127.0.0.1:14010", base, "@HTTP@", fmt.Sprint(m.ca.HTTPPort)).Replace(text)
		return os.WriteFile(path, []byte(text), 0o600)
	})
	if err != nil {
		m.t.Fatal(err)
	}
}

func pemKey(t *testing.T, path string) crypto.Signer {
	t.Helper()
	key, err := certs.ParseKey(readFile(t, path))
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// TestImportAcmeSh: recorded files of acme.sh, which copied the certificate to where nginx reads it.
func TestImportAcmeSh(t *testing.T) {
	t.Parallel()
	m := newMigration(t, "acme.sh")
	m.fixture(func() crypto.Signer { return pemKey(t, "testdata/imports/acme.sh/ca/127.0.0.1/dir/account.key") })
	conf := m.home + "/example.com_ecc/example.com.conf"
	reload := base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "nginx -p %s -c %s -e %s/error.log -s reload && echo reloaded >>%s/reloaded", m.dir, m.nginxConf, m.dir, m.dir))
	text := regexp.MustCompile(`Le_ReloadCmd=.*`).ReplaceAllString(string(readFile(t, conf)), "Le_ReloadCmd='__ACME_BASE64__START_"+reload+"__ACME_BASE64__END_'")
	text = strings.Replace(text, "Le_HTTPPort='15010'", fmt.Sprintf("Le_HTTPPort='%d'", m.ca.HTTPPort), 1)
	if err := errors.Join(os.WriteFile(conf, []byte(text), 0o600), os.Mkdir(m.dir+"/inst", 0o755)); err != nil {
		t.Fatal(err)
	}
	for from, to := range map[string]string{"fullchain.cer": "full.pem", "example.com.key": "key.pem"} {
		if err := os.WriteFile(m.dir+"/inst/"+to, readFile(t, m.home+"/example.com_ecc/"+from), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	copies := snapshotFiles(t, m.dir+"/inst")
	m.serve(m.dir+"/inst/full.pem", m.dir+"/inst/key.pem")
	m.move(nil)
	if now := snapshotFiles(t, m.dir+"/inst"); now != copies {
		t.Error("after the undo the copies are not what acme.sh wrote")
	}
	if n := strings.Count(m.read("reloaded"), "reloaded"); n < 2 {
		t.Errorf("nginx was reloaded %d times", n)
	}
}

// snapshotFiles is the content of the files in a directory, without their times.
func snapshotFiles(t *testing.T, dir string) (text string) {
	t.Helper()
	files, err := filepath.Glob(dir + "/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text += file + "\n" + string(readFile(t, file))
	}
	return text
}

// TestImportCaddy: Debian's Caddy keeps serving, then with the files of acmed.
func TestImportCaddy(t *testing.T) {
	t.Parallel()
	m := newMigration(t, "caddy")
	m.home += "/data/caddy"
	m.conf = m.dir + "/Caddyfile"
	acmed := acmetest.FreePort(t)
	caddyfile := func(tls, plain string) {
		m.write("Caddyfile", fmt.Sprintf("{\n\tadmin unix/%[1]s/admin.sock\n\temail ops@example.com\n\tacme_ca %[2]s\n\tacme_ca_root %[1]s/ca.pem\n\thttp_port %[3]d\n\thttps_port %[4]d\n}\n"+
			"example.com {\n\tbind 127.0.0.1\n\t%[5]s\n\trespond hello\n}\n%[6]s", m.dir, m.ca.Directory, m.ca.HTTPPort, m.tls, tls, plain))
	}
	caddyfile("", "")
	env := []string{"XDG_DATA_HOME=" + m.dir + "/caddy/data", "XDG_CONFIG_HOME=" + m.dir + "/caddy/config", "HOME=" + m.dir}
	if _, err := exec.LookPath("caddy"); err != nil {
		t.Skip("caddy is not installed; make test installs it")
	}
	cmd := exec.Command("caddy", "run", "--config", m.conf, "--adapter", "caddyfile")
	cmd.Env = append(os.Environ(), env...)
	var log bytes.Buffer
	cmd.Stderr = &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("Caddy's log:\n%s", log.String())
		}
	})
	await.True(t, "Caddy has a certificate", m.tlsUp)
	reload := func() {
		m.exec(env, "caddy", "reload", "--force", "--address", "unix/"+m.dir+"/admin.sock", "--config", m.conf, "--adapter", "caddyfile")
	}
	m.renewed = reload
	m.move(func() {
		// What moving-to-acmed.md says: Caddy reads acmed's files, and forwards challenges.
		caddyfile(fmt.Sprintf("tls %[1]s/state/certs/example.com/current/fullchain.pem %[1]s/state/certs/example.com/current/privkey.pem", m.dir),
			fmt.Sprintf("http://example.com {\n\tbind 127.0.0.1\n\treverse_proxy /.well-known/acme-challenge/* 127.0.0.1:%d\n}\n", acmed))
		reload()
		m.write("acmed.yaml", m.read("acmed.yaml")+fmt.Sprintf("solvers:\n  - { name: http-01, http-01: { listen: \"127.0.0.1:%d\" } }\n", acmed))
	})
}
