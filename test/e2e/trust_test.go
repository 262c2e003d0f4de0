package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// clients adds a trust store to the configuration that the certificate must not lose.
func (s *site) clients(name string, anchors []byte) {
	s.t.Helper()
	s.write(name+".pem", string(anchors))
	text := s.read("acmed.yaml")
	text = strings.Replace(text, "certificates:\n", fmt.Sprintf("trust:\n  - { name: %s, anchors: %s/%[1]s.pem }\ncertificates:\n", name, s.dir), 1)
	s.write("acmed.yaml", strings.Replace(text, "    install:", fmt.Sprintf("    profile: default\n    trust: [%s]\n    install:", name), 1))
}

// device is a client that trusts what is in the file and nothing else.
func (s *site) device(anchors string) error {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), "openssl", "s_client", "-connect", fmt.Sprintf("127.0.0.1:%d", s.tls), "-servername", names[0],
		"-verify_hostname", names[0], "-partial_chain", "-verify_return_error", "-no-CApath", "-no-CAstore", "-CAfile", s.dir+"/"+anchors)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
}

// TestFirmware: devices know one intermediate. They go on working through three renewals, and when the CA moves to another
// one, the new certificate is held, and the device that would break is named.
func TestFirmware(t *testing.T) {
	s := newSite(t)
	s.clients("firmware", s.ca.IntermediatePEM(0))
	s.startNginx()
	s.start()
	s.waitFor("installed", isOK)
	edited, before := s.read("nginx.conf"), s.served()
	for n := range 3 {
		if out, code := s.run("renew", "--force", "--yes", "www"); code != 0 {
			t.Errorf("exit %d: %s", code, out)
		}
		if err := s.device("firmware.pem"); err != nil {
			t.Fatalf("renewal %d: the device is cut off: %v", n, err)
		}
		if after := s.served(); after.Equal(before) {
			t.Errorf("renewal %d changed nothing", n)
		} else {
			before = after
		}
	}
	c, _ := s.status()
	if err := s.ca.Forget(); err != nil {
		t.Fatal(err)
	}
	if out, _ := s.run("renew", "--force", "--yes", "www"); !strings.Contains(out, "firmware would not trust it") {
		t.Errorf("nobody is named: %s", out)
	}
	if err := s.device("firmware.pem"); err != nil {
		t.Fatalf("the device is cut off: %v", err)
	}
	s.kill(syscall.SIGKILL) // neither a crash nor the sweep at the next start lets it through
	s.start()
	after := s.waitFor("held", func(c certStatus) bool { return c.Health == "held" })
	if after.Serial != c.Serial || s.read("nginx.conf") != edited {
		t.Errorf("something changed: %+v, was %+v", after, c)
	}
	if err := s.device("firmware.pem"); err != nil {
		t.Fatalf("the device is cut off after the restart: %v", err)
	}
	if out, code := s.run("activate", "www", "--anyway"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if s.device("firmware.pem") == nil {
		t.Error("the device trusts the new intermediate: the test proves nothing")
	}
	s.served()
}

// TestPartner: a client that trusts only one of the CA's alternate roots gets the chain to that root.
func TestPartner(t *testing.T) {
	s := newSite(t, acmetest.WithAlternateRoots(2), acmetest.WithChainLength(2))
	s.clients("partner", s.ca.IssuingRootPEM(2))
	s.startNginx()
	s.start()
	s.waitFor("installed", isOK)
	edited := s.read("nginx.conf")
	for range 2 {
		if err := s.device("partner.pem"); err != nil {
			t.Fatalf("the partner is cut off: %v", err)
		}
		if out, code := s.run("trust", "www"); code != 0 || strings.Count(out, "offered") != 2 {
			t.Errorf("exit %d: %s", code, out)
		}
		if out, code := s.run("renew", "--force", "--yes", "www"); code != 0 {
			t.Errorf("exit %d: %s", code, out)
		}
	}
	if s.read("nginx.conf") != edited {
		t.Error("the configuration was edited again")
	}
	address := fmt.Sprintf("127.0.0.1:%d", s.tls)
	if out, code := s.run("probe", address, "--name", names[0], "--client", "partner"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, code := s.run("probe", address, "--name", "other.example.org"); code != 3 || !strings.Contains(out, "problem: the certificate is not for other.example.org") {
		t.Errorf("exit %d: %s", code, out)
	}
	if out, _ := s.run("trust", address, "--name", names[0]); !strings.Contains(out, "partner  until 20") {
		t.Errorf("%s", out)
	}
}

// TestRollbackUnderLoad: going back loses no request, the older leaf is served, and no sweep or restart undoes it.
func TestRollbackUnderLoad(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	s.start()
	s.waitFor("installed", isOK)
	first := s.served()
	if out, code := s.run("renew", "--force", "--yes", "www"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	second := s.served()
	stop := s.load(4)
	out, code := s.run("rollback", "www")
	if code != 0 || !strings.Contains(out, "pinned") {
		t.Errorf("exit %d: %s", code, out)
	}
	rolled := s.served()
	if out, code := s.run("activate", "www"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	forward := s.served()
	if out, code := s.run("rollback", "www"); code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	ok, failed := stop()
	t.Logf("%d requests answered, %d failed", ok, len(failed))
	if len(failed) > 0 || ok == 0 {
		t.Errorf("failed requests: %v", failed)
	}
	if !rolled.Equal(first) || !forward.Equal(second) {
		t.Error("another leaf is served than was asked for")
	}
	if out, code := s.run("renew"); code != 3 || !strings.Contains(out, "pinned to version") { // status has something to tell
		t.Errorf("exit %d: %s", code, out)
	}
	s.kill(syscall.SIGTERM)
	s.start()
	s.waitFor("pinned", func(c certStatus) bool { return c.Health == "held" && c.Serial == first.SerialNumber.Text(16) })
	if !s.served().Equal(first) {
		t.Error("the pin was undone")
	}
}

// TestTakenBack: an nginx with ECDSA suites only cannot complete a handshake with an RSA certificate, although its own test
// passes. The one before comes back by itself.
func TestTakenBack(t *testing.T) {
	s := newSite(t)
	s.write("nginx.conf", strings.Replace(s.read("nginx.conf"), "access_log off;",
		"access_log off;\n\tssl_protocols TLSv1.2;\n\tssl_ciphers ECDHE-ECDSA-AES128-GCM-SHA256;", 1))
	s.startNginx()
	s.start()
	good := s.waitFor("installed", isOK)
	before := s.served()
	s.write("acmed.yaml", strings.Replace(s.read("acmed.yaml"), "    install:", "    key_type: rsa2048\n    install:", 1))
	if out, code := s.run("reload"); code != 0 {
		t.Fatalf("exit %d: %s", code, out)
	}
	s.waitFor("taken back", func(c certStatus) bool { return c.Health == "held" && c.Version == good.Version })
	if !s.served().Equal(before) {
		t.Error("another leaf is served")
	}
	if n := s.ca.Requests(acmetest.NewOrder); n != 2 {
		t.Errorf("%d orders", n)
	}
	if out, _ := s.run("status"); !strings.Contains(out, "stopped working with it") {
		t.Errorf("the reason is not told: %s", out)
	}
	s.kill(syscall.SIGTERM)
	if !strings.Contains(s.log.String(), "rolled_back") {
		t.Error("the event is missing")
	}
}

// TestChainFile: what acmed chain prints is what a client needs that pins the issuer.
func TestChainFile(t *testing.T) {
	s := newSite(t)
	s.startNginx()
	s.start()
	s.waitFor("installed", isOK)
	out, code := s.run("chain", "www")
	block, _ := pem.Decode([]byte(out))
	if code != 0 || block == nil {
		t.Fatalf("exit %d: %s", code, out)
	}
	if c, err := x509.ParseCertificate(block.Bytes); err != nil || !c.IsCA {
		t.Errorf("%v", err)
	}
	s.write("chain.pem", out)
	if err := s.device("chain.pem"); err != nil {
		t.Error(err)
	}
}
