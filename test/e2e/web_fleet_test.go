package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"image/color"
	"math/big"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// fleet replaces the certificates of a site by many that are all in order, c0 and so on, without an order for any.
func (s *site) fleet(count int) {
	s.t.Helper()
	state, err := store.Open(filepath.Join(s.dir, "state"))
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = state.Close() }()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader) // one for all: keys take longer than all the rest
	if err != nil {
		s.t.Fatal(err)
	}
	main, _, _ := strings.Cut(s.read("acmed.yaml"), "certificates:")
	var text strings.Builder
	text.WriteString(main + "certificates:\n")
	var group errgroup.Group
	group.SetLimit(32) // most of the time goes into waiting for the disk
	for i := range count {
		name := fmt.Sprintf("c%d", i)
		fmt.Fprintf(&text, "  - { name: %[1]s, names: [%[1]s.example.com] }\n", name)
		group.Go(func() error { return obtained(state, key, name) })
	}
	if err := group.Wait(); err != nil {
		s.t.Fatal(err)
	}
	s.write("acmed.yaml", text.String())
}

// obtained makes a certificate that looks as if it had just come from the CA.
func obtained(state *store.Store, key *ecdsa.PrivateKey, name string) error {
	now := time.Now()
	template := &x509.Certificate{SerialNumber: big.NewInt(now.UnixNano()), DNSNames: []string{name + ".example.com"}, NotBefore: now, NotAfter: now.AddDate(0, 0, 90)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	pem, err := certs.EncodeKey(key)
	if err != nil {
		return err
	}
	bundle, err := certs.NewBundle(certs.EncodeCert(leaf), pem)
	if err != nil {
		return err
	}
	bundle.Issuer = "test-ca"
	version, err := state.AddVersion(name, bundle, now)
	if err != nil {
		return err
	}
	return errors.Join(state.Activate(name, version),
		state.SaveState(name, &store.State{ARI: store.ARI{For: certs.Fingerprint(leaf), CheckAt: now.Add(24 * time.Hour)}}))
}

// TestStatusPageOfFleet: with 10,000 certificates a browser shows the first page, the last one and a search, each complete,
// and the first one fits a phone.
func TestStatusPageOfFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes 10,000 certificates")
	}
	if out, err := exec.CommandContext(t.Context(), "../needs.sh", "chromium:chromium").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const count = 10_000
	s := newSite(t)
	s.fleet(count)
	address := fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t))
	s.write("acmed.yaml", s.read("acmed.yaml")+"web: { listen: \""+address+"\" }\n")
	s.start()
	up(t, "http://"+address+"/")
	b := browser{t}
	for _, tt := range []struct {
		path string
		rows int
		has  []string
	}{
		{"/", 100, []string{"<b>10,000</b>", "1 to 100 of 10,000", `<a href="/certificate/c0">c0</a>`, "<svg"}},
		{"/?sort=name&page=100", 100, []string{"9,901 to 10,000 of 10,000", `<a href="/certificate/c9999">c9999</a>`}},
		{"/?q=c1234", 1, []string{`<a href="/certificate/c1234">c1234</a>`}},
	} {
		begun := time.Now()
		dom, log := b.open(1280, false, "http://"+address+tt.path, "--dump-dom")
		t.Logf("%s: %d bytes after %s", tt.path, len(dom), time.Since(begun).Round(time.Millisecond))
		if n := strings.Count(dom, `<tr><td class="state`); n != tt.rows {
			t.Errorf("%s: %d rows, want %d\n%s", tt.path, n, tt.rows, log)
		}
		for _, want := range tt.has {
			if !strings.Contains(dom, want) {
				t.Errorf("%s: no %q", tt.path, want)
			}
		}
		if t.Failed() {
			t.Logf("the page:\n%s", dom)
		}
	}
	if !fits(b.screenshot(500, false, "http://"+address+"/"), color.RGBA{0xf6, 0xf7, 0xf9, 255}) {
		t.Error("without style, or wider than a phone")
	}
}
