package apache

import (
	"crypto/tls"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// install publishes a fresh bundle and installs it.
func (a *instance) install(cfg Config, l *lineage, names ...string) (*Installer, *certs.Bundle) {
	a.t.Helper()
	i, b := a.installer(cfg, l), installertest.Bundle(a.t, names...)
	l.publish(b)
	must(a.t, i.Install(a.t.Context(), b))
	must(a.t, i.Verify(a.t.Context(), b))
	return i, b
}

// lostLines are the lines of before that after does not have any more, not even switched off.
func lostLines(before, after map[string]string) []string {
	var lost []string
	for name, text := range before {
		for line := range strings.Lines(text) {
			if !strings.Contains(after[name], strings.TrimSpace(line)) {
				lost = append(lost, name+": "+line)
			}
		}
	}
	return lost
}

func TestTwin(t *testing.T) {
	a := start(t, map[string]string{
		"sites-available/a.conf": "# one\n" + strings.Replace(site("a.example b.example *.c.example", "hello"), "ErrorDocument 404", "ErrorDocument \\\n  404", 1),
	})
	before := a.files()
	l := newLineage(t, "a.example", "b.example", "x.c.example")
	cfg := a.config()
	cfg.Redirect, cfg.HSTS = true, 24*time.Hour
	i, _ := a.install(cfg, l, "a.example", "b.example", "x.c.example")

	after := a.files()
	if lost := lostLines(before, after); lost != nil {
		t.Errorf("lines are gone: %q", lost)
	}
	want := a.expand(strings.NewReplacer("{chain}", l.FullChain, "{key}", l.Key).Replace(`# Written by acmed: the virtual hosts of the certificate test with TLS, copied from those without. Changes are kept.

<VirtualHost *:{tls}>
    ServerName a.example
    ErrorDocument \
  404 "hello"
    ServerAlias b.example *.c.example
    # acmed begin test
    SSLEngine on
    SSLCertificateFile {chain}
    SSLCertificateKeyFile {key}
    Header always set Strict-Transport-Security "max-age=86400"
    # acmed end test
</VirtualHost>
`))
	if diff := cmp.Diff(want, after["sites-available/test-acmed-ssl.conf"]); diff != "" {
		t.Error(diff)
	}
	for link, target := range map[string]string{
		"sites-enabled/test-acmed-ssl.conf": "-> ../sites-available/test-acmed-ssl.conf",
		"mods-enabled/ssl.load":             "-> ../mods-available/ssl.load",
		"mods-enabled/ssl.conf":             "-> ../mods-available/ssl.conf",
		"mods-enabled/socache_shmcb.load":   "-> ../mods-available/socache_shmcb.load",
		"mods-enabled/headers.load":         "-> ../mods-available/headers.load",
		"mods-enabled/rewrite.load":         "-> ../mods-available/rewrite.load",
	} {
		if after[link] != target {
			t.Errorf("%s is %q", link, after[link])
		}
	}
	resp, body := a.get("https", "b.example", "/")
	if got := resp.Header.Get("Strict-Transport-Security"); got != "max-age=86400" || body != "hello" {
		t.Errorf("HSTS %q, body %q", got, body)
	}

	stamps := a.stamps()
	a.install(cfg, l, "a.example", "b.example", "x.c.example")
	if diff := cmp.Diff(stamps, a.stamps()); diff != "" {
		t.Errorf("a renewal wrote something (-before +after):\n%s", diff)
	}
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
	await.True(t, "only the processes of after the reload answer", func() bool {
		_, body := a.get("http", "a.example", "/")
		return body == "hello"
	})
}

func TestRedirect(t *testing.T) {
	a := newInstance(t, map[string]string{"sites-available/a.conf": strings.Replace(site("a.example b.example", "hello"), "ErrorDocument", `RewriteEngine on
    RewriteRule ^/own - [G]
    ErrorDocument`, 1)})
	a.enableModule("rewrite")
	a.start()
	cfg := a.config()
	cfg.Redirect = true
	l := newLineage(t, "a.example", "b.example")
	a.install(cfg, l, "a.example", "b.example")
	for _, tt := range []struct{ host, path, want string }{
		{"a.example", "/", "https://a.example:{tls}/"},
		{"B.example", "/x/y%20z?q=1%26&r=%3F", "https://b.example:{tls}/x/y%20z?q=1%26&r=%3F"},
		{"a.example:{plain}", "/own%3Fx%0d%0aSet-Cookie:a=b", "https://a.example:{tls}/own%3Fx%0d%0aSet-Cookie:a=b"},
		{"a.example.evil.example", "/", ""},
		{"evil.example", "/", ""},
		{"a.example", "/.well-known/acme-challenge/token", ""},
		{"a.example", "//evil.example/", "https://a.example:{tls}//evil.example/"},
		{"a.example@evil.example", "/", ""},
	} {
		resp, _ := a.get("http", a.expand(tt.host), tt.path)
		if got := resp.Header.Get("Location"); got != a.expand(tt.want) {
			t.Errorf("%s%s: %d %q, want %q", tt.host, tt.path, resp.StatusCode, got, a.expand(tt.want))
		}
		if resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s%s set a cookie", tt.host, tt.path)
		}
	}
	if resp, _ := a.get("https", "a.example", "/own"); resp.StatusCode != http.StatusGone {
		t.Errorf("the twin's own rule answers %d", resp.StatusCode)
	}
	cfg.Redirect = false
	a.install(cfg, l, "a.example", "b.example")
	if text := a.read("sites-available/a.conf"); strings.Contains(text, "acmed") {
		t.Errorf("the redirect stayed:\n%s", text)
	}
}

