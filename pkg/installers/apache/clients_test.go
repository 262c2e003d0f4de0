package apache

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestNobodyIsLockedOut has an Apache with suites for RSA keys alone, and an ECDSA certificate.
func TestNobodyIsLockedOut(t *testing.T) {
	const list = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:!aNULL"
	for _, tt := range []struct {
		name, settings string
		place          string // where the list is refused; "" when only a look can tell
	}{
		{"a list in the virtual host", "  SSLCipherSuite " + list, "a.conf:6: "},
		{"with a protocol", "  SSLCipherSuite SSL \"" + list + "\"", "a.conf:6: "},
		{"a list that only OpenSSL reads", "  SSLOpenSSLConfCmd CipherString " + list, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			old := installertest.Dual(t, "a.example").RSA
			run := t.TempDir()
			for name, text := range map[string][]byte{"old.pem": old.FullChainPEM(), "old.key": old.KeyPEM} {
				must(t, os.WriteFile(filepath.Join(run, name), text, 0o600))
			}
			a := newInstance(t, map[string]string{"sites-available/a.conf": "<VirtualHost *:{tls}>\n  ServerName a.example\n  SSLEngine on\n" +
				"  SSLCertificateFile " + run + "/old.pem\n  SSLCertificateKeyFile " + run + "/old.key\n" + tt.settings + "\n</VirtualHost>\n"})
			a.enableModule("ssl", "socache_shmcb")
			a.start()
			l := newLineage(t, "a.example")
			cfg := a.config()
			cfg.VerifyTimeout = time.Hour // which nothing waits for
			i := a.installer(cfg, l)
			before := a.files()
			dual := installertest.Dual(t, "a.example")
			alone := *dual
			alone.RSA = nil
			l.publish(&alone)
			err := i.Install(t.Context(), &alone)
			if err == nil || !strings.Contains(err.Error(), "key_type") || !strings.Contains(err.Error(), tt.place) {
				t.Fatalf("Install = %v", err)
			}
			if refused := (*installers.RefusedEditError)(nil); errors.As(err, &refused) != (tt.place == "") {
				t.Errorf("Install = %v", err)
			}
			a.wantFiles(before, "the edit stayed")
			l.publish(dual)
			if err := i.Install(t.Context(), dual); err != nil {
				t.Errorf("both key types: %v", err)
			}
		})
	}
}

// TestDefineForEachSite has virtual hosts that each define the same variable: an alias is what Apache makes of it there, and
// never that of another site.
func TestDefineForEachSite(t *testing.T) {
	host := func(name string) string {
		return "Define domain " + name + "\n<VirtualHost *:{plain}>\n  ServerName ${domain}\n  ServerAlias www.${domain}\n</VirtualHost>\n"
	}
	a := newInstance(t, map[string]string{"sites-available/all.conf": host("a.example") + host("b.example") + host("c.example")})
	sites, err := Sites(t.Context(), a.config())
	must(t, err)
	if len(sites) != 3 {
		t.Fatalf("got %+v", sites)
	}
	for i, name := range []string{"a.example", "b.example", "c.example"} {
		if got := sites[i].Names; len(got) != 2 || got[0] != name || got[1] != "www."+name {
			t.Errorf("site %d has the names %q", i, got)
		}
	}
}

// TestTwinHasNoPlainPort has a site that is named with the port of plain HTTP.
func TestTwinHasNoPlainPort(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": strings.Replace(site("a.example", "hello"), "ServerName a.example", "ServerName a.example:80", 1)})
	a.install(a.config(), newLineage(t, "a.example"), "a.example")
	text := a.files()["sites-available/test-acmed-ssl.conf"]
	if !strings.Contains(text, "ServerName a.example\n") {
		t.Errorf("the twin is\n%s", text)
	}
}
