package helper

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestNoWayBack: a valid certificate is not given up for an older or a self-signed one, unless the helper's own configuration
// or root says so. What is newer, the same, or comes after the end of the other is taken.
func TestNoWayBack(t *testing.T) {
	for _, tt := range []struct {
		name        string
		have, wants *certs.Bundle
		allow       bool
		refused     string
	}{
		{"older", installertest.Bundle(t, "a.example"), installertest.Aged(t, 48*time.Hour, "a.example"), false, "older"},
		{"older, allowed", installertest.Bundle(t, "a.example"), installertest.Aged(t, 48*time.Hour, "a.example"), true, ""},
		{"self-signed", installertest.Bundle(t, "a.example"), installertest.SelfSigned(t, "a.example"), false, "self-signed"},
		{"self-signed over an older one", installertest.Aged(t, 48*time.Hour, "a.example"), installertest.SelfSigned(t, "a.example"), false, "self-signed"},
		{"self-signed over its like", installertest.SelfSigned(t, "a.example"), installertest.SelfSigned(t, "a.example"), false, ""},
		{"from a CA over a self-signed one", installertest.SelfSigned(t, "a.example"), installertest.Aged(t, 48*time.Hour, "a.example"), false, ""},
		{"newer", installertest.Aged(t, 48*time.Hour, "a.example"), installertest.Bundle(t, "a.example"), false, ""},
		{"single over dual", installertest.Dual(t, "a.example"), installertest.Aged(t, 48*time.Hour, "a.example"), false, "older"},
		{"after the end", installertest.Aged(t, 90*24*time.Hour-30*time.Minute, "a.example"), installertest.SelfSigned(t, "a.example"), false, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := start(t)
			now := time.Now()
			target := NewTarget("www", []certs.Identifier{{Type: certs.DNS, Value: "a.example"}}, plain{h.server}, h.store, func() time.Time { return now })
			target.AllowOlder = tt.allow
			if err := target.Install(t.Context(), tt.have); err != nil {
				t.Fatal(err)
			}
			if tt.name == "after the end" {
				now = now.Add(time.Hour)
			}
			err := target.Install(t.Context(), tt.wants)
			h.want(err, tt.refused)
			have, loadErr := h.store.Load("www")
			want := tt.wants
			if tt.refused != "" {
				want = tt.have
				h.want(err, "allow_older")
				root := context.WithValue(t.Context(), userKey{}, 0)
				h.want(target.Install(context.WithValue(t.Context(), userKey{}, 4711), tt.wants), tt.refused)
				defer func() { h.want(target.Install(root, tt.wants), "") }()
			}
			if loadErr != nil || have.Current.Fingerprint() != want.Fingerprint() {
				t.Errorf("what is in place: %v, %v", have, loadErr)
			}
		})
	}
}

// TestNoWayBackForAnotherUser asks over the socket: root may go back, the daemon's user may not.
func TestNoWayBackForAnotherUser(t *testing.T) {
	const nobody = 65534
	if socket := os.Getenv("ACMED_TEST_SOCKET"); socket != "" {
		h := &helper{t: t, socket: socket}
		h.want(h.client("www").Install(t.Context(), installertest.Aged(t, 48*time.Hour, "a.example")), "is older")
		return
	}
	if os.Geteuid() != 0 {
		t.Skip("only root can be two users")
	}
	h := start(t, func(c *ServerConfig) { c.Users = []int{nobody} })
	for dir := filepath.Dir(h.socket); dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err != nil || info.Mode().Perm()&0o005 != 0o005 {
			_ = os.Chmod(dir, 0o755)
		}
	}
	newer := installertest.Bundle(t, "a.example")
	h.want(h.client("www").Install(t.Context(), newer), "")

	program := filepath.Join(filepath.Dir(h.socket), "test")
	text, err := os.ReadFile("/proc/self/exe")
	if err == nil {
		err = atomicfile.Write(program, text, 0o755)
	}
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env, cmd.Dir = []string{"ACMED_TEST_SOCKET=" + h.socket}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("as another user: %v\n%s", err, out)
	}
	have, err := h.store.Load("www")
	if err != nil || have.Current.Fingerprint() != newer.Fingerprint() {
		t.Errorf("what is in place: %v, %v", have, err)
	}
	h.want(h.client("www").Install(t.Context(), installertest.Aged(t, 48*time.Hour, "a.example")), "")
}

// TestSocketUnit: systemd queues and starts for as many connections as the helper answers at one time.
func TestSocketUnit(t *testing.T) {
	text, err := os.ReadFile("../../../deploy/systemd/acmed-installd.socket")
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"Backlog", "TriggerLimitBurst"} {
		m := regexp.MustCompile(`(?m)^` + key + `=(\d+)$`).FindSubmatch(text)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		if n, err := strconv.Atoi(string(m[1])); err != nil || n < maxConns {
			t.Errorf("%s=%s, and the helper answers %d connections", key, m[1], maxConns)
		}
	}
}

// TestHugeKey: a chain with an RSA key of 400,000 bits, whose use takes minutes, is refused before it is used, and the installed
// certificate stays.
func TestHugeKey(t *testing.T) {
	h := start(t)
	b := installertest.Bundle(t, "a.example")
	h.want(h.client("www").Install(t.Context(), b), "")
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now()}
	huge := &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 400_000-1, 1), E: 65537}
	der, err := x509.CreateCertificate(rand.Reader, template, template, huge, signer)
	if err != nil {
		t.Fatal(err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for _, chain := range []string{string(text), string(b.FullChainPEM()) + string(text)} {
		_, err := dial(h.socket).send(t.Context(), verbInstall, request{Target: "www", Bundle: &bundle{FullChain: chain, Key: string(b.KeyPEM), Issuer: b.Issuer}})
		h.want(err, "400000 bits")
	}
	have, err := h.store.Load("www")
	if err != nil || have.Current.Fingerprint() != b.Fingerprint() {
		t.Errorf("what is in place: %v, %v", have, err)
	}
}