func TestExistingTLS(t *testing.T) {
	a := newInstance(t, nil)
	a.enableModule("ssl", "socache_shmcb")
	old := installertest.Bundle(t, "a.example")
	chain := filepath.Join(a.run, "chain.pem")
	must(t, os.WriteFile(chain, old.ChainPEM, 0o644))
	text := strings.Replace(a.secureSite("a.example", "secure", old), "    SSLEngine on\n", "    SSLEngine on\n\tSSLCertificateChainFile \\\n    "+chain+"\n", 1)
	a.write("sites-enabled/a.conf", strings.ReplaceAll(text+site("a.example", "plain"), "\n", "\r\n"))
	a.start()
	before := a.files()
	i, _ := a.install(a.config(), newLineage(t, "a.example"), "a.example")
	after := a.files()
	if lost := lostLines(before, after); lost != nil {
		t.Errorf("lines are gone: %q", lost)
	}
	now := after["sites-enabled/a.conf"]
	for _, want := range []string{
		"\r\n\t# acmed off test: SSLCertificateChainFile \\\r\n    " + chain + "\r\n",
		"\r\n    # acmed off test: SSLCertificateFile ", "\r\n    # acmed off test: SSLCertificateKeyFile ",
		"\r\n    # acmed begin test\r\n    SSLCertificateFile ",
	} {
		if !strings.Contains(now, want) {
			t.Errorf("%q is not in\n%s", want, now)
		}
	}
	if len(before) != len(after) {
		t.Errorf("files were made: %d, then %d", len(before), len(after))
	}

	edited := strings.Replace(now, "ErrorDocument 404 \"secure\"", "ErrorDocument 404 \"edited\"", 1) + "# later\r\n"
	a.write("sites-enabled/a.conf", edited)
	must(t, i.Uninstall(t.Context()))
	want := strings.Replace(before["sites-enabled/a.conf"], "ErrorDocument 404 \"secure\"", "ErrorDocument 404 \"edited\"", 1) + "# later\r\n"
	if diff := cmp.Diff(want, a.read("sites-enabled/a.conf")); diff != "" {
		t.Errorf("Uninstall after an edit:\n%s", diff)
	}
	await.True(t, "a worker with the configuration after Uninstall answers", func() bool {
		_, body := a.get("https", "a.example", "/")
		return body == "edited"
	})
}

func TestDual(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
	before := a.files()
	l := newLineage(t, "a.example")
	i := a.installer(a.config(), l)
	for range 2 {
		b := installertest.Dual(t, "a.example")
		l.publish(b)
		must(t, i.Install(t.Context(), b))
		must(t, i.Verify(t.Context(), b))
	}
	a.install(a.config(), l, "a.example") // an ECDSA certificate alone again
	if text := a.read("sites-available/test-acmed-ssl.conf"); strings.Contains(text, "-rsa") {
		t.Errorf("the twin's pair stayed:\n%s", text)
	}
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}

