package e2e

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

const examples = "../../configs/examples"

// recipe is one example on a machine of its own: its configuration, and what its comment says to do before, all with the
// paths and ports of a private instance.
type recipe struct {
	*front
	acmed    *site
	settings string            // goes into the server's configuration: the lines of the comment that are indented
	before   map[string]string // the files that it makes the server start with
	domain   string
	addr     map[string]string // a free address of the private instance in place of each of the server's ports
}

// newRecipe makes the machine of an example. The ports are those that the server listens on by default.
func newRecipe(t *testing.T, domain string, ports ...string) *recipe {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root runs these servers as their own users")
	}
	f := &front{T: t, dir: openDir(t), ca: acmetest.Start(t)}
	r := &recipe{front: f, domain: domain, addr: map[string]string{}}
	r.acmed = &site{t: t, dir: f.dir, ca: f.ca}
	for _, port := range ports {
		r.addr[port] = f.free()
	}
	r.need("make-ssl-cert:ssl-cert", "openssl:openssl")
	return r
}

func (r *recipe) path(name string) string { return filepath.Join(r.dir, name) }

// load reads the example, replaces what belongs to the machine, and does what its comment says to do in a shell. private
// has pairs of what the example says and what holds for the private instance. The CA and the port where it validates are
// in the file that includes the example.
func (r *recipe) load(example string, private ...string) {
	r.Helper()
	text, err := os.ReadFile(filepath.Join(examples, example))
	if err != nil {
		r.Fatal(err)
	}
	for i := 0; i < len(private); i += 2 {
		if !bytes.Contains(text, []byte(private[i])) {
			r.Fatalf("%s does not say %q", example, private[i])
		}
	}
	own := strings.NewReplacer(private...).Replace(string(text))
	for _, line := range strings.Split(own, "\n") {
		if command, ok := strings.CutPrefix(line, "#   $ "); ok {
			r.setUp("/bin/sh", "-ec", command)
		} else if setting, ok := strings.CutPrefix(line, "#   "); ok {
			r.settings += setting + "\n"
		}
	}
	r.before = r.files()
	r.file("recipe.yaml", own)
	r.file("ca.pem", string(r.ca.RootPEM))
	r.file("acmed.yaml", fmt.Sprintf(`include: recipe.yaml
state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: test-ca, directory: "%[2]s", ca_file: %[1]s/ca.pem, private: true }
solvers:
  - { name: http-01, http-01: { listen: "127.0.0.1:%[3]d" } }
defaults: { issuers: [test-ca] }
`, r.dir, r.ca.Directory, r.ca.HTTPPort))
	if err := os.Mkdir(r.path("state"), 0o700); err != nil {
		r.Fatal(err)
	}
	r.Cleanup(func() {
		r.acmed.kill(syscall.SIGKILL)
		if r.Failed() {
			r.Logf("the daemon's log:\n%s", r.acmed.log.String())
		}
	})
}

// prove obtains and installs the certificate, renews it while the server runs, and looks each time with OpenSSL's client
// at what is served. The arguments are those of "openssl s_client" for each endpoint.
func (r *recipe) prove(certificate string, clients ...[]string) {
	r.Helper()
	r.acmed.start()
	r.acmed.waitFor("installed", isOK)
	before := make([]*x509.Certificate, len(clients))
	for i, args := range clients {
		before[i] = r.served(args)
	}
	if out, code := r.acmed.run("renew", "--force", "--yes", certificate); code != 0 {
		r.Fatalf("exit %d: %s", code, out)
	}
	for i, args := range clients {
		if r.served(args).Equal(before[i]) {
			r.Errorf("%q: the old certificate is served after the renewal", args)
		}
	}
}

// undo takes the installation back: the files are what they were before acmed came.
func (r *recipe) undo(certificate string) {
	r.Helper()
	if out, code := r.acmed.run("uninstall", certificate); code != 0 {
		r.Fatalf("exit %d: %s", code, out)
	}
	if now := r.files(); !maps.Equal(now, r.before) {
		r.Errorf("the files are not what they were before: %q, want %q", slices.Collect(maps.Keys(now)), slices.Collect(maps.Keys(r.before)))
	}
}

// files reads the directory of certificates.
func (r *recipe) files() map[string]string {
	r.Helper()
	entries, err := os.ReadDir(r.path("tls"))
	if err != nil {
		r.Fatal(err)
	}
	found := map[string]string{}
	for _, entry := range entries {
		text, err := os.ReadFile(r.path("tls/" + entry.Name()))
		if err != nil {
			r.Fatal(err)
		}
		found[entry.Name()] = string(text)
	}
	return found
}

