package command

import (
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestForeignHooks runs hooks as they are written for certbot and lego: by the conventions that their documentation gives.
func TestForeignHooks(t *testing.T) {
	target, publish, _ := installertest.Live(t, "www.example.com", "example.com")
	b := installertest.Bundle(t, "www.example.com", "example.com")
	publish(b)
	for name, text := range map[string]string{
		"certbot deploy hook": `#!/bin/sh
set -e
name=$(basename "$RENEWED_LINEAGE")
for domain in $RENEWED_DOMAINS; do
	umask 077
	cat "$RENEWED_LINEAGE/fullchain.pem" "$RENEWED_LINEAGE/privkey.pem" >"$1/$domain.pem"
done
cmp "$RENEWED_LINEAGE/cert.pem" "$RENEWED_LINEAGE/cert.pem"
cp "$RENEWED_LINEAGE/chain.pem" "$1/$name.chain"
`,
		"lego renew hook": `#!/bin/sh
set -eu
test "$LEGO_CERT_DOMAIN" = www.example.com
for domain in www.example.com example.com; do
	cat "$LEGO_CERT_PATH" "$LEGO_CERT_KEY_PATH" >"$1/$domain.pem"
done
cp "$LEGO_ISSUER_CERT_PATH" "$1/test.chain"
`,
	} {
		t.Run(name, func(t *testing.T) {
			dir, script := t.TempDir(), filepath.Join(t.TempDir(), "hook")
			if err := os.WriteFile(script, []byte(text), 0o700); err != nil {
				t.Fatal(err)
			}
			p, err := New(Config{Run: []string{script, dir}}, target)
			if err != nil {
				t.Fatal(err)
			}
			post := Hook{Argv: []string{script, dir}, Target: target, Event: "post"}
			for _, run := range []func() error{func() error { return p.Install(t.Context(), b) }, func() error { return post.Run(t.Context(), b) }} {
				if err := run(); err != nil {
					t.Fatal(err)
				}
				for _, file := range []string{"www.example.com.pem", "example.com.pem"} {
					got, err := os.ReadFile(filepath.Join(dir, file))
					if err != nil || string(got) != string(b.FullChainPEM())+string(b.KeyPEM) {
						t.Errorf("%s has %d bytes, %v", file, len(got), err)
					}
				}
				if err := os.Remove(filepath.Join(dir, "test.chain")); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// appliance takes a certificate over HTTP and serves it.
type appliance struct {
	mu    sync.Mutex
	pairs []tls.Certificate
	busy  atomic.Bool
}

func (a *appliance) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case r.Header.Get("Authorization") != "Bearer secret":
		w.WriteHeader(http.StatusUnauthorized)
	case a.busy.Load():
		w.WriteHeader(http.StatusServiceUnavailable)
	case r.Method == http.MethodPost:
		part := func(name string) []byte {
			file, _, err := r.FormFile(name)
			if err != nil {
				return nil
			}
			content, _ := io.ReadAll(file)
			return content
		}
		pair, err := tls.X509KeyPair(part("certificate"), part("key"))
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		a.pairs = []tls.Certificate{pair}
	default:
		_, _ = io.WriteString(w, a.pairs[0].Leaf.SerialNumber.Text(16))
	}
}

func (a *appliance) load() ([]tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.pairs, nil
}

// TestExampleOfAnAppliance runs the program of the documentation.
func TestExampleOfAnAppliance(t *testing.T) {
	text, err := os.ReadFile("../../../docs/examples/appliance.sh")
	if err != nil {
		t.Fatal(err)
	}
	script, header := filepath.Join(t.TempDir(), "appliance"), filepath.Join(t.TempDir(), "header")
	for path, content := range map[string][]byte{script: text, header: []byte("Authorization: Bearer secret\n")} {
		if err := os.WriteFile(path, content, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	a := &appliance{}
	if a.pairs, err = installertest.KeyPairs(installertest.Bundle(t, "old.example")); err != nil {
		t.Fatal(err)
	}
	for i := range a.pairs {
		a.pairs[i].Leaf = installertest.Bundle(t, "old.example").Leaf
	}
	api := httptest.NewServer(a)
	t.Cleanup(api.Close)
	served := installertest.Serve(t, a.load)
	argv := []string{script, api.URL, header}
	target, publish, _ := installertest.Live(t, "nas.example.com")
	p, err := New(Config{Run: argv, Check: argv, Verify: []string{served.Addr + "/nas.example.com"}, VerifyTimeout: 20 * time.Second}, target)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		b := installertest.Bundle(t, "nas.example.com")
		publish(b)
		if err := p.Verify(t.Context(), b); err == nil || !strings.Contains(err.Error(), "the appliance has serial") {
			t.Errorf("before: %v", err)
		}
		if err := errors.Join(p.Install(t.Context(), b), p.Verify(t.Context(), b)); err != nil {
			t.Fatal(err)
		}
	}
	b := installertest.Bundle(t, "nas.example.com")
	publish(b)
	a.busy.Store(true)
	var later *installers.LaterError
	if err := p.Install(t.Context(), b); !errors.As(err, &later) {
		t.Errorf("a busy appliance: %v", err)
	}
	a.busy.Store(false)
	if err := os.WriteFile(header, []byte("Authorization: Bearer wrong\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := p.Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), "the appliance answers 401") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("without permission: %v", err)
	}
}
