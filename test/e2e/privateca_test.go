package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
)

// TestPrivateCAs lets acmed issue, install, renew, revoke and roll its account key over at three CAs, each at its own speed:
// Pebble, step-ca, and the ACME server of Caddy as Debian has it. The last one has the library of step-ca inside, in a release
// of 2022, behind Caddy's own HTTP and storage. An independent third implementation that a test can have was not found: OpenBao
// cannot be had as one module and takes many minutes to build, acme2certifier is in none of the places that tests install from.
//
// Each CA also gets the names that only private CAs certify, where it does: single labels, more than ten labels, underscores.
func TestPrivateCAs(t *testing.T) {
	if _, err := acmetest.InstallStepCA(t.Context()); err != nil { // a network of its own has no way to the source
		t.Fatal(err)
	}
	if !seclude(t, "-m") {
		return
	}
	many := strings.Repeat("x.", 12) + "example.internal"
	t.Run("pebble", func(t *testing.T) {
		const mac = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"
		ca := acmetest.Start(t, acmetest.WithPorts(80, 0), acmetest.WithEAB(map[string]string{"kid-1": mac}))
		m := newMember(t, ca.Directory, ca.RootPEM, "eab: { kid: kid-1, hmac_file: %s/hmac }", "intranet", many)
		if out, code := m.acmed("renew"); code != 2 && code != 3 || !strings.Contains(out, "hmac") {
			t.Errorf("without the key of the binding: %d\n%s", code, out)
		}
		m.secret("hmac", mac)
		m.life()
		m.rejects("db_1.example.internal", "illegal character: '_'")
		m.must("account", "rollover", "private-ca")
		m.must("account", "show", "private-ca")
	})
	t.Run("step-ca", func(t *testing.T) {
		ca := acmetest.StartStepCA(t, acmetest.WithPorts(80, 0))
		m := newMember(t, ca.Directory, ca.RootPEM, "", "intranet", many)
		m.life()
		m.lacks("rollover")
	})
	t.Run("caddy", func(t *testing.T) {
		m := newMember(t, "", nil, "", "intranet", many, "db_1.example.internal")
		m.caddyCA()
		m.life()
		m.lacks("rollover")
	})
}

// member is a machine with one certificate of a private CA, in a network of its own where every name leads to it.
type member struct {
	*box
	more  string
	names []string
}

func newMember(t *testing.T, directory string, root []byte, more string, names ...string) *member {
	t.Helper()
	m := &member{box: &box{front: &front{T: t, dir: openDir(t)}}, names: names}
	if strings.Contains(more, "%s") {
		more = fmt.Sprintf(more, m.dir)
	}
	m.more = more
	for _, dir := range []string{"state", "tls"} {
		if err := os.Mkdir(filepath.Join(m.dir, dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	m.want(directory, root)
	return m
}

// secret writes a file that only acmed can read.
func (m *member) secret(name, text string) {
	m.Helper()
	if err := os.WriteFile(filepath.Join(m.dir, name), []byte(text+"\n"), 0o600); err != nil {
		m.Fatal(err)
	}
}

// want writes the configuration.
func (m *member) want(directory string, root []byte) {
	m.Helper()
	m.file("ca.pem", string(root))
	m.file("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: private-ca, directory: %[2]q, ca_file: %[1]s/ca.pem, private: true, %[3]s }
solvers:
  - { name: http, http-01: { listen: "127.0.0.1:80" } }
defaults: { issuers: [private-ca], solvers: [http] }
certificates:
  - name: www
    names: [%[4]s]
    install:
      - file: { dir: %[1]s/tls, fullchain: www.pem, key: www.key }
`, m.dir, directory, m.more, strings.Join(m.names, ", ")))
}

// caddyCA makes Caddy the CA. It asks the machine's resolver.
func (m *member) caddyCA() {
	m.Helper()
	m.need("caddy:caddy")
	dns, err := acmetest.NewDNS("127.0.0.1:53")
	if err != nil {
		m.Fatal(err)
	}
	m.Cleanup(func() { _ = dns.Close() })
	m.file("resolv.conf", "nameserver 127.0.0.1\n")
	port := acmetest.FreePort(m)
	conf := m.file("caddy.json", fmt.Sprintf(`{
	"admin": {"disabled": true},
	"storage": {"module": "file_system", "root": %[1]q},
	"apps": {
		"pki": {"certificate_authorities": {"local": {"install_trust": false}}},
		"http": {"servers": {"acme": {
			"listen": ["127.0.0.1:%[2]d"], "tls_connection_policies": [{}], "automatic_https": {"disable_redirects": true},
			"routes": [{"match": [{"host": ["localhost"]}], "handle": [{"handler": "acme_server", "ca": "local"}]}]
		}}},
		"tls": {"automation": {"policies": [{"subjects": ["localhost"], "issuers": [{"module": "internal", "ca": "local"}]}]}}
	}
}`, filepath.Join(m.dir, "caddy"), port))
	m.start(port, "unshare", "-m", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, m.dir+"/resolv.conf", "/usr/bin/caddy", "run", "--config", conf)
	var root []byte
	await.NoError(m, func() (err error) {
		root, err = os.ReadFile(filepath.Join(m.dir, "caddy", "pki/authorities/local/root.crt"))
		return err
	})
	m.want(fmt.Sprintf("https://localhost:%d/acme/local/directory", port), root)
}

func (m *member) must(args ...string) string {
	m.Helper()
	out, code := m.acmed(args...)
	if code != 0 {
		m.Fatalf("acmed %s: %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// served is the certificate that is installed.
func (m *member) served() *x509.Certificate {
	m.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, "tls", "www.pem"))
	if err != nil {
		m.Fatal(err)
	}
	block, _ := pem.Decode(text)
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		m.Fatal(err)
	}
	return c
}

// life issues, installs, renews and revokes.
func (m *member) life() {
	m.Helper()
	m.must("renew")
	first := m.served()
	if names := slices.Sorted(slices.Values(first.DNSNames)); !slices.Equal(names, slices.Sorted(slices.Values(m.names))) {
		m.Errorf("the certificate is for %q", names)
	}
	m.must("renew", "--force")
	second := m.served()
	if second.SerialNumber.Cmp(first.SerialNumber) == 0 {
		m.Error("it was not renewed")
	}
	m.must("revoke", "www", "--reason", "superseded", "--yes")
	if third := m.served(); third.SerialNumber.Cmp(second.SerialNumber) == 0 {
		m.Error("the revoked certificate was not replaced")
	}
}

// lacks checks that what the CA does not offer is said, and harms nothing.
func (m *member) lacks(what string) {
	m.Helper()
	if out, code := m.acmed("account", what, "private-ca"); code == 0 || !strings.Contains(out, "not-supported") || strings.Contains(out, "unavailable") {
		m.Errorf("%s: %d\n%s", what, code, out)
	}
	m.must("account", "show", "private-ca")
}

// rejects checks that the CA is asked for a name, and what it says against it.
func (m *member) rejects(name, why string) {
	m.Helper()
	text, err := os.ReadFile(filepath.Join(m.dir, "acmed.yaml"))
	if err != nil {
		m.Fatal(err)
	}
	m.file("acmed.yaml", strings.Replace(string(text), "names: [", "names: ["+name+", ", 1))
	if out, code := m.acmed("renew", "--force", "--yes"); code != 1 || !strings.Contains(out, why) {
		m.Errorf("%s: %d\n%s", name, code, out)
	}
}
