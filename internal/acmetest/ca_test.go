package acmetest_test

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/acmed/acmed/internal/acmetest"
	_ "github.com/acmed/acmed/internal/acmetest/umask"
)

// parse decodes a PEM chain.
func parse(t *testing.T, chain []byte) []*x509.Certificate {
	t.Helper()
	var out []*x509.Certificate
	for block, rest := pem.Decode(chain); block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, c)
	}
	if len(out) == 0 {
		t.Fatalf("no certificate in %q", chain)
	}
	return out
}

func verify(t *testing.T, chain []*x509.Certificate, roots *x509.CertPool, name string) {
	t.Helper()
	between := x509.NewCertPool()
	for _, c := range chain[1:] {
		between.AddCert(c)
	}
	_, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: name})
	if err != nil {
		t.Errorf("verify %s: %v", name, err)
	}
}

func TestBareOrder(t *testing.T) {
	ca := acmetest.Start(t)
	chain, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com", "b.example.com")
	if err != nil {
		t.Fatal(err)
	}
	certs := parse(t, chain)
	verify(t, certs, ca.IssuingRoots(), "b.example.com")
	if got := certs[0].NotAfter.Sub(certs[0].NotBefore); got < 89*24*time.Hour || got > 91*24*time.Hour {
		t.Errorf("profile default lives for %s, want 90 days", got)
	}
	want := map[acmetest.Endpoint]int{
		acmetest.Directory: 1, acmetest.NewAccount: 1, acmetest.NewOrder: 1, acmetest.Authorization: 2,
		acmetest.Challenge: 2, acmetest.Finalize: 1, acmetest.Certificate: 1,
	}
	for e, n := range want {
		if got := ca.Requests(e); got != n {
			t.Errorf("%d requests to %s, want %d", got, e, n)
		}
	}
	if ca.Issued() != 1 {
		t.Errorf("%d certificates issued, want 1", ca.Issued())
	}
	ca.ResetRequests()
	if n := len(ca.AllRequests()); n != 0 {
		t.Errorf("%d endpoints counted after the reset", n)
	}
}

func TestTwoCAsDoNotShareNames(t *testing.T) {
	one, two := acmetest.Start(t), acmetest.Start(t)
	one.DNS.AddDNSServFailRecord("only-two.example.com.")
	if _, _, err := acmetest.BareOrder(t.Context(), one.Server, "only-two.example.com"); err == nil {
		t.Error("the first CA validated a name that its name server cannot resolve")
	}
	if _, _, err := acmetest.BareOrder(t.Context(), two.Server, "only-two.example.com"); err != nil {
		t.Error(err)
	}
}

func TestManyClientsAtOnce(t *testing.T) {
	ca := acmetest.Start(t)
	bare, err := acmetest.NewBare(ca.Server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bare.Close() })
	var all errgroup.Group
	all.SetLimit(32)
	for i := range 200 {
		all.Go(func() error {
			_, _, err := bare.Order(t.Context(), "shortlived", fmt.Sprintf("n%d.example.com", i))
			return err
		})
	}
	if err := all.Wait(); err != nil {
		t.Fatal(err)
	}
	if ca.Issued() != 200 {
		t.Errorf("%d certificates issued, want 200", ca.Issued())
	}
}

func TestEnvironmentIsPutBack(t *testing.T) {
	t.Setenv("PEBBLE_VA_NOSLEEP", "kept")
	acmetest.Start(t)
	if got := os.Getenv("PEBBLE_VA_NOSLEEP"); got != "kept" {
		t.Errorf("PEBBLE_VA_NOSLEEP is %q", got)
	}
	for _, v := range os.Environ() {
		if strings.HasPrefix(v, "PEBBLE_") && !strings.HasPrefix(v, "PEBBLE_VA_NOSLEEP=") {
			t.Errorf("%s was left behind", v)
		}
	}
}

func clientTLS(s acmetest.Server) *tls.Config { return &tls.Config{RootCAs: s.Roots} }

func TestCloseLeavesNothingRunning(t *testing.T) {
	idle := goleak.IgnoreTopFunction("github.com/letsencrypt/pebble/v2/va.VAImpl.processTasks") // it has no way to stop
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent(), idle)
	ca, err := acmetest.New()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com"); err != nil {
		t.Error(err)
	}
	if err := ca.Close(); err != nil {
		t.Error(err)
	}
	if err := ca.Resume(); err != nil { // the address is free again
		t.Fatal(err)
	}
	if err := ca.Stop(); err != nil {
		t.Error(err)
	}
}
