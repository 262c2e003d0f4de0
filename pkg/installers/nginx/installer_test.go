package nginx

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/installers/endpoint"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

func TestConformance(t *testing.T) {
	t.Parallel()
	installertest.Run(t, func(t *testing.T) installertest.Fixture {
		n := start(t, map[string]string{"sites/a.conf": site("a.example b.example", "hello")})
		l := newLineage(t, "a.example", "b.example")
		return installertest.Fixture{
			Installer: n.installer(n.config(), l),
			Names:     []string{"a.example", "b.example"},
			Root:      n.conf,
			State:     l.state,
			Publish:   l.publish,
			Reloads:   n.reloads,
			Break: map[installertest.Step]func(bool){
				installertest.TestBefore: n.flag("break-before"),
				installertest.TestAfter:  n.flag("break-after"),
				installertest.Reload:     n.flag("break-reload"),
				installertest.Probe:      n.flag("break-probe"),
			},
			Comment: "# an operator was here",
		}
	})
}

// selfSigned is a site with TLS by a certificate of its own, which is written beside it.
func selfSigned(t testing.TB, files map[string]string, name string) {
	b := installertest.Bundle(t, name)
	files["old.pem"], files["old.key"] = string(b.FullChainPEM()), string(b.KeyPEM)
	files["sites/a.conf"] = "server {\n\tlisten 127.0.0.1:{plain};\n\tlisten 127.0.0.1:{tls} ssl;\n\tserver_name " + name +
		";\n\tssl_certificate     old.pem; # until we have a real one\n\tssl_certificate_key old.key;\n\n\tlocation / { return 200 hello; }\n}\n"
}

func mustInstall(t testing.TB, i *Installer, l *lineage, b *certs.Bundle) {
	t.Helper()
	l.publish(b)
	if err := i.Install(t.Context(), b); err != nil {
		t.Fatalf("Install: %v", err)
	}
	if err := i.Verify(t.Context(), b); err != nil {
		t.Fatalf("Verify: %v", err)
	}
}

func TestSelfSignedBlock(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	selfSigned(t, files, "a.example")
	n, l := start(t, files), newLineage(t, "a.example")
	before := n.read("sites/a.conf")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
	want := strings.NewReplacer("old.pem", l.FullChain, "old.key", l.Key).Replace(before)
	if got := n.read("sites/a.conf"); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
	if err := i.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.read("sites/a.conf"); got != before {
		t.Errorf("after Uninstall:\n%s", got)
	}
}

// TestRenewal checks that a renewal does not touch any file, reloads once and is proved.
func TestRenewal(t *testing.T) {
	t.Parallel()
	n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
	before, err := os.Stat(n.path("sites/a.conf"))
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		reloads := n.reloads()
		mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
		if got := n.reloads() - reloads; got != 1 {
			t.Errorf("%d reloads", got)
		}
	}
	after, err := os.Stat(n.path("sites/a.conf"))
	if err != nil || !os.SameFile(before, after) || !after.ModTime().Equal(before.ModTime()) {
		t.Errorf("the renewal wrote the file again (%v)", err)
	}
}

// TestOptions checks what clients see with every option on.
func TestOptions(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"sites/a.conf": "server {\n    listen 127.0.0.1:{plain};\n    server_name a.example *.w.example;\n" +
		"    location / { return 200 hello; }\n    location /.well-known/acme-challenge/ { return 200 token; }\n}\n"})
	before := n.read("sites/a.conf")
	l := newLineage(t, "a.example", "*.w.example")
	cfg := n.config()
	cfg.Redirect, cfg.HSTS, cfg.HTTP2, cfg.TLSDefaults = true, 48*time.Hour, true, true
	i := n.installer(cfg, l)
	b := installertest.Bundle(t, "a.example", "*.w.example")
	mustInstall(t, i, l, b)

	resp, _ := n.get("http", "a.example", "/x?y=1")
	if got, want := resp.Header.Get("Location"), "https://a.example:"+strconv.Itoa(n.tls)+"/x?y=1"; resp.StatusCode != 301 || got != want {
		t.Errorf("plain HTTP answers %d to %s, want 301 to %s", resp.StatusCode, got, want)
	}
	if got := resp.Header.Get("Strict-Transport-Security"); got != "" {
		t.Errorf("plain HTTP sends Strict-Transport-Security %q", got)
	}
	if resp, body := n.get("http", "a.example", "/.well-known/acme-challenge/abc"); resp.StatusCode != 200 || body != "token" {
		t.Errorf("the validation path answers %d %q", resp.StatusCode, body)
	}
	for _, host := range []string{"evil.example", "x.w.example", "a.example.evil.example", "axexample"} {
		if resp, _ := n.get("http", host, "/"); resp.StatusCode != 200 {
			t.Errorf("%s is redirected to %s", host, resp.Header.Get("Location"))
		}
	}
	resp, body := n.get("https", "a.example", "/")
	if resp.StatusCode != 200 || body != "hello" || resp.Header.Get("Strict-Transport-Security") != "max-age=172800" {
		t.Errorf("HTTPS answers %d %q with %v", resp.StatusCode, body, resp.Header)
	}
	conn, err := tls.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.tls)), &tls.Config{
		ServerName: "x.w.example", InsecureSkipVerify: true, NextProtos: []string{"h2"},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "h2" {
		t.Errorf("the protocol is %q", got)
	}
	if preview, err := i.Preview(t.Context(), b); err != nil || preview != "" {
		t.Errorf("there is still something to do: %s, %v", preview, err)
	}
	if err := i.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(n.path("acmed-test.inc")); !os.IsNotExist(err) || n.read("sites/a.conf") != before {
		t.Errorf("Uninstall left something (%v)", err)
	}
}

