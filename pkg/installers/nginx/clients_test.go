package nginx

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// startRSA runs an nginx that serves an RSA certificate for a.example.
func startRSA(t *testing.T, settings string) (n *instance, l *lineage, old *certs.Bundle, dual *certs.Bundle) {
	t.Helper()
	old = installertest.Dual(t, "a.example").RSA
	n = newInstance(t, map[string]string{"sites/a.conf": `server {
    listen 127.0.0.1:{tls} ssl;
    server_name a.example;
    ssl_certificate {run}/old.pem;
    ssl_certificate_key {run}/old.key;
` + settings + "\n}\n"})
	for name, text := range map[string][]byte{"old.pem": old.FullChainPEM(), "old.key": old.KeyPEM} {
		if err := os.WriteFile(filepath.Join(n.run, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.nginx()
	t.Cleanup(n.stop)
	l = newLineage(t, "a.example")
	return n, l, old, installertest.Dual(t, "a.example")
}

// TestNobodyIsLockedOut has an nginx with suites for RSA keys alone, and an ECDSA certificate.
func TestNobodyIsLockedOut(t *testing.T) {
	const list = "ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384:!aNULL"
	for _, tt := range []struct {
		name, settings string
		place          string // where the list is refused; "" when only a look can tell
	}{
		{"a list in the block", "    ssl_ciphers " + list + ";", "sites/a.conf:6: "},
		{"only TLS 1.2", "    ssl_protocols TLSv1.2;\n    ssl_ciphers '" + list + "';", "sites/a.conf:7: "},
		{"a list that only OpenSSL reads", "    ssl_conf_command CipherString " + list + ";", ""},
		{"the same with TLS 1.2 alone", "    ssl_protocols TLSv1.2;\n    ssl_conf_command CipherString " + list + ";", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			n, l, old, dual := startRSA(t, tt.settings)
			cfg := n.config()
			cfg.VerifyTimeout = time.Hour // which nothing waits for
			i := n.installer(cfg, l)
			before := snapshotOf(t, n.conf)
			alone := *dual
			alone.RSA = nil
			l.publish(&alone)
			err := i.Install(t.Context(), &alone)
			if err == nil || !strings.Contains(err.Error(), "key_type") {
				t.Fatalf("Install = %v", err)
			}
			refused := (*installers.RefusedEditError)(nil)
			if tt.place != "" {
				if !strings.Contains(err.Error(), n.path(tt.place)) || n.reloads() != 0 {
					t.Errorf("%d reloads, Install = %v", n.reloads(), err)
				}
			} else if !errors.As(err, &refused) || advice.Of(err) != advice.ClientsLockedOut || n.reloads() != 2 {
				t.Errorf("%d reloads, Install = %v", n.reloads(), err)
			}
			if snapshotOf(t, n.conf) != before {
				t.Error("the edit stayed")
			}
			at := endpoint.Endpoint{Addr: fmt.Sprintf("127.0.0.1:%d", n.tls), ServerName: "a.example"}
			if err := endpoint.Verify(t.Context(), []endpoint.Endpoint{at}, old, 10*time.Second); err != nil {
				t.Error(err)
			}
			l.publish(dual)
			if err := i.Install(t.Context(), dual); err != nil {
				t.Errorf("both key types: %v", err)
			}
		})
	}
}

// TestRenewalThatLocksOut has a certificate that is served already, and renewed with a key for which nginx has no suite.
func TestRenewalThatLocksOut(t *testing.T) {
	n, l, _, dual := startRSA(t, "    ssl_ciphers ECDHE-RSA-AES128-GCM-SHA256;")
	i := n.installer(n.config(), l)
	l.publish(dual.RSA)
	if err := i.Install(t.Context(), dual.RSA); err != nil {
		t.Fatal(err)
	}
	alone := *dual
	alone.RSA = nil
	l.publish(&alone)
	err := i.Install(t.Context(), &alone)
	if refused := (*installers.RefusedEditError)(nil); !errors.As(err, &refused) || !strings.Contains(err.Error(), "TLS 1.2") {
		t.Errorf("Install = %v", err)
	}
}

// TestPackageFileIsNotEdited has a site that includes the pair of a snippet that the distribution's package brings.
func TestPackageFileIsNotEdited(t *testing.T) {
	const snippet = "/etc/nginx/snippets/snakeoil.conf"
	if _, err := os.Stat(snippet); err != nil {
		t.Fatalf("the package of nginx brings %s: %v", snippet, err)
	}
	c := planCase{files: map[string]string{"sites/a.conf": "server {\n  listen 443 ssl;\n  server_name a.example;\n  include " + snippet + ";\n}\n"}}
	want := "server {\n  listen 443 ssl;\n  server_name a.example;\n" + pairAt("  ") + "  # acmed off www: include " + snippet + ";\n}\n"
	if got, made := c.apply(t); got != want || len(made.Files) != 1 {
		t.Errorf("%d files are edited; got\n%s", len(made.Files), got)
	}
}

// TestDefaultsAddNoProtocol has an operator who wants TLS 1.3 alone.
func TestDefaultsAddNoProtocol(t *testing.T) {
	c := planCase{
		main:  strings.Replace(planMain, "http {", "http {\n  ssl_protocols TLSv1.3;", 1),
		files: map[string]string{"sites/a.conf": "server {\n  listen 80;\n  server_name a.example;\n}\n"}, names: []string{"a.example"},
		cfg: Config{TLSDefaults: true},
	}
	c.apply(t)
	if text := c.files["acmed-www.inc"]; !strings.Contains(text, "ssl_protocols TLSv1.3;\n") || strings.Contains(text, "TLSv1.2") {
		t.Errorf("the settings are\n%s", text)
	}
}

// TestServerRefusesTheKey: the security level of this server takes P-256, and no RSA key of 2,048 bits. Its own test says so,
// and the configuration is as before, without a reload.
func TestServerRefusesTheKey(t *testing.T) {
	n := newInstance(t, map[string]string{"sites/a.conf": `server {
    listen 127.0.0.1:{tls} ssl;
    server_name a.example;
    ssl_certificate {run}/old.pem;
    ssl_certificate_key {run}/old.key;
    ssl_ciphers DEFAULT:@SECLEVEL=3;
}
`})
	old, weak := installertest.Bundle(t, "a.example"), installertest.Dual(t, "a.example").RSA
	for name, text := range map[string][]byte{"old.pem": old.FullChainPEM(), "old.key": old.KeyPEM} {
		if err := os.WriteFile(filepath.Join(n.run, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	n.nginx()
	t.Cleanup(n.stop)
	l := newLineage(t, "a.example")
	i, before := n.installer(n.config(), l), snapshotOf(t, n.conf)
	l.publish(weak)
	err := i.Install(t.Context(), weak)
	if err == nil || !strings.Contains(err.Error(), "ee key too small") {
		t.Errorf("Install = %v", err)
	}
	if snapshotOf(t, n.conf) != before || n.reloads() != 0 {
		t.Errorf("the edit stayed, or the server was reloaded (%d times)", n.reloads())
	}
	at := endpoint.Endpoint{Addr: fmt.Sprintf("127.0.0.1:%d", n.tls), ServerName: "a.example"}
	if err := endpoint.Verify(t.Context(), []endpoint.Endpoint{at}, old, 10*time.Second); err != nil {
		t.Error(err)
	}
	strong := installertest.Bundle(t, "a.example")
	l.publish(strong)
	if err := i.Install(t.Context(), strong); err != nil {
		t.Errorf("a key that the server takes: %v", err)
	}
}
