package haproxy

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

func mustNew(t *testing.T, c Config) (*Installer, installers.Target) {
	t.Helper()
	target, _, _ := installertest.Live(t, "www.example.com")
	p, err := New(c, target)
	if err != nil {
		t.Fatal(err)
	}
	return p, target
}

func mustInstall(t *testing.T, p *Installer, b *certs.Bundle) {
	t.Helper()
	if err := p.Install(t.Context(), b); err != nil {
		t.Fatalf("Install: %v", err)
	}
	if err := p.Verify(t.Context(), b); err != nil {
		t.Fatalf("Verify: %v", err)
	}
}

// TestConformance runs the suite on a directory in which our file is new, and on a file that HAProxy's configuration
// names.
func TestConformance(t *testing.T) {
	for name, o := range map[string]options{"directory": {}, "file": {crt: "certs/www.pem"}} {
		t.Run(name, func(t *testing.T) {
			installertest.Run(t, func(t *testing.T) installertest.Fixture { return fixture(t, o) })
		})
	}
}

func fixture(t *testing.T, o options) installertest.Fixture {
	h := prepare(t, o)
	if o.crt != "" {
		h.write(o.crt, installertest.Bundle(t, "placeholder.example"))
	}
	h.run()
	pairs, err := installertest.KeyPairs(installertest.Bundle(t, "other.example"))
	if err != nil {
		t.Fatal(err)
	}
	other := installertest.Serve(t, func() ([]tls.Certificate, error) { return pairs, nil })
	r := newRelay(t, h.addr, other.Addr)
	c := h.config()
	c.Verify, c.VerifyTimeout = []string{r.addr}, time.Second
	target, publish, state := installertest.Live(t, "www.example.com")
	p, err := New(c, target)
	if err != nil {
		t.Fatal(err)
	}
	f := installertest.Fixture{
		Installer: p, Names: []string{"www.example.com"}, Root: h.path("certs"), State: state, Publish: publish,
		Break: map[installertest.Step]func(bool){installertest.Probe: r.diverted.Store}, Comment: "# renewed by hand",
	}
	if o.crt == "" { // the default certificate is there to be held
		f.Break[installertest.Reload] = h.hold
	}
	return f
}

// TestRenewalUnderLoad: an installation, twenty renewals, a rollback and an uninstall while clients keep asking, each on a
// connection of its own.
func TestRenewalUnderLoad(t *testing.T) {
	h := start(t, options{})
	p, _ := mustNew(t, h.config())
	worker := h.worker()

	ctx, stop := context.WithCancel(t.Context())
	var asked, failed atomic.Int64
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				asked.Add(1)
				if err := request(h.addr); err != nil {
					failed.Add(1)
					t.Error(err)
				}
			}
		})
	}
	first := installertest.Bundle(t, "www.example.com")
	mustInstall(t, p, first)
	for range 20 {
		mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
	}
	mustInstall(t, p, first)
	if err := p.Uninstall(t.Context()); err != nil {
		t.Error(err)
	}
	served := asked.Load() + 20
	await.True(t, "requests after the uninstall", func() bool { return asked.Load() > served })
	stop()
	wg.Wait()
	if failed.Load() > 0 || asked.Load() < 100 {
		t.Errorf("%d of %d requests failed", failed.Load(), asked.Load())
	}
	if now := h.worker(); now != worker {
		t.Errorf("the worker was %s and is %s: HAProxy was reloaded", worker, now)
	}
	t.Logf("%d requests during 20 renewals, %d failed", asked.Load(), failed.Load())
}

func request(addr string) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, ServerName: "www.example.com"},
	}
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	response, err := client.Get("https://" + addr)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && string(body) != "served" {
		err = fmt.Errorf("answer %q", body)
	}
	return err
}