// TestBrokenConfiguration checks that a file that nginx refuses is not touched, whether acmed could read it or not.
func TestBrokenConfiguration(t *testing.T) {
	t.Parallel()
	for _, broken := range []string{"proxy_pas http://x;", "server {", "listen 127.0.0.1:{plain}", "\xef\xbb\xbfserver { listen 127.0.0.1:{plain}; }"} {
		n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
		n.write("sites/b.conf", broken+"\n")
		before := n.read("sites/a.conf")
		b := installertest.Bundle(t, "a.example")
		l.publish(b)
		i := n.installer(n.config(), l)
		err := i.Install(t.Context(), b)
		var refused *installers.BrokenServerError
		if !errors.As(err, &refused) || !strings.Contains(err.Error(), "b.conf:") {
			t.Errorf("%s: got %v", broken, err)
		}
		if n.read("sites/a.conf") != before || n.reloads() != 0 {
			t.Errorf("%s: something was changed or reloaded", broken)
		}
		if err := os.Remove(n.path("sites/b.conf")); err != nil {
			t.Fatal(err)
		}
		mustInstall(t, i, l, b)
	}
}

// TestRegularExpression checks that a name that only a regular expression matches is refused with file and line, and that
// nginx prefers the exact name beside it, as acmed does.
func TestRegularExpression(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"sites/a.conf": site(`~^[ab]\.example$`, "expression") + site("b.example", "exact")})
	before := n.read("sites/a.conf")
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	err := n.installer(n.config(), l).Install(t.Context(), b)
	var refused *SyntaxError
	if !errors.As(err, &refused) || refused.File != n.path("sites/a.conf") || refused.Line != 1 || !strings.Contains(err.Error(), "regular expression") {
		t.Errorf("got %v", err)
	}
	if n.read("sites/a.conf") != before || n.reloads() != 0 {
		t.Error("something was changed or reloaded")
	}
	l = newLineage(t, "b.example")
	mustInstall(t, n.installer(n.config(), l), l, installertest.Bundle(t, "b.example"))
	if _, body := n.get("https", "b.example", "/"); body != "exact" {
		t.Errorf("b.example answers %q", body)
	}
}

// mustInstallNoting installs a certificate for b.example, which has no site any more, and wants that said.
func mustInstallNoting(t *testing.T, i *Installer, b *certs.Bundle) {
	t.Helper()
	if err := i.Install(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if notes, err := i.Notes(t.Context(), b); err != nil || !strings.Contains(strings.Join(notes, "\n"), "b.example has no site on this server") {
		t.Errorf("notes %q, %v", notes, err)
	}
}

// TestNameGone checks that a renewal reaches the remaining names when the block of one is gone.
func TestNameGone(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"sites/a.conf": site("a.example", "a"), "sites/b.conf": site("b.example", "b")})
	l := newLineage(t, "a.example", "b.example")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example", "b.example"))
	if err := os.Remove(n.path("sites/b.conf")); err != nil {
		t.Fatal(err)
	}
	b := installertest.Bundle(t, "a.example", "b.example")
	l.publish(b)
	mustInstallNoting(t, i, b)
	at := endpoint.Endpoint{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(n.tls)), ServerName: "a.example"}
	if err := endpoint.Verify(t.Context(), []endpoint.Endpoint{at}, b, 5*time.Second); err != nil {
		t.Errorf("the remaining name: %v", err)
	}
}