func TestListen(t *testing.T) {
	files := map[string]string{
		"sites-available/a.conf": site("a.example", "hello"),
		"ports.conf":             "Listen 127.0.0.1:{plain}\n",
	}
	t.Run("added", func(t *testing.T) {
		a := start(t, files)
		before := a.files()
		i, _ := a.install(a.config(), newLineage(t, "a.example"), "a.example")
		if text := a.read("conf-enabled/acmed.conf"); !strings.Contains(text, a.expand("\nListen 127.0.0.1:{tls} https\n")) {
			t.Errorf("got %s", text)
		}
		must(t, i.Uninstall(t.Context()))
		a.wantFiles(before, "Uninstall left something")
	})
	t.Run("port taken", func(t *testing.T) {
		a := start(t, files)
		before := a.files()
		server := installertest.Serve(t, nil)
		a.tls = portOf(t, server.Addr)
		l := newLineage(t, "a.example")
		b := installertest.Bundle(t, "a.example")
		l.publish(b)
		err := a.installer(a.config(), l).Install(t.Context(), b)
		if err == nil || !strings.Contains(err.Error(), "another program listens") {
			t.Errorf("Install = %v", err)
		}
		a.wantFiles(before, "something was edited")
		if _, body := a.get("http", "a.example", "/"); body != "hello" {
			t.Errorf("Apache answers %q", body)
		}
	})
}

// TestWrongServerAnswers has another program where clients connect: only the handshake tells.
func TestWrongServerAnswers(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
	before := a.files()
	other := installertest.Bundle(t, "a.example")
	pairs, err := installertest.KeyPairs(other)
	must(t, err)
	server := installertest.Serve(t, func() ([]tls.Certificate, error) { return pairs, nil })
	cfg := a.config()
	cfg.Verify = []string{server.Addr}
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	err = a.installer(cfg, l).Install(t.Context(), b)
	if err == nil || !strings.Contains(err.Error(), "expected serial") {
		t.Errorf("Install = %v", err)
	}
	a.wantFiles(before, "the failed Install was not undone")
	if _, body := a.get("http", "a.example", "/"); body != "hello" {
		t.Errorf("Apache answers %q", body)
	}
}