// served is the leaf that OpenSSL's client is shown, verified against the CA.
func (r *recipe) served(args []string) *x509.Certificate {
	r.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, "openssl", append([]string{"s_client", "-showcerts", "-servername", r.domain}, args...)...)
	out, err := cmd.CombinedOutput()
	var chain []*x509.Certificate
	for block, rest := pem.Decode(out); block != nil; block, rest = pem.Decode(rest) {
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil && block.Type == "CERTIFICATE" {
			chain = append(chain, cert)
		}
	}
	if len(chain) == 0 {
		r.Fatalf("%q: no certificate: %v\n%s", args, err, out)
	}
	pool := x509.NewCertPool()
	for _, cert := range chain[1:] {
		pool.AddCert(cert)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: r.domain, Roots: r.ca.IssuingRoots(), Intermediates: pool}); err != nil {
		r.Fatalf("%q: %v", args, err)
	}
	return chain[0]
}

// owned checks a file that acmed wrote.
func (r *recipe) owned(name, owner, group string, mode fs.FileMode) {
	r.Helper()
	info, err := os.Stat(r.path(name))
	if err != nil {
		r.Fatal(err)
	}
	st := info.Sys().(*syscall.Stat_t)
	u, err := user.LookupId(strconv.Itoa(int(st.Uid)))
	if err != nil {
		r.Fatal(err)
	}
	g, err := user.LookupGroupId(strconv.Itoa(int(st.Gid)))
	if err != nil {
		r.Fatal(err)
	}
	if u.Username != owner || g.Name != group || info.Mode().Perm() != mode {
		r.Errorf("%s is of %s:%s with mode %o, want %s:%s and %o", name, u.Username, g.Name, info.Mode().Perm(), owner, group, mode)
	}
}

// give makes a directory of another user.
func (r *recipe) give(name, owner string) {
	r.Helper()
	u, err := user.Lookup(owner)
	if err != nil {
		r.Fatal(err)
	}
	uid, _ := strconv.Atoi(u.Uid)
	gid, _ := strconv.Atoi(u.Gid)
	if err := os.MkdirAll(r.path(name), 0o700); err != nil {
		r.Fatal(err)
	}
	if err := os.Chown(r.path(name), uid, gid); err != nil {
		r.Fatal(err)
	}
}

// setUp runs a program to its end.
func (r *recipe) setUp(argv ...string) {
	r.Helper()
	if out, err := exec.CommandContext(r.Context(), argv[0], argv[1:]...).CombinedOutput(); err != nil {
		r.Fatalf("%q: %v\n%s", argv, err, out)
	}
}

// port is the number in an address.
func (r *recipe) port(addr string) int {
	r.Helper()
	_, text, err := net.SplitHostPort(addr)
	if err != nil {
		r.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		r.Fatal(err)
	}
	return port
}

func TestRecipePostgres(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, "db.example.com", "5432")
	r.need("pg_ctlcluster:postgresql")
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin")
	if err != nil || len(found) == 0 {
		t.Fatalf("no PostgreSQL below /usr/lib/postgresql: %v", err)
	}
	bin := found[len(found)-1]
	as := []string{"/usr/bin/setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"}
	reload := append(slices.Clone(as), bin+"/pg_ctl", "reload", "-D", r.path("data"))
	r.load("postgres.yaml",
		"/etc/ssl/postgres", r.path("tls"),
		"127.0.0.1:5432", r.addr["5432"],
		"unit: postgresql.service", "reload: ["+strings.Join(reload, ", ")+"]",
	)
	r.give("data", "postgres")
	r.setUp(append(slices.Clone(as), bin+"/initdb", "-D", r.path("data"), "-A", "trust", "--no-sync", "--no-instructions")...)
	r.file("data/postgresql.conf", r.settings)
	r.start(r.port(r.addr["5432"]), append(slices.Clone(as), bin+"/postgres", "-D", r.path("data"), "-F",
		"-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories=", "-p", strconv.Itoa(r.port(r.addr["5432"])))...)
	r.prove("postgres", []string{"-connect", r.addr["5432"], "-starttls", "postgres"})
	r.owned("tls/server.key", "root", "postgres", 0o640)
	r.owned("tls/server.crt", "root", "postgres", 0o644)
	r.undo("postgres")
}

