package haproxy

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// layout is a way in which an operator lets HAProxy load the certificate of www.example.com.
type layout struct {
	name    string
	options options
	dual    bool
	key     string // the key is in a file of its own, below the directory
	named   bool   // so the configuration of the target says
}

func layouts() []layout {
	return []layout{
		{name: "one file", options: options{crt: "certs/www.pem"}},
		{name: "key beside it", options: options{crt: "certs/www.pem"}, key: "certs/www.pem.key"},
		{name: "key beside it, configured", options: options{crt: "certs/www.pem"}, key: "certs/www.pem.key", named: true},
		{name: "bundle", options: options{crt: "certs/www.pem"}, dual: true},
		{name: "directory", options: options{}},
		{name: "bundle in a directory", options: options{}, dual: true},
		{name: "list", options: options{crt: "certs/www.pem", list: true}},
		{name: "bundle in a list", options: options{crt: "certs/www.pem", list: true}, dual: true},
		{name: "key beside one in a list", options: options{crt: "certs/www.pem", list: true}, key: "certs/www.pem.key"},
	}
}

func (l *layout) bundle(t *testing.T) *certs.Bundle {
	if l.dual {
		return installertest.Dual(t, "www.example.com")
	}
	return installertest.Bundle(t, "www.example.com")
}