func TestStoppedServer(t *testing.T) {
	a := newInstance(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	cfg := a.config()
	cfg.Reload = nil // the default, which would start it
	i := a.installer(cfg, l)
	err := i.Install(t.Context(), b)
	if stopped := (*installers.NotRunningError)(nil); !errors.As(err, &stopped) {
		t.Errorf("Install = %v", err)
	}
	if pid := a.pid(); pid != 0 {
		a.stop()
		t.Errorf("a stopped Apache was started as %d", pid)
	}
	if !exists(a.path("sites-enabled/test-acmed-ssl.conf")) {
		t.Error("the files are not in place")
	}
	a.start()
	must(t, i.Verify(t.Context(), b))
	must(t, i.Install(t.Context(), b))
}

func TestConcurrentEdit(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello")})
	l := newLineage(t, "a.example")
	cfg := a.config()
	cfg.Redirect = true
	script := filepath.Join(a.run, "edit.sh")
	must(t, os.WriteFile(script, []byte(a.expand("#!/bin/sh\nif [ ! -e {run}/edited ]; then echo '# somebody else' >> {conf}/sites-available/a.conf; touch {run}/edited; fi\n")), 0o755))
	cfg.Test = []string{script}
	a.install(cfg, l, "a.example")
	text := a.read("sites-available/a.conf")
	if !strings.Contains(text, "# somebody else") || !strings.Contains(text, "# acmed begin test") {
		t.Errorf("got\n%s", text)
	}
}

// TestTwoCertificates shares modules and a Listen directive, in both orders of leaving.
func TestTwoCertificates(t *testing.T) {
	for _, first := range []string{"a.example", "b.example"} {
		t.Run(first+" leaves first", func(t *testing.T) {
			a := start(t, map[string]string{
				"sites-available/a.conf": site("a.example", "site a"), "sites-available/b.conf": site("b.example", "site b"),
				"ports.conf": "Listen 127.0.0.1:{plain}\n",
			})
			before := a.files()
			cfg := a.config()
			cfg.HSTS = time.Hour
			server := NewServer(cfg)
			made := map[string]*Installer{}
			for _, name := range []string{"a.example", "b.example"} {
				l := newLineage(t, name)
				l.Certificate, l.Server = name, server
				made[name], _ = a.install(cfg, l, name)
			}
			for _, name := range []string{"a.example", "b.example"} {
				if _, body := a.get("https", name, "/"); body != "site "+name[:1] {
					t.Errorf("%s: %q", name, body)
				}
			}
			must(t, made[first].Uninstall(t.Context()))
			last := "b.example"
			if first == last {
				last = "a.example"
			}
			if _, body := a.get("https", last, "/"); body != "site "+last[:1] {
				t.Errorf("%s after the other left: %q", last, body)
			}
			must(t, made[last].Uninstall(t.Context()))
			a.wantFiles(before, "the last Uninstall left something")
		})
	}
}

// TestOrder has a virtual host on the TLS port that must stay the default there.
func TestOrder(t *testing.T) {
	a := newInstance(t, map[string]string{"sites-available/plain.conf": site("a.example", "plain")})
	a.enableModule("ssl", "socache_shmcb")
	a.write("sites-enabled/z.conf", a.secureSite("z.example", "the first", installertest.Bundle(t, "z.example")))
	a.start()
	before := a.files()
	i, _ := a.install(a.config(), newLineage(t, "a.example"), "a.example")
	if !exists(a.path("sites-enabled/zz-test-acmed-ssl.conf")) {
		t.Error("the twin comes first")
	}
	if _, body := a.get("https", "unknown.example", "/"); body != "the first" {
		t.Errorf("the default is %q", body)
	}
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}

// TestCatchAll has the one site of a fresh installation, which names no host.
func TestCatchAll(t *testing.T) {
	a := start(t, map[string]string{"sites-available/000-default.conf": "<VirtualHost *:{plain}>\n\t#ServerName www.example.com\n\tErrorDocument 404 \"it works\"\n</VirtualHost>\n"})
	before := a.files()
	l := newLineage(t, "a.example", "b.example", "127.0.0.1")
	i, _ := a.install(a.config(), l, "a.example", "b.example", "127.0.0.1")
	after := a.files()
	if _, body := a.get("https", "b.example", "/"); body != "it works" {
		t.Errorf("got %q", body)
	}
	a.install(a.config(), l, "a.example", "b.example", "127.0.0.1")
	a.wantFiles(after, "a renewal edited something")
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}

// TestNamesChange adds and drops names of a certificate whose twins exist.
func TestNamesChange(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "site a"), "sites-available/b.conf": site("b.example", "site b")})
	before := a.files()
	l := newLineage(t, "a.example", "b.example")
	all := a.config()
	only := func(name string) Config {
		cfg := a.config()
		cfg.Names = []string{name}
		return cfg
	}
	a.install(only("a.example"), l, "a.example", "b.example")
	a.write("sites-available/test-acmed-ssl.conf", strings.Replace(a.read("sites-available/test-acmed-ssl.conf"), "site a", "edited a", 1))
	i, _ := a.install(all, l, "a.example", "b.example")
	if _, body := a.get("https", "a.example", "/"); body != "edited a" {
		t.Errorf("a: %q", body)
	}
	if _, body := a.get("https", "b.example", "/"); body != "site b" {
		t.Errorf("b: %q", body)
	}
	a.install(only("b.example"), l, "a.example", "b.example")
	if text := a.read("sites-available/test-acmed-ssl.conf"); strings.Contains(text, "a.example") {
		t.Errorf("the twin of a stayed:\n%s", text)
	}
	err := i.Uninstall(t.Context())
	if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) {
		must(t, err)
		a.wantFiles(before, "Uninstall left something")
	}
}

func TestRHEL(t *testing.T) {
	a := newInstance(t, nil)
	must(t, os.MkdirAll(a.path("conf"), 0o755))
	must(t, os.MkdirAll(a.path("conf.d"), 0o755))
	must(t, os.RemoveAll(a.path("sites-enabled")))
	a.write("conf/httpd.conf", strings.Replace(mainConf, "IncludeOptional sites-enabled/*.conf", "IncludeOptional conf.d/*.conf", 1))
	a.write("apache2.conf", "Include conf/httpd.conf\n")
	a.write("ports.conf", "Listen 127.0.0.1:{plain}\n")
	a.write("conf.d/site.conf", site("a.example", "hello"))
	a.enableModule("ssl", "socache_shmcb")
	a.start()
	before := a.files()
	cfg := a.config()
	cfg.Config, cfg.Layout = a.path("conf/httpd.conf"), "rhel"
	i, _ := a.install(cfg, newLineage(t, "a.example"), "a.example")
	if !exists(a.path("conf.d/test-acmed-ssl.conf")) || !exists(a.path("conf.d/acmed.conf")) {
		t.Error("the files are elsewhere")
	}
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}