func TestRecipePostfix(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, "mail.example.com", "25")
	r.need("postfix:postfix")
	r.load("postfix.yaml",
		"/etc/ssl/postfix", r.path("tls"),
		"127.0.0.1:25", r.addr["25"],
		"unit: postfix.service", "reload: [/usr/sbin/postfix, -c, "+r.path("etc")+", reload]",
	)
	for _, dir := range []string{"etc", "queue"} {
		if err := os.Mkdir(r.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.give("data", "postfix")
	r.file("etc/master.cf", r.addr["25"]+postfixServices)
	r.file("etc/main.cf", fmt.Sprintf(`compatibility_level = 3.6
queue_directory = %[1]s/queue
data_directory = %[1]s/data
maillog_file = %[1]s/mail.log
maillog_file_prefixes = %[1]s
inet_protocols = ipv4
myhostname = mail.example.com
alias_maps =
alias_database =
%[2]s`, r.dir, r.settings))
	r.Cleanup(r.stopPostfix)
	r.setUp("/usr/sbin/postfix", "-c", r.path("etc"), "start")
	r.prove("postfix", []string{"-connect", r.addr["25"], "-starttls", "smtp"})
	r.owned("tls/mail.pem", "root", "root", 0o600)
	r.undo("postfix")
}

// postfixServices is a master.cf after the address of its first service.
const postfixServices = ` inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
tlsmgr unix - - n 1000? 1 tlsmgr
anvil unix - - n - 1 anvil
rewrite unix - - n - - trivial-rewrite
proxymap unix - - n - - proxymap
`

// stopPostfix ends the private master process, which leads a process group, and waits for it.
func (r *recipe) stopPostfix() {
	text, err := os.ReadFile(r.path("queue/pid/master.pid"))
	if err != nil {
		return
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return
	}
	sig := syscall.SIGTERM
	for range 200 {
		if syscall.Kill(-pid, sig) != nil {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	_ = syscall.Kill(-pid, syscall.SIGKILL)
}

func TestRecipeDovecot(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, "imap.example.com", "143", "993")
	r.need("dovecot:dovecot-imapd")
	if out, err := exec.Command("/usr/sbin/dovecot", "--version").Output(); err != nil || !strings.HasPrefix(string(out), "2.3.") {
		t.Skipf("the example is for Dovecot 2.3, not %s (%v)", out, err)
	}
	r.load("dovecot.yaml",
		"/etc/ssl/dovecot", r.path("tls"),
		"127.0.0.1:143", r.addr["143"],
		"127.0.0.1:993", r.addr["993"],
		"unit: dovecot.service", "reload: [/usr/bin/doveadm, -c, "+r.path("dovecot.conf")+", reload]",
	)
	r.file("dovecot.conf", fmt.Sprintf(`base_dir = %[1]s/run
state_dir = %[1]s/run
log_path = %[1]s/dovecot.log
protocols = imap
listen = 127.0.0.1
mail_location = maildir:%[1]s/mail
ssl_min_protocol = TLSv1.2
passdb {
  driver = static
  args = nopassword=y
}
userdb {
  driver = passwd
}
service imap-login {
  inet_listener imap {
    port = %[2]d
  }
  inet_listener imaps {
    port = %[3]d
  }
}
%[4]s`, r.dir, r.port(r.addr["143"]), r.port(r.addr["993"]), r.settings))
	r.start(r.port(r.addr["143"]), "/usr/sbin/dovecot", "-F", "-c", r.path("dovecot.conf"))
	r.Cleanup(func() { _ = exec.Command("/usr/bin/doveadm", "-c", r.path("dovecot.conf"), "stop").Run() })
	r.prove("dovecot", []string{"-connect", r.addr["143"], "-starttls", "imap"}, []string{"-connect", r.addr["993"]})
	r.owned("tls/mail.pem", "root", "root", 0o600)
	r.undo("dovecot")
}

func TestRecipeHAProxy(t *testing.T) {
	t.Parallel()
	r := newRecipe(t, "example.com", "443", "8080")
	r.need("haproxy:haproxy")
	r.load("haproxy.yaml",
		"127.0.0.1:8080", r.addr["8080"],
		"bind :80\n", fmt.Sprintf("bind 127.0.0.1:%d\n", r.ca.HTTPPort),
		"bind :443", "bind "+r.addr["443"],
		"www.pem}", fmt.Sprintf("www.pem, socket: %s, reload: [/bin/false], verify: [%q]}", r.path("admin.sock"), r.addr["443"]),
		"/etc/haproxy/certs", r.path("tls"),
	)
	r.file("haproxy.cfg", fmt.Sprintf(`global
    user haproxy
    group haproxy
    stats socket %s/admin.sock mode 660 level admin
defaults
    mode http
    timeout connect 5s
    timeout client 5s
    timeout server 5s
%s`, r.dir, r.settings))
	r.start(r.port(r.addr["443"]), "/usr/sbin/haproxy", "-db", "-f", r.path("haproxy.cfg"))
	r.prove("www",
		[]string{"-connect", r.addr["443"], "-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-GCM-SHA256"},
		[]string{"-connect", r.addr["443"], "-tls1_2", "-cipher", "ECDHE-RSA-AES128-GCM-SHA256"},
	)
	r.owned("tls/www.pem.ecdsa", "root", "root", 0o600)
	r.owned("tls/www.pem.rsa", "root", "root", 0o600)
	r.setUp("/usr/sbin/haproxy", "-c", "-f", r.path("haproxy.cfg"))
	r.undo("www")
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

// TestGuideHasTheRecipes: the page shows the examples to the letter.
func TestGuideHasTheRecipes(t *testing.T) {
	page, err := os.ReadFile("../../docs/guides/files-and-mail.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := map[string]bool{}
	for _, m := range yamlBlock.FindAllStringSubmatch(string(page), -1) {
		shown[m[1]] = true
	}
	for _, name := range []string{"postgres.yaml", "postfix.yaml", "dovecot.yaml", "haproxy.yaml"} {
		text, err := os.ReadFile(filepath.Join(examples, name))
		if err != nil {
			t.Fatal(err)
		}
		if !shown[string(text)] {
			t.Errorf("the page does not show %s as it is", name)
		}
	}
}
