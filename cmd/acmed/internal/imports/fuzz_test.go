package imports

import (
	"os"
	"path/filepath"
	"testing"
)

// FuzzReadConf: whatever certbot's file of a certificate says, it is read or refused, and what is read makes a lineage.
func FuzzReadConf(f *testing.F) {
	f.Add([]byte("version = 2.1.0\narchive_dir = /etc/letsencrypt/archive/a\n[renewalparams]\nauthenticator = webroot\n[[webroot_map]]\na.example = /var/www\n"))
	f.Add([]byte("[renewalparams]\nauthenticator = dns-rfc2136\ninstaller = nginx\nrenew_before_expiry = 30 days\n"))
	f.Add([]byte("[[\n]]\n=\nx = 'y\n"))
	file := filepath.Join(f.TempDir(), "a.conf")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
		sections, err := readConf(file)
		if err != nil {
			return
		}
		if l := CertbotLineage("a", filepath.Dir(file), sections["renewalparams"], sections["webroot_map"]); l == nil {
			t.Error("no lineage")
		}
	})
}
