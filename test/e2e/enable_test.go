package e2e

import (
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
)

// enableAlone runs "acmed enable" without a terminal in a way that installs nothing, checks what it says and leaves, and
// takes it back.
func (m *minute) enableAlone(name string, flags ...string) (said string) {
	m.t.Helper()
	before := m.content()
	said, code := m.run(append([]string{"enable", "--yes", "-d", name}, flags...)...)
	if code != 0 {
		m.t.Fatalf("exit %d:\n%s", code, said)
	}
	live := filepath.Join(m.dir, "state/certs", name, "current")
	if want := name + ": the certificate and its key are in " + live + "/\n"; !strings.Contains(said, want) {
		m.t.Errorf("%q is not said:\n%s", want, said)
	}
	if strings.Contains(said, "works now") {
		m.t.Errorf("nothing is installed, and yet:\n%s", said)
	}
	chain, err := certs.ParseChain([]byte(m.read(filepath.Join("state/certs", name, "current/fullchain.pem"))))
	if err != nil {
		m.t.Fatal(err)
	}
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	if _, err := chain[0].Verify(x509.VerifyOptions{DNSName: name, Roots: m.ca.IssuingRoots(), Intermediates: between}); err != nil {
		m.t.Error(err)
	}
	if !strings.Contains(said, "valid until "+chain[0].NotAfter.Local().Format(time.DateOnly)) {
		m.t.Errorf("the end %s is not said:\n%s", chain[0].NotAfter, said)
	}
	if out, code := m.run("disable", name, "--yes", "--purge"); code != 0 {
		m.t.Errorf("disable: exit %d:\n%s", code, out)
	}
	for _, path := range []string{live, filepath.Join(m.dir, "conf.d", name+".yaml")} {
		if _, err := os.Lstat(path); err == nil {
			m.t.Errorf("%s is there after disable", path)
		}
	}
	for i, text := range m.content() {
		if text != before[i] {
			m.t.Errorf("%s changed:\n%s", m.files[i], text)
		}
	}
	return said
}

// TestEnableWebroot: from nothing, a directory that nginx serves proves the name. The web server stays as it is, and no
// answer is left in the directory.
func TestEnableWebroot(t *testing.T) {
	m := newMinute(t, "nginx")
	html := filepath.Join(m.dir, "html")
	m.enableAlone("example.com", "--webroot", html, "--directory", m.ca.Directory, "--ca-file", m.dir+"/ca.pem",
		"--state-dir", m.dir+"/state", "--socket", m.dir+"/acmed.sock")
	left, err := filepath.Glob(filepath.Join(html, ".well-known/acme-challenge/*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %q %v", left, err)
	}
}

// bare is a machine without a web server and without acmed's files, whose CA validates on the usual ports. It must be
// secluded.
func bare(t *testing.T, opts ...acmetest.Option) *minute {
	t.Helper()
	m := &minute{site: newSite(t, append(opts, acmetest.WithPorts(80, 443))...)}
	for _, name := range []string{"acmed.yaml", "state", "nginx.conf"} {
		if err := os.RemoveAll(filepath.Join(m.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return m
}

// TestEnableStandalone: from nothing, acmed itself answers the CA on port 80.
func TestEnableStandalone(t *testing.T) {
	if !seclude(t) {
		return
	}
	m := bare(t)
	m.enableAlone("example.com", "--standalone", "--directory", m.ca.Directory, "--ca-file", m.dir+"/ca.pem",
		"--state-dir", m.dir+"/state", "--socket", m.dir+"/acmed.sock")
}

// TestEnableStaging: a staging run orders at the host of Let's Encrypt's staging CA, which is the test CA here, and says that
// the certificate is not trusted.
func TestEnableStaging(t *testing.T) {
	if !seclude(t) {
		return
	}
	const host, address = "acme-staging-v02.api.letsencrypt.org", "9.9.9.9"
	ip(t, "address add "+address+"/32 dev lo") // the name of a public CA must lead to a public address
	m := bare(t, acmetest.WithHost(host), acmetest.WithListen(address+":443", ""))
	t.Setenv("SSL_CERT_FILE", m.dir+"/ca.pem")
	m.write("hosts", address+" "+host+"\n")
	m.write("acmed", fmt.Sprintf("#!/bin/sh\nexec unshare -m sh -c 'mount --bind %s/hosts /etc/hosts && exec %s \"$@\"' acmed \"$@\"\n", m.dir, acmed))
	if err := os.Chmod(m.dir+"/acmed", 0o755); err != nil {
		t.Fatal(err)
	}
	built := acmed
	t.Cleanup(func() { acmed = built })
	acmed = m.dir + "/acmed"
	said := m.enableAlone("example.com", "--standalone", "--staging", "--email", "ops@example.com", "--agree-tos",
		"--state-dir", m.dir+"/state", "--socket", m.dir+"/acmed.sock")
	for _, want := range []string{"issuers: [letsencrypt-staging]", "staging certificate, not trusted by browsers", "without --staging"} {
		if !strings.Contains(said, want) {
			t.Errorf("%q is not said:\n%s", want, said)
		}
	}
}

// TestEnableWithoutSites: where there is nothing to find, the ways that need no site are named.
func TestEnableWithoutSites(t *testing.T) {
	s := newSite(t)
	if err := os.Remove(filepath.Join(s.dir, "acmed.yaml")); err != nil {
		t.Fatal(err)
	}
	s.write("nginx.conf", "events {}\nhttp {}\n")
	out, code := s.run("enable", "--yes", "--server", "nginx", "--set", "config="+s.nginxConf, "--set", "prefix="+s.dir)
	want := "no site with a name was found in nginx or Apache; for another web server give -d NAME --webroot DIRECTORY, and without any -d NAME --standalone\n"
	if code != 1 || !strings.HasSuffix(out, want) {
		t.Errorf("exit %d, not said: %s\n%s", code, want, out)
	}
}

// TestEnablePreflightsFirst: when the names are looked at, nothing is written yet.
func TestEnablePreflightsFirst(t *testing.T) {
	m := newMinute(t, "nginx")
	file := filepath.Join(m.dir, "conf.d/example.com.yaml")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var asked sync.Once
	early := make(chan bool, 1)
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		asked.Do(func() {
			_, err := os.Lstat(file)
			early <- err == nil
		})
		m.ca.DNS.ServeDNS(w, q)
	})}
	go func() { _ = server.ActivateAndServe() }()
	t.Cleanup(func() { _ = server.Shutdown() })
	m.write("acmed.yaml", fmt.Sprintf(`state_dir: %[1]s/state
socket: %[1]s/acmed.sock
issuers:
  - { name: test-ca, directory: %[2]q, ca_file: %[1]s/ca.pem, private: true, preflight: advisory }
probe: { resolver: %[3]q, http_port: %[4]d, tls_port: %[5]d, timeout: 3s }
include: conf.d/*.yaml
`, m.dir, m.ca.Directory, conn.LocalAddr().String(), m.ca.HTTPPort, m.ca.TLSPort))
	said := m.enableAlone("example.com", "--webroot", m.dir+"/html", "--directory", m.ca.Directory)
	if strings.Contains(said, "why: ") {
		t.Errorf("there are doubts:\n%s", said)
	}
	select {
	case there := <-early:
		if there {
			t.Error("the file is written before the names are looked at")
		}
	default:
		t.Error("nobody looked at the names")
	}
}
