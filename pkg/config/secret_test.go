package config_test

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/config"
)

func writeFile(t *testing.T, path, text string, mode os.FileMode) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	file := filepath.Join(dir, "s")
	tests := []struct {
		name, path, text string
		mode             os.FileMode
		want, err        string
	}{
		{"plain", file, "hunter2", 0o600, "hunter2", ""},
		{"read-only", file, "hunter2\n", 0o400, "hunter2", ""},
		{"one line end", file, " hunter2 \r\n", 0o600, " hunter2 ", ""},
		{"byte order mark, line ends", file, "\xef\xbb\xbfhunter2\r\n\r\n", 0o600, "hunter2", ""},
		{"UTF-16", file, "\xff\xfeh\x00u\x00", 0o600, "", "UTF-16; save it as UTF-8"},
		{"world-readable", file, "hunter2", 0o604, "", "can be read by others (mode 0604): chmod 600 " + file},
		{"group-readable", file, "hunter2", 0o640, "", "can be read by others (mode 0640): chmod 600 " + file},
		{"group-writable", file, "hunter2", 0o620, "", "can be changed by others (mode 0620): chmod go-w " + file},
		{"empty", file, "\n", 0o600, "", "is empty"},
		{"large", file, strings.Repeat("hunter2", 10000), 0o600, "", "is larger than 64 KiB"},
		{"missing", filepath.Join(dir, "none"), "", 0o600, "", "no such file"},
		{"credential", "$CREDENTIALS_DIRECTORY/s", "hunter2", 0o440, "hunter2", ""},
		{"world-readable credential", "$CREDENTIALS_DIRECTORY/s", "hunter2", 0o444, "", "can be read by others"},
		{"group-writable credential", "$CREDENTIALS_DIRECTORY/s", "hunter2", 0o460, "", "can be changed by others"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			writeFile(t, file, tt.text, tt.mode)
			got, err := config.ReadSecret(tt.path)
			if string([]byte(got)) != tt.want || (err == nil) != (tt.err == "") {
				t.Fatalf("got %d bytes, %v", len(got), err)
			}
			if err != nil && (!strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "hunter2")) {
				t.Errorf("the error is %v, want %q and nothing of the secret", err, tt.err)
			}
		})
	}
	t.Setenv("CREDENTIALS_DIRECTORY", "")
	if _, err := config.ReadSecret("$CREDENTIALS_DIRECTORY/s"); err == nil || !strings.Contains(err.Error(), "LoadCredential=s:FILE") {
		t.Errorf("without systemd: %v", err)
	}
}

func TestEAB(t *testing.T) {
	const key = "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldC1zZWNyZXQ"
	tests := []struct{ name, text, err string }{
		{"good", key + "\n", ""},
		{"padded", key + "=", ""},
		{"not base64url", "c2Vj+++." + key, "is not base64url"},
		{"standard base64 in quotes", "\"" + key + "=\"\n", ""},
		{"short", "c2VjcmV0", "holds a key of 6 bytes, at least 32 are needed"},
		{"empty", "", "is empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file, main := filepath.Join(dir, "eab"), filepath.Join(dir, "acmed.yaml")
			writeFile(t, file, tt.text, 0o600)
			writeFile(t, main, fmt.Sprintf("issuers:\n  - {name: ca, directory: 'https://ca.internal/d', eab: {kid: k, hmac_file: %s}}\n", file), 0o600)
			c, _, err := config.Load(main)
			if tt.err != "" {
				if err == nil || !strings.HasPrefix(err.Error(), main+":2: issuers[ca].eab.hmac_file: ") || !strings.Contains(err.Error(), tt.err) || strings.Contains(err.Error(), "c2Vj") {
					t.Errorf("the error is %v, want %q and nothing of the key", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got, err := c.Issuers[0].EAB.HMAC(); err != nil || string([]byte(got)) != key {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
}

func TestCSR(t *testing.T) {
	key, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	request := func(names []string, ips ...net.IP) []byte {
		der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{DNSNames: names, IPAddresses: ips}, key)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	armour := func(kind string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}) }
	both := request([]string{"A.example.com", "b.example.com"})
	tests := []struct {
		name string
		file []byte
		err  string
	}{
		{"pem", armour("CERTIFICATE REQUEST", both), ""},
		{"old pem", armour("NEW CERTIFICATE REQUEST", both), ""},
		{"der", both, ""},
		{"key", armour("PRIVATE KEY", both), `holds a "PRIVATE KEY", not a certificate request`},
		{"garbage", []byte("x"), "is not a certificate request"},
		{"fewer", request([]string{"a.example.com"}), "does not ask for b.example.com"},
		{"more", request([]string{"a.example.com", "b.example.com"}, net.IPv4(1, 1, 1, 1)), "also asks for 1.1.1.1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			file, main := filepath.Join(dir, "csr"), filepath.Join(dir, "acmed.yaml")
			writeFile(t, file, string(tt.file), 0o644)
			writeFile(t, main, "agree_tos: true\ncertificates:\n  - {name: www, names: [a.example.com, b.example.com], csr_file: "+file+"}\n", 0o600)
			c, _, err := config.Load(main)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("the error is %v, want %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if spec := c.Spec(&c.Certificates[0]); string(spec.CSR) != string(both) {
				t.Error("the spec does not have the request")
			}
		})
	}
}
