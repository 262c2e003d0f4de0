package apache

import (
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestSharedSnippet: two virtual hosts include one file with their pair and settings, and each gets its own certificate. A
// client certificate is required with TLS 1.2, which keeps acmed from finishing a handshake and not from seeing the leaf.
func TestSharedSnippet(t *testing.T) {
	t.Parallel()
	host := func(name string) string {
		text := strings.Replace(site(name, "hello"), "{plain}", "{tls}", 1)
		return strings.Replace(text, "</VirtualHost>", "    Include tls.inc\n</VirtualHost>", 1)
	}
	a := newInstance(t, map[string]string{
		"sites-available/a.conf": host("a.example"), "sites-available/b.conf": host("b.example"),
		"tls.inc":  "SSLEngine on\nInclude pair.inc\nSSLProtocol TLSv1.2\nSSLVerifyClient require\nSSLCACertificateFile {conf}/old.pem\n<Location /x>\n    Require all denied\n</Location>\n",
		"pair.inc": "SSLCertificateFile {conf}/old.pem\nSSLCertificateKeyFile {conf}/old.key\n",
	})
	old := installertest.Bundle(t, "old.example")
	a.write("old.pem", string(old.FullChainPEM()))
	a.write("old.key", string(old.KeyPEM))
	a.enableModule("ssl", "socache_shmcb")
	a.start()
	before := a.files()
	var undo []func() error
	for _, name := range []string{"a.example", "b.example"} {
		l := newLineage(t, name)
		l.Certificate = strings.TrimSuffix(name, ".example")
		i, b := a.install(a.config(), l, name)
		chain, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: a.addr(), ServerName: name})
		if err != nil || !chain[0].Equal(b.Leaf) {
			t.Errorf("%s: %v", name, err)
		}
		if text := a.read("sites-available/" + l.Certificate + ".conf"); !strings.Contains(text, "\n    SSLProtocol TLSv1.2\n") || !strings.Contains(text, "\n    # acmed off "+l.Certificate+": Include tls.inc\n") {
			t.Errorf("the site is\n%s", text)
		}
		undo = append(undo, func() error { return i.Uninstall(t.Context()) })
	}
	if now := a.files(); now["tls.inc"] != before["tls.inc"] || now["pair.inc"] != before["pair.inc"] {
		t.Error("a shared file was edited")
	}
	for _, f := range undo {
		must(t, f())
	}
	a.wantFiles(before, "Uninstall left something")
}

// TestAddressBesideDefault: the site has its own address, and the distribution's default site with TLS has all.
func TestAddressBesideDefault(t *testing.T) {
	t.Parallel()
	a := newInstance(t, map[string]string{
		"sites-available/000-default.conf": "<VirtualHost *:{plain}>\n</VirtualHost>\n",
		"sites-available/a.conf":           strings.Replace(site("a.example", "hello"), "*:", "127.0.0.1:", 1),
	})
	default443 := strings.Replace(a.secureSite("default.example", "default", installertest.Bundle(t, "default.example")), "    ServerName default.example\n", "", 1)
	a.write("sites-enabled/default-ssl.conf", default443)
	a.enableModule("ssl", "socache_shmcb")
	a.start()
	before := a.files()
	i, _ := a.install(a.config(), newLineage(t, "a.example", "127.0.0.1"), "a.example", "127.0.0.1")
	if _, body := a.get("https", "a.example", "/"); body != "hello" {
		t.Errorf("got %q", body)
	}
	must(t, i.Uninstall(t.Context()))
	a.wantFiles(before, "Uninstall left something")
}