// TestIncludedDirectory: where neither Debian's nor Red Hat's layout is, new files go into a directory that the configuration
// includes, and never into one that only has the right name, such as /etc/conf.d of OpenRC.
func TestIncludedDirectory(t *testing.T) {
	for layout, dirs := range map[string][]string{
		"Alpine":   {"etc/apache2/conf.d"},
		"openSUSE": {"etc/apache2/conf.d", "etc/apache2/vhosts.d"},
		"Gentoo":   {"etc/apache2/modules.d", "etc/apache2/vhosts.d"},
	} {
		t.Run(layout, func(t *testing.T) {
			a := newInstance(t, nil)
			includes := ""
			for _, dir := range dirs {
				must(t, os.MkdirAll(a.path(dir), 0o755))
				includes += "IncludeOptional " + dir + "/*.conf\n"
			}
			must(t, os.MkdirAll(a.path("etc/conf.d"), 0o755)) // OpenRC's
			a.write("etc/apache2/httpd.conf", strings.Replace(mainConf, "IncludeOptional sites-enabled/*.conf\n", includes, 1))
			a.write("apache2.conf", "Include etc/apache2/httpd.conf\n")
			a.write("ports.conf", "Listen 127.0.0.1:{plain}\n")
			last := dirs[len(dirs)-1]
			a.write(last+"/site.conf", site("a.example", "hello"))
			a.enableModule("ssl", "socache_shmcb")
			a.start()
			before := a.files()
			cfg := a.config()
			cfg.Config = a.path("etc/apache2/httpd.conf")
			i, _ := a.install(cfg, newLineage(t, "a.example"), "a.example")
			if !exists(a.path(last+"/test-acmed-ssl.conf")) || !exists(a.path(last+"/acmed.conf")) {
				t.Error("the files are elsewhere")
			}
			must(t, i.Uninstall(t.Context()))
			a.wantFiles(before, "Uninstall left something")
		})
	}
}

// TestEngineOff has a site that says itself that it is without TLS.
func TestEngineOff(t *testing.T) {
	a := newInstance(t, map[string]string{
		"sites-available/a.conf": strings.Replace(site("a.example", "hello"), "    ErrorDocument", "    <IfModule ssl_module>\n\tSSLEngine \\\n\toff\n    </IfModule>\n    ErrorDocument", 1),
	})
	a.enableModule("ssl", "socache_shmcb")
	a.start()
	before := a.files()
	l := newLineage(t, "a.example")
	i, _ := a.install(a.config(), l, "a.example")
	after := a.files()
	a.install(a.config(), l, "a.example")
	a.wantFiles(after, "a renewal edited something")
	if _, body := a.get("https", "a.example", "/"); body != "hello" {
		t.Errorf("got %q", body)
	}
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}

// TestRHELDefault has what mod_ssl brings there: a virtual host that answers all names on the TLS port with a certificate
// of its own.
func TestRHELDefault(t *testing.T) {
	a := newInstance(t, nil)
	must(t, os.RemoveAll(a.path("sites-enabled")))
	a.write("conf/httpd.conf", strings.Replace(mainConf, "IncludeOptional sites-enabled/*.conf", "IncludeOptional conf.d/*.conf", 1))
	a.write("apache2.conf", "Include conf/httpd.conf\n")
	a.write("ports.conf", "Listen 127.0.0.1:{plain}\n")
	secure := strings.Replace(a.secureSite("localhost.example", "the default", installertest.Bundle(t, "localhost.example")), "*:", "_default_:", 1)
	a.write("conf.d/ssl.conf", "Listen 127.0.0.1:{tls} https\n"+strings.Replace(secure, "ServerName", "#ServerName", 1))
	a.write("conf.d/site.conf", site("a.example", "hello"))
	a.enableModule("ssl", "socache_shmcb")
	a.start()
	before := a.files()
	l := newLineage(t, "a.example")
	l.Certificate = "early" // comes before ssl.conf
	cfg := a.config()
	cfg.Config = a.path("conf/httpd.conf")
	i, _ := a.install(cfg, l, "a.example")
	if !exists(a.path("conf.d/zz-early-acmed-ssl.conf")) || exists(a.path("conf.d/acmed.conf")) {
		t.Error("the files are elsewhere")
	}
	for name, want := range map[string]string{"a.example": "hello", "unknown.example": "the default"} {
		if _, body := a.get("https", name, "/"); body != want {
			t.Errorf("%s: %q", name, body)
		}
	}
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}