// start runs HAProxy with an operator's certificate, and returns that and what the target is configured with. A reload is
// noted.
func (l *layout) start(t *testing.T) (*instance, *certs.Bundle, Config) {
	h := prepare(t, l.options)
	old := l.bundle(t)
	switch {
	case l.dual:
		h.write("certs/www.pem.ecdsa", old)
		h.write("certs/www.pem.rsa", old.RSA)
	case l.key != "":
		for name, content := range map[string][]byte{"certs/www.pem": old.FullChainPEM(), l.key: old.KeyPEM} {
			if err := os.WriteFile(h.path(name), content, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	default:
		h.write("certs/www.pem", old)
	}
	h.run()
	c := h.config()
	c.VerifyTimeout = 20 * time.Second
	c.Reload = []string{"/bin/sh", "-c", fmt.Sprintf("echo reload >>%s; kill -USR2 %d", h.path("reloads"), h.cmd.Process.Pid)}
	if l.named {
		c.Key = h.path(l.key)
	}
	return h, old, c
}

func (h *instance) reloads() int {
	text, err := os.ReadFile(h.path("reloads"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		h.t.Fatal(err)
	}
	return bytes.Count(text, []byte("\n"))
}

func (h *instance) files() map[string]string {
	h.t.Helper()
	all := map[string]string{}
	paths, err := filepath.Glob(h.path("certs/*"))
	for _, path := range paths {
		var content []byte
		if content, err = os.ReadFile(path); err != nil {
			break
		}
		all[filepath.Base(path)] = string(content)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	return all
}

// restart ends HAProxy and starts it again: what it reads then is what it serves.
func (h *instance) restart() {
	h.t.Helper()
	h.stop()
	h.run()
}

// TestLayouts: whatever the way in which HAProxy loads a pair, the running process gets the new one, the old one when the
// probe fails and the old one when it is uninstalled, without a reload and in agreement with the files.
func TestLayouts(t *testing.T) {
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			h, old, c := l.start(t)
			before := h.files()
			c.Verify = []string{"127.0.0.1:1"}
			c.VerifyTimeout = 100 * time.Millisecond
			failing, _ := mustNew(t, c)
			if err := failing.Install(t.Context(), l.bundle(t)); err == nil {
				t.Fatal("installed although nothing answers")
			}
			c.Verify, c.VerifyTimeout = []string{h.addr}, 20*time.Second
			p, _ := mustNew(t, c)
			serves := func(when string, b *certs.Bundle) {
				t.Helper()
				await.NoError(t, func() error { // after a restart the process before may still take connections
					if err := endpoint.Look(t.Context(), p.Endpoints, b); err != nil {
						return fmt.Errorf("%s: %w", when, err)
					}
					return nil
				})
			}
			unchanged := func(when string) {
				t.Helper()
				serves(when, old)
				if diff := cmp.Diff(before, h.files()); diff != "" {
					t.Errorf("%s, files (-before +after):\n%s", when, diff)
				}
			}
			unchanged("after a failed installation")
			b := l.bundle(t)
			mustInstall(t, p, b)
			mustInstall(t, p, l.bundle(t))
			if err := p.Uninstall(t.Context()); err != nil {
				t.Fatal(err)
			}
			unchanged("after uninstalling")
			if n := h.reloads(); n > 0 {
				t.Errorf("%d reloads", n)
			}
			mustInstall(t, p, b)
			h.restart()
			serves("after a restart", b)
		})
	}
}

// TestKindOfBundleChanges: from a single certificate to a dual one and back, HAProxy is reloaded at most once for each
// change, the files are right, and so is what it serves after a restart.
func TestKindOfBundleChanges(t *testing.T) {
	for _, l := range layouts() {
		t.Run(l.name, func(t *testing.T) {
			h, old, c := l.start(t)
			before := h.files()
			p, _ := mustNew(t, c)
			mustInstall(t, p, l.bundle(t))
			for range 2 {
				for _, dual := range []bool{!l.dual, l.dual} {
					b := installertest.Bundle(t, "www.example.com")
					if dual {
						b = installertest.Dual(t, "www.example.com")
					}
					reloads := h.reloads()
					mustInstall(t, p, b)
					if n := h.reloads() - reloads; n > 1 || n > 0 && l.options.crt == "" {
						t.Errorf("%d reloads", n)
					}
					_, single := h.files()["www.pem"]
					_, rsa := h.files()["www.pem.rsa"]
					if single == dual || rsa != dual {
						t.Errorf("dual %v: www.pem exists %v, www.pem.rsa %v", dual, single, rsa)
					}
				}
			}
			if err := p.Uninstall(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := endpoint.Verify(t.Context(), p.Endpoints, old, 20*time.Second); err != nil {
				t.Errorf("after uninstalling: %v", err)
			}
			if diff := cmp.Diff(before, h.files()); diff != "" {
				t.Errorf("files (-before +after):\n%s", diff)
			}
		})
	}
}

// TestLeftoverOfTheOtherKeyType: an old RSA certificate for the same name that a second file gives to clients with RSA only
// is found by asking as one, and its file is named.
func TestLeftoverOfTheOtherKeyType(t *testing.T) {
	for _, tt := range []struct {
		name, leftover string
		options        options
	}{
		{"beside ours", "certs/from-before.pem", options{}},
		{"elsewhere", "old.pem", options{extra: "crt HERE/old.pem"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := prepare(t, options{})
			tt.options.extra = strings.ReplaceAll(tt.options.extra, "HERE", h.dir)
			h.configure(tt.options)
			old := installertest.Dual(t, "www.example.com").RSA
			h.write(tt.leftover, old)
			h.run()
			c := h.config()
			p, _ := mustNew(t, c)
			b := installertest.Bundle(t, "www.example.com")
			before := h.files()
			err := p.Install(t.Context(), b)
			for _, want := range []string{h.path(tt.leftover), "serial " + old.Serial(), "RSA"} {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("no %q in %v", want, err)
				}
			}
			if diff := cmp.Diff(before, h.files()); diff != "" {
				t.Errorf("files (-before +after):\n%s", diff)
			}
			c.AllowOtherKeyType = true
			allowed, _ := mustNew(t, c)
			mustInstall(t, allowed, b)
			if err := p.Verify(t.Context(), b); err == nil || !strings.Contains(err.Error(), h.path(tt.leftover)) {
				t.Errorf("a later look: %v", err)
			}
		})
	}
}

// TestCipherListForRSAOnly: a list without a suite for ECDSA keys locks TLS 1.2 clients out of an EC certificate. That is
// found whether TLS 1.3 hides it or not, rolled back at once, and the remedy is named.
func TestCipherListForRSAOnly(t *testing.T) {
	for name, extra := range map[string]string{
		"TLS 1.2 and 1.3": "ciphers ECDHE-RSA-AES128-GCM-SHA256:!aNULL",
		"TLS 1.2 only":    "ciphers ECDHE-RSA-AES128-GCM-SHA256:!aNULL ssl-max-ver TLSv1.2",
	} {
		t.Run(name, func(t *testing.T) {
			h := prepare(t, options{crt: "certs/www.pem", extra: extra})
			old := installertest.Dual(t, "www.example.com").RSA
			h.write("certs/www.pem", old)
			h.run()
			c := h.config()
			c.VerifyTimeout = time.Hour
			p, _ := mustNew(t, c)
			err := p.Install(t.Context(), installertest.Bundle(t, "www.example.com"))
			if advice.Of(err) != advice.ClientsLockedOut || !strings.Contains(err.Error(), endpoint.Remedy) {
				t.Errorf("Install = %v", err)
			}
			if err := endpoint.Look(t.Context(), p.Endpoints, old); err != nil {
				t.Errorf("the old certificate is not back: %v", err)
			}
			mustInstall(t, p, installertest.Dual(t, "www.example.com").RSA)
		})
	}
}

// TestKeyElsewhere: a key file that is not beside the certificate suits a single certificate only.
func TestKeyElsewhere(t *testing.T) {
	dir := t.TempDir()
	p, _ := mustNew(t, Config{File: filepath.Join(dir, "www.pem"), Key: filepath.Join(dir, "private.key")})
	if err := p.Install(t.Context(), installertest.Dual(t, "www.example.com")); err == nil || !strings.HasPrefix(err.Error(), "key: ") {
		t.Errorf("Install = %v", err)
	}
}