// TestIncludedTwice installs in a file that nginx reads under two names.
func TestIncludedTwice(t *testing.T) {
	t.Parallel()
	n := newInstance(t, map[string]string{"sites/a.conf": site("a.example", "hello")})
	if err := os.Symlink("a.conf", n.path("sites/z.conf")); err != nil {
		t.Fatal(err)
	}
	n.nginx()
	defer n.stop()
	before := n.read("sites/a.conf")
	l := newLineage(t, "a.example")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
	edited := n.read("sites/a.conf")
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
	if got := n.read("sites/a.conf"); got != edited || strings.Count(got, "ssl_certificate ") != 1 {
		t.Errorf("after a renewal:\n%s", got)
	}
	if err := i.Uninstall(t.Context()); err != nil || n.read("sites/a.conf") != before {
		t.Errorf("Uninstall: %v", err)
	}
}

// TestWrittenByHand checks that a configuration that an operator pointed at the lineage is renewed, and left alone.
func TestWrittenByHand(t *testing.T) {
	t.Parallel()
	l := newLineage(t, "a.example", "b.example")
	l.publish(installertest.Bundle(t, "a.example", "b.example"))
	text := "server {\n listen 127.0.0.1:{tls} ssl;\n server_name a.example b.example;\n ssl_certificate " + l.FullChain +
		";\n ssl_certificate_key " + l.Key + ";\n}\n"
	n := start(t, map[string]string{"sites/a.conf": text})
	before := n.read("sites/a.conf")
	cfg := n.config()
	cfg.Verify = []string{fmt.Sprintf("127.0.0.1:%d", n.tls), fmt.Sprintf("localhost:%d/b.example", n.tls)}
	i := n.installer(cfg, l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example", "b.example"))
	if got := n.read("sites/a.conf"); got != before {
		t.Errorf("edited:\n%s", got)
	}
	n.write("sites/a.conf", strings.Replace(text, " b.example", "", 1))
	b := installertest.Bundle(t, "a.example", "b.example")
	l.publish(b)
	mustInstallNoting(t, i, b)
	at := endpoint.Endpoint{Addr: cfg.Verify[0], ServerName: "a.example"}
	if err := endpoint.Verify(t.Context(), []endpoint.Endpoint{at}, b, 5*time.Second); err != nil {
		t.Errorf("the remaining name: %v", err)
	}
}

// TestPortTaken checks that a port that belongs to another process is noticed, although nginx's test and reload succeed.
func TestPortTaken(t *testing.T) {
	t.Parallel()
	n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
	other, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(n.tls)))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	go func() {
		for conn, err := other.Accept(); err == nil; conn, err = other.Accept() {
			conn.Close()
		}
	}()
	before := n.read("sites/a.conf")
	cfg := n.config()
	cfg.Test, cfg.Reload = nil, nil
	cfg.VerifyTimeout = time.Second
	i := n.installer(cfg, l)
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	err = i.Install(t.Context(), b)
	if err == nil || !strings.Contains(err.Error(), "Address already in use") {
		t.Errorf("got %v, want an error with nginx's own words", err)
	}
	if got := n.read("sites/a.conf"); got != before {
		t.Errorf("not rolled back:\n%s", got)
	}
	if resp, body := n.get("http", "a.example", "/"); resp.StatusCode != 200 || body != "hello" {
		t.Errorf("plain HTTP answers %d %q", resp.StatusCode, body)
	}
	other.Close()
	mustInstall(t, i, l, b)
}

