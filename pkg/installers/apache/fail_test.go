package apache

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestBrokenConfig has an Apache that runs and whose configuration somebody has broken since.
func TestBrokenConfig(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
	a.write("sites-enabled/z.conf", "<VirtualHost *:{plain}>\nNoSuchDirective\n</VirtualHost>\n")
	before := a.files()
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	cfg := a.config()
	cfg.Test = nil // Apache's own
	i := a.installer(cfg, l)
	err := i.Install(t.Context(), b)
	if broken := (*installers.BrokenServerError)(nil); !errors.As(err, &broken) || !strings.Contains(err.Error(), "NoSuchDirective") {
		t.Errorf("Install = %v", err)
	}
	a.wantFiles(before, "a broken configuration was edited")
	if _, body := a.get("http", "a.example", "/"); body != "hello" || a.reloads() > 0 {
		t.Errorf("%d reloads, and then %q", a.reloads(), body)
	}
	must(t, os.Remove(a.path("sites-enabled/z.conf")))
	must(t, i.Install(t.Context(), b))
	must(t, i.Verify(t.Context(), b))
}

// TestFailsAfterEdit has a configuration that Apache only refuses with the module that the edit enables.
func TestFailsAfterEdit(t *testing.T) {
	a := start(t, map[string]string{
		"sites-available/a.conf": site("a.example", "hello"),
		"conf-enabled/trap.conf": "<IfModule headers_module>\nNoSuchDirective\n</IfModule>\n",
	})
	before := a.files()
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	cfg := a.config()
	cfg.Test, cfg.HSTS = nil, time.Hour
	i := a.installer(cfg, l)
	err := i.Install(t.Context(), b)
	if err == nil || !strings.Contains(err.Error(), "configuration test after the edit") || !strings.Contains(err.Error(), "NoSuchDirective") {
		t.Errorf("Install = %v", err)
	}
	a.wantFiles(before, "the failed Install was not undone")
	if _, body := a.get("http", "a.example", "/"); body != "hello" || a.reloads() > 0 {
		t.Errorf("%d reloads, and then %q", a.reloads(), body)
	}
	must(t, os.Remove(a.path("conf-enabled/trap.conf")))
	must(t, i.Install(t.Context(), b))
	must(t, i.Verify(t.Context(), b))
}

// TestPortTakenMeanwhile has another program take the TLS port right before the reload, which succeeds: Apache is told by
// a signal, and finds out later. Only the handshake and the log tell.
func TestPortTakenMeanwhile(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello"), "ports.conf": "Listen 127.0.0.1:{plain}\n"})
	before := a.files()
	script := filepath.Join(a.run, "wait.sh")
	must(t, os.WriteFile(script, []byte(a.expand("#!/bin/sh\ntouch {run}/now\nwhile [ ! -e {run}/taken ]; do sleep 0.01; done\nexec {run}/reload.sh\n")), 0o755))
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	cfg := a.config()
	cfg.Reload = []string{script}
	done := make(chan error)
	go func() { done <- a.installer(cfg, l).Install(t.Context(), b) }()
	await.True(t, "the reload begins", func() bool { return exists(filepath.Join(a.run, "now")) })
	other, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(a.tls)))
	must(t, err)
	defer other.Close()
	go func() {
		for {
			conn, err := other.Accept()
			if err != nil {
				return
			}
			conn.Close()
		}
	}()
	must(t, os.WriteFile(filepath.Join(a.run, "taken"), nil, 0o600))
	err = <-done
	if err == nil || !strings.Contains(err.Error(), "probe: ") || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("Install = %v", err)
	}
	a.wantFiles(before, "the failed Install was not undone")
}

// TestReloadHangs has a reload that never ends.
func TestReloadHangs(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
	before := a.files()
	script := filepath.Join(a.run, "hang.sh")
	must(t, os.WriteFile(script, []byte("#!/bin/sh\nsleep 600\n"), 0o755))
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	cfg := a.config()
	cfg.Reload, cfg.Timeout = []string{script}, time.Second
	began := time.Now()
	err := a.installer(cfg, l).Install(t.Context(), b)
	if err == nil || !strings.Contains(err.Error(), "reload: "+script) {
		t.Errorf("Install = %v", err)
	}
	if took := time.Since(began); took > time.Minute {
		t.Errorf("Install took %v", took)
	}
	a.wantFiles(before, "the failed Install was not undone")
	a.install(a.config(), l, "a.example")
}