func TestDualUnit(t *testing.T) {
	for name, o := range map[string]options{"directory": {}, "bundle": {crt: "certs/www.pem"}} {
		t.Run(name, func(t *testing.T) {
			h := prepare(t, o)
			if o.crt != "" {
				old := installertest.Dual(t, "www.example.com")
				h.write("certs/www.pem.ecdsa", old)
				h.write("certs/www.pem.rsa", old.RSA)
			}
			h.run()
			worker := h.worker()
			p, _ := mustNew(t, h.config())
			for range 3 {
				mustInstall(t, p, installertest.Dual(t, "www.example.com"))
			}
			if h.worker() != worker {
				t.Error("HAProxy was reloaded")
			}
			if err := p.Uninstall(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestAfterRestart: what is in the file is what HAProxy reads when it starts.
func TestAfterRestart(t *testing.T) {
	h := start(t, options{})
	p, _ := mustNew(t, h.config())
	b := installertest.Bundle(t, "www.example.com")
	mustInstall(t, p, b)
	_ = syscall.Kill(-h.cmd.Process.Pid, syscall.SIGKILL)
	_ = h.cmd.Wait()
	h.run()
	if err := p.Verify(t.Context(), b); err != nil {
		t.Error(err)
	}
}

// TestUninstallTakesTheCertificateAway: a file of a directory is neither on disk nor in the process afterwards.
func TestUninstallTakesTheCertificateAway(t *testing.T) {
	h := start(t, options{})
	p, _ := mustNew(t, h.config())
	before := h.ask("show ssl cert")
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
	if err := p.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if now := h.ask("show ssl cert"); now != before {
		t.Errorf("HAProxy has %q, had %q", now, before)
	}
	if _, err := os.Stat(h.path("certs/www.pem")); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestUninstallOfAFileWithEmptyLines: what an operator wrote by hand goes back to the file as it was, and into the process.
func TestUninstallOfAFileWithEmptyLines(t *testing.T) {
	old := installertest.Bundle(t, "www.example.com")
	spaced := bytes.Join([][]byte{[]byte("# by hand\n"), old.FullChainPEM(), old.KeyPEM}, []byte("\n"))
	for name, content := range map[string][]byte{"LF": spaced, "CRLF": bytes.ReplaceAll(spaced, []byte("\n"), []byte("\r\n"))} {
		t.Run(name, func(t *testing.T) {
			h := prepare(t, options{crt: "certs/www.pem"})
			if err := os.WriteFile(h.path("certs/www.pem"), content, 0o600); err != nil {
				t.Fatal(err)
			}
			h.run()
			p, _ := mustNew(t, h.config())
			mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
			if err := p.Uninstall(t.Context()); err != nil {
				t.Fatal(err)
			}
			if now, err := os.ReadFile(h.path("certs/www.pem")); err != nil || !bytes.Equal(now, content) {
				t.Errorf("the file is not what it was: %v", err)
			}
			if err := endpoint.Look(t.Context(), p.Endpoints, old); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestWithoutRuntimeAPI: a running HAProxy without a socket is reloaded, a stopped one is left alone.
func TestWithoutRuntimeAPI(t *testing.T) {
	h := start(t, options{noSocket: true})
	c := h.config()
	c.Reload = []string{"/bin/kill", "-USR2", strconv.Itoa(h.cmd.Process.Pid)}
	c.VerifyTimeout = 20 * time.Second
	p, _ := mustNew(t, c)
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))

	stopped := func(context.Context) (bool, error) { return false, nil }
	target, _, _ := installertest.Live(t, "www.example.com")
	target.Server = installers.NewServer("HAProxy", installers.Command{}, installers.Command{Argv: []string{"/bin/false"}}, stopped)
	p, err := New(c, target)
	if err != nil {
		t.Fatal(err)
	}
	b := installertest.Bundle(t, "www.example.com")
	err = p.Install(t.Context(), b)
	var notRunning *installers.NotRunningError
	if !errors.As(err, &notRunning) {
		t.Errorf("Install with a stopped HAProxy = %v", err)
	}
	if content, err := os.ReadFile(c.File); err != nil || !strings.HasPrefix(string(content), string(b.CertPEM)) {
		t.Errorf("the file is not in place: %v", err)
	}
}

// TestFailingReload: without a runtime API, and with a reload that fails, the old file comes back.
func TestFailingReload(t *testing.T) {
	h := start(t, options{noSocket: true, crt: "certs/default.pem"})
	c := h.config()
	c.File = h.path("certs/default.pem")
	before, err := os.ReadFile(c.File)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := mustNew(t, c)
	if err := p.Install(t.Context(), installertest.Bundle(t, "www.example.com")); err == nil || !strings.Contains(err.Error(), "/bin/false") {
		t.Errorf("Install = %v", err)
	}
	if now, err := os.ReadFile(c.File); err != nil || string(now) != string(before) {
		t.Errorf("the file was not put back: %v", err)
	}
}

// TestNotReferenced: HAProxy does not use the file; the message says what it uses instead.
func TestNotReferenced(t *testing.T) {
	h := start(t, options{})
	if err := os.Mkdir(h.path("elsewhere"), 0o700); err != nil {
		t.Fatal(err)
	}
	c := h.config()
	c.File = h.path("elsewhere/default.pem")
	p, _ := mustNew(t, c)
	err := p.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
	for _, want := range []string{"does not use a certificate " + c.File, "it has " + h.path("certs/default.pem"), `set "name"`} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in %v", want, err)
		}
	}
	if _, err := os.Stat(c.File); !errors.Is(err, os.ErrNotExist) {
		t.Error("the file stayed")
	}
	c.Name = h.path("certs/default.pem")
	p, _ = mustNew(t, c)
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
}

func TestLevelOfTheSocket(t *testing.T) {
	h := start(t, options{level: "operator"})
	p, _ := mustNew(t, h.config())
	err := p.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
	if err == nil || !strings.Contains(err.Error(), "level admin") {
		t.Errorf("Install = %v", err)
	}
}

// TestRefusedTransaction: HAProxy does not take a broken file; nothing is left pending and the old certificate served.
func TestRefusedTransaction(t *testing.T) {
	h := start(t, options{})
	p, _ := mustNew(t, h.config())
	b := installertest.Bundle(t, "www.example.com")
	mustInstall(t, p, b)
	other := installertest.Bundle(t, "www.example.com")
	name := h.path("certs/www.pem")
	for what, content := range map[string][]byte{
		"no certificate":      []byte("garbage\n"),
		"no key":              b.FullChainPEM()[:200],
		"key of another":      append(b.FullChainPEM(), other.KeyPEM...),
		"damaged certificate": append([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), b.KeyPEM...),
	} {
		if err := (p.api.put(t.Context(), name, "", content)); err == nil || !strings.Contains(err.Error(), "HAProxy refused") {
			t.Errorf("%s: %v", what, err)
		}
		if list := h.ask("show ssl cert"); strings.Contains(list, "*") {
			t.Errorf("%s: a transaction is pending: %s", what, list)
		}
		if err := p.Verify(t.Context(), b); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	fresh := h.path("certs/new.pem")
	if err := p.api.put(t.Context(), fresh, "", []byte("garbage\n")); err == nil {
		t.Error("garbage was taken")
	}
	if list := h.ask("show ssl cert"); strings.Contains(list, "new.pem") {
		t.Errorf("an empty certificate stayed: %s", list)
	}
}

// TestForeignTransaction: somebody else's pending change is neither committed, changed nor aborted; one that a crash of
// ours left is.
func TestForeignTransaction(t *testing.T) {
	h := start(t, options{})
	p, _ := mustNew(t, h.config())
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
	h.hold(true)
	pending := h.ask("show ssl cert *" + h.path("certs/default.pem"))
	err := p.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
	if err == nil || !strings.Contains(err.Error(), "open transaction") || !strings.Contains(err.Error(), "default.pem") {
		t.Errorf("Install = %v", err)
	}
	if now := h.ask("show ssl cert *" + h.path("certs/default.pem")); now != pending {
		t.Errorf("the pending change is %s, was %s", now, pending)
	}
	h.hold(false)

	b := installertest.Bundle(t, "www.example.com")
	if _, err := p.api.call(t.Context(), "set ssl cert "+h.path("certs/www.pem"), append(b.FullChainPEM(), b.KeyPEM...)); err != nil {
		t.Fatal(err)
	}
	mustInstall(t, p, installertest.Bundle(t, "www.example.com"))
}

func TestRecoverWithoutACrash(t *testing.T) {
	h := start(t, options{})
	p, _ := mustNew(t, h.config())
	b := installertest.Bundle(t, "www.example.com")
	for range 2 {
		if err := p.Recover(t.Context()); err != nil {
			t.Fatal(err)
		}
		mustInstall(t, p, b)
	}
}

func TestKeyStaysWithTheOperator(t *testing.T) {
	full := installertest.Bundle(t, "www.example.com")
	b, err := certs.NewBundle(full.FullChainPEM(), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, _ := mustNew(t, Config{File: filepath.Join(t.TempDir(), "www.pem")})
	if err := p.Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), "CSR") {
		t.Error(err)
	}
}
