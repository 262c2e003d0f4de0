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