func TestStopped(t *testing.T) {
	t.Parallel()
	n, l := newInstance(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
	i := n.installer(n.config(), l)
	for range 2 {
		b := installertest.Bundle(t, "a.example")
		l.publish(b)
		err := i.Install(t.Context(), b)
		var stopped *installers.NotRunningError
		if !errors.As(err, &stopped) || n.pid() != 0 || n.reloads() != 0 {
			t.Fatalf("got %v with process %d and %d reloads, want a NotRunningError and no nginx", err, n.pid(), n.reloads())
		}
		if err := i.Verify(t.Context(), b); err == nil {
			t.Error("a stopped server was verified")
		}
	}
	n.nginx()
	defer n.stop()
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
}

// TestConcurrentEdit lets an operator save the file after it was read and before it is written.
func TestConcurrentEdit(t *testing.T) {
	t.Parallel()
	n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
	script := filepath.Join(n.run, "test.sh")
	edit := fmt.Sprintf("#!/bin/sh\nif [ ! -e %[1]s/edited ]; then : > %[1]s/edited; echo '# operator' >> %[2]s; fi\n", n.run, n.path("sites/a.conf"))
	if err := os.WriteFile(script, []byte(edit), 0o755); err != nil {
		t.Fatal(err)
	}
	original := n.read("sites/a.conf")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
	if got := n.read("sites/a.conf"); !strings.Contains(got, "# operator") || !strings.Contains(got, l.FullChain) {
		t.Errorf("an edit was lost:\n%s", got)
	}
	if err := i.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.read("sites/a.conf"); got != original+"# operator\n" {
		t.Errorf("after Uninstall:\n%s", got)
	}
}

func TestUninstallAfterEdit(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	selfSigned(t, files, "a.example")
	n, l := start(t, files), newLineage(t, "a.example")
	original := n.read("sites/a.conf")
	cfg := n.config()
	cfg.HSTS = time.Hour
	i := n.installer(cfg, l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))

	edited := strings.Replace(n.read("sites/a.conf"), "\tssl_certificate_key", "\tssl_protocols TLSv1.3;\n\tssl_certificate_key", 1)
	n.write("sites/a.conf", edited)
	err := i.Uninstall(t.Context())
	var refused *SyntaxError
	if !errors.As(err, &refused) || refused.File != n.path("sites/a.conf") || refused.Line == 0 {
		t.Errorf("got %v, want file and line", err)
	}
	if n.read("sites/a.conf") != edited {
		t.Error("a refused Uninstall changed something")
	}

	n.write("sites/a.conf", strings.Replace(edited, "\tssl_protocols TLSv1.3;\n", "", 1)+"# the end\n")
	if err := i.Uninstall(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := n.read("sites/a.conf"); got != original+"# the end\n" {
		t.Errorf("after Uninstall:\n%s", got)
	}
	if err := i.Uninstall(t.Context()); err != nil {
		t.Errorf("a second Uninstall: %v", err)
	}
}

// TestTwoCertificates installs two certificates in one file and takes them out in the order in which they came.
func TestTwoCertificates(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"available/both": site("a.example", "a") + site("b.example", "b")})
	if err := os.MkdirAll(n.path("sites"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../available/both", n.path("sites/both.conf")); err != nil {
		t.Fatal(err)
	}
	n.nginx("-s", "reload")
	original := n.read("available/both")
	cfg := n.config()
	cfg.Redirect = true
	server := NewServer(cfg)
	var all []*Installer
	var wg sync.WaitGroup
	for _, name := range []string{"a.example", "b.example"} {
		l := newLineage(t, name)
		l.Certificate, l.Server = name, server
		i := n.installer(cfg, l)
		all = append(all, i)
		b := installertest.Bundle(t, name)
		l.publish(b)
		wg.Go(func() {
			if err := i.Install(t.Context(), b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		})
	}
	wg.Wait()
	for _, name := range []string{"a.example", "b.example"} {
		if _, body := n.get("https", name, "/"); body != name[:1] {
			t.Errorf("%s answers %q", name, body)
		}
	}
	if info, err := os.Lstat(n.path("sites/both.conf")); err != nil || info.Mode()&os.ModeSymlink == 0 {
		t.Errorf("the link is gone (%v)", err)
	}
	for _, i := range all {
		if err := i.Uninstall(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if got := n.read("available/both"); got != original {
		t.Errorf("after both are out:\n%s", got)
	}
}

func TestDual(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	selfSigned(t, files, "a.example")
	n, l := start(t, files), newLineage(t, "a.example")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, installertest.Dual(t, "a.example"))
	before := n.read("sites/a.conf")
	second := installertest.Dual(t, "a.example")
	mustInstall(t, i, l, second)
	if got := n.read("sites/a.conf"); got != before {
		t.Errorf("a renewal edited the file:\n%s", got)
	}
	single := installertest.Bundle(t, "a.example")
	mustInstall(t, i, l, single)
	if got := n.read("sites/a.conf"); strings.Contains(got, "-rsa.pem") {
		t.Errorf("the pair of the twin stayed:\n%s", got)
	}
}

// TestIPAndDefault installs for an IP address and for a name that only the catch-all answers.
func TestIPAndDefault(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"sites/a.conf": "server { listen 127.0.0.1:{plain} default_server; server_name _; location / { return 200 hello; } }\n"})
	l := newLineage(t, "127.0.0.1", "a.example")
	i := n.installer(n.config(), l)
	b := installertest.Bundle(t, "127.0.0.1", "a.example")
	mustInstall(t, i, l, b)
	chain, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(n.tls))})
	if err != nil || !chain[0].Equal(b.Leaf) {
		t.Errorf("without a server name: %v", err)
	}
}

