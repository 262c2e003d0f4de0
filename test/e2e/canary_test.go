package e2e

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/canary"
)

// TestCanary plants secrets, lets things go well and wrong with the log at debug, and looks for the secrets in all that
// comes out: logs, status, previews, process arguments, and the files of the state directory that are not themselves the
// place of a secret.
func TestCanary(t *testing.T) {
	t.Parallel()
	hmac, token := randomBytes(t, 32), hex.EncodeToString(randomBytes(t, 16))
	hmacText := base64.RawURLEncoding.EncodeToString(hmac)
	s := newSite(t, acmetest.WithEAB(map[string]string{"kid-1": hmacText}))
	s.startNginx()
	secret := func(name, text string) string {
		path := filepath.Join(s.dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	program := filepath.Join(s.dir, "dns.sh")
	if err := os.WriteFile(program, []byte("#!/bin/sh\necho \"token $DNS_TOKEN refused\" >&2\necho \"$DNS_TOKEN\"\nexit 1\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	page := fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t))
	config := s.read("acmed.yaml") + "web: { listen: \"" + page + "\" }\n"
	config = strings.Replace(config, "private: true }", fmt.Sprintf("private: true, eab: { kid: kid-1, hmac_file: %s } }", secret("eab", hmacText)), 1)
	config = strings.Replace(config, "solvers:\n", fmt.Sprintf("log: { level: debug }\nsolvers:\n  - { name: dns, dns-01: { exec: { command: [%s], env_file: %s }, resolvers: [\"%s\"] } }\n",
		program, secret("dns.env", "DNS_TOKEN="+token+"\n"), s.ca.DNS.Addr), 1)
	config = strings.Replace(config, "solvers: [standalone]", "solvers: [dns, standalone]", 1)
	s.write("acmed.yaml", config)

	var outputs bytes.Buffer
	run := func(args ...string) {
		out, _ := s.run(args...)
		outputs.WriteString(out)
	}
	run("check")
	s.start()
	arguments := func() {
		for _, p := range []int{s.daemon.Process.Pid} {
			line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", p))
			if err != nil {
				t.Error(err)
			}
			outputs.Write(line)
		}
	}
	arguments()
	s.waitFor("installed", isOK)
	for _, path := range []string{"/", "/metrics", "/certificate/www"} {
		outputs.WriteString(fetch(t, "http://"+page+path))
	}
	if !strings.Contains(outputs.String(), "acmed_certificate_not_after_seconds") {
		t.Error("there were no metrics")
	}
	limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", s.daemon.Process.Pid))
	if err != nil || !regexp.MustCompile(`Max core file size +0 +0 `).Match(limits) {
		t.Errorf("a crash of the daemon would write its memory, with all keys, to disk: %v\n%s", err, limits)
	}
	run("renew", "--force", "--yes")
	run("status", "-o", "json")
	run("renew", "--dry-run")
	run("account", "show", "test-ca", "-o", "json")
	s.kill(syscall.SIGTERM)
	secret("eab", base64.RawURLEncoding.EncodeToString(randomBytes(t, 32))) // wrong now, for an account that is new
	if err := os.RemoveAll(filepath.Join(s.dir, "state", "accounts")); err != nil {
		t.Fatal(err)
	}
	run("renew", "--force", "--yes")
	run("revoke", "www", "--by-key", "--yes")
	run("status")
	outputs.Write(s.log.Bytes())
	if !strings.Contains(outputs.String(), "<redacted>") && !strings.Contains(outputs.String(), "refused") {
		t.Error("the program that prints its token was not heard at all, so this test proves nothing")
	}

	canaries := map[string]string{"the HMAC": hmacText, "the HMAC in hexadecimal": hex.EncodeToString(hmac), "the DNS token": token}
	for name, key := range privateKeys(t, filepath.Join(s.dir, "state")) {
		canaries["the key in "+name] = key
	}
	if err := canary.Heard(outputs.String()); err != nil {
		t.Error(err)
	}
	if len(canaries) < 5 {
		t.Fatalf("only %d canaries", len(canaries))
	}
	for what, secret := range canaries {
		if err := canary.Secret(secret); err != nil {
			t.Error(err)
		}
		if strings.Contains(outputs.String(), secret) {
			t.Errorf("%s came out", what)
		}
		for file, text := range stateFiles(t, filepath.Join(s.dir, "state")) {
			own := filepath.Base(file) == "account.json" && what == "the key in "+filepath.Join(filepath.Dir(file), "key.pem") // mode 0600, see docs/STATE.md
			if strings.Contains(text, secret) && !own {
				t.Errorf("%s is in %s", what, file)
			}
		}
	}
}

func fetch(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s %v", url, resp.Status, err)
	}
	return string(body)
}

func randomBytes(t *testing.T, n int) []byte {
	t.Helper()
	b := make([]byte, n)
	if _, err := rand.Read(b); err != nil {
		t.Fatal(err)
	}
	return b
}

// isKeyFile names the files whose purpose it is to hold a private key.
func isKeyFile(name string) bool {
	return strings.HasPrefix(name, "privkey") || strings.HasSuffix(name, "key.pem") || strings.HasPrefix(name, "order")
}

// privateKeys returns one line of every private key below a directory, and checks that nobody else may read it.
func privateKeys(t *testing.T, dir string) map[string]string {
	t.Helper()
	keys := map[string]string{}
	walk(t, dir, func(path string, info fs.FileInfo, text string) {
		if !strings.Contains(text, "PRIVATE KEY") {
			return
		}
		if info.Mode().Perm()&0o077 != 0 {
			t.Errorf("%s has mode %o", path, info.Mode().Perm())
		}
		if _, body, ok := strings.Cut(text, "PRIVATE KEY-----\n"); ok {
			keys[path] = body[:64]
		}
	})
	return keys
}

// stateFiles returns all files below a directory that are not for keys.
func stateFiles(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	walk(t, dir, func(path string, _ fs.FileInfo, text string) {
		if !isKeyFile(filepath.Base(path)) {
			files[path] = text
		}
	})
	return files
}

func walk(t *testing.T, dir string, visit func(path string, info fs.FileInfo, text string)) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		text, err := os.ReadFile(path)
		if err == nil {
			visit(path, info, string(text))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}