// TestSettingsEdited checks that a file of acmed's own that an operator edited is not thrown away.
func TestSettingsEdited(t *testing.T) {
	t.Parallel()
	n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
	cfg := n.config()
	cfg.TLSDefaults = true
	i := n.installer(cfg, l)
	mustInstall(t, i, l, installertest.Bundle(t, "a.example"))
	installed := n.read("sites/a.conf")
	n.write("acmed-test.inc", n.read("acmed-test.inc")+"ssl_verify_depth 2;\n")
	err := i.Uninstall(t.Context())
	var conflict *installers.ConflictError
	if !errors.As(err, &conflict) || conflict.Path != n.path("acmed-test.inc") || n.read("sites/a.conf") != installed {
		t.Errorf("got %v", err)
	}
	if err := os.Remove(n.path("sites/a.conf")); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(n.path("acmed-test.inc")); err != nil {
		t.Fatal(err)
	}
	if err := i.Uninstall(t.Context()); err != nil {
		t.Errorf("Uninstall when everything is gone: %v", err)
	}
}

func TestNotActive(t *testing.T) {
	t.Parallel()
	n, l := start(t, map[string]string{"sites/a.conf": site("a.example", "hello")}), newLineage(t, "a.example")
	i := n.installer(n.config(), l)
	if err := i.Install(t.Context(), installertest.Bundle(t, "a.example")); err == nil {
		t.Error("installed before anything is active")
	}
	l.publish(installertest.Bundle(t, "a.example"))
	err := i.Install(t.Context(), installertest.Bundle(t, "a.example"))
	if err == nil || !strings.Contains(err.Error(), "activate it first") {
		t.Errorf("got %v", err)
	}
}

// TestNoFailedRequest keeps asking over HTTPS, each time on a new connection, while a certificate is installed, renewed, rolled
// back and uninstalled.
func TestNoFailedRequest(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	selfSigned(t, files, "a.example")
	n, l := start(t, files), newLineage(t, "a.example")
	i := n.installer(n.config(), l)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var asked, failed atomic.Int64
	for range 4 {
		wg.Go(func() {
			client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
				TLSClientConfig: &tls.Config{ServerName: "a.example", InsecureSkipVerify: true}, DisableKeepAlives: true,
			}}
			for ctx.Err() == nil {
				asked.Add(1)
				if err := ask(client, n.tls); err != nil {
					failed.Add(1)
					t.Errorf("a request failed: %v", err)
				}
			}
		})
	}
	first := installertest.Bundle(t, "a.example")
	for _, b := range []*certs.Bundle{first, installertest.Bundle(t, "a.example"), installertest.Bundle(t, "a.example"), first} {
		mustInstall(t, i, l, b)
	}
	if err := i.Uninstall(t.Context()); err != nil {
		t.Error(err)
	}
	served := asked.Load() + 20
	await.True(t, "requests after the uninstall", func() bool { return asked.Load() > served }) // by the workers of after the uninstall
	cancel()
	wg.Wait()
	t.Logf("%d of %d requests failed", failed.Load(), asked.Load())
	if asked.Load() < 100 {
		t.Errorf("only %d requests were made", asked.Load())
	}
}

func ask(client *http.Client, port int) error {
	resp, err := client.Get(fmt.Sprintf("https://127.0.0.1:%d/", port))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %s", resp.Status)
	}
	return nil
}

// TestMany plans an installation among many sites for well under a second of processor time.
func TestMany(t *testing.T) {
	var text strings.Builder
	for k := range 2000 {
		fmt.Fprintf(&text, "server {\n  listen 80;\n  listen [::]:80;\n  server_name s%d.example www.s%d.example;\n  location / { return 200; }\n}\n", k, k)
	}
	c := planCase{files: map[string]string{"sites/a.conf": text.String()}, names: []string{"s7.example", "www.s1999.example"}, cfg: Config{Redirect: true}}
	begin := acmetest.Spent(t)
	edited, made := c.apply(t)
	if spent := acmetest.Spent(t) - begin; spent > 10*time.Second {
		t.Errorf("planning took %s of processor time", spent)
	}
	if n := strings.Count(edited, "listen 443 ssl;"); n != 2 || len(made.Endpoints) != 4 {
		t.Errorf("%d blocks were edited, endpoints: %v", n, made.Endpoints)
	}
	if !slices.ContainsFunc(made.Endpoints, func(e endpoint.Endpoint) bool { return e.Addr == "[::1]:443" }) {
		t.Errorf("IPv6 is not proved: %v", made.Endpoints)
	}
}
