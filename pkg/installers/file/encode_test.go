package file

import (
	"bytes"
	"crypto/x509"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

const password = "correct horse"

// installAll writes every format and returns the directory.
func installAll(t *testing.T, b *certs.Bundle) string {
	t.Helper()
	dir := t.TempDir()
	secret := filepath.Join(t.TempDir(), "password")
	write(t, secret, password+"\r\nsecond line\n", 0o600)
	target, _, _ := installertest.Live(t, "a.example")
	p, err := New(Config{
		Dir: dir, Cert: "cert.pem", Chain: "chain.pem", FullChain: "fullchain.pem", Key: "key.pem", Combined: "all.pem",
		DER: "cert.der", DERKey: "key.der", PKCS12: "store.p12", JKS: "store.jks", PasswordFile: secret, Alias: "tomcat",
	}, target)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Install(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(filepath.Join(dir, "store.p12"))
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Install(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if after, err := os.Stat(filepath.Join(dir, "store.p12")); err != nil || !os.SameFile(before, after) {
		t.Errorf("the second Install wrote the PKCS#12 store again (%v)", err)
	}
	return dir
}

func read(t *testing.T, path ...string) []byte {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return content
}

func TestFormats(t *testing.T) {
	b := installertest.Dual(t, "a.example")
	dir := installAll(t, b)
	for suffix, unit := range map[string]*certs.Bundle{"": b, "-rsa": b.RSA} {
		for name, want := range map[string][]byte{
			"cert" + suffix + ".pem":      unit.CertPEM,
			"chain" + suffix + ".pem":     unit.ChainPEM,
			"fullchain" + suffix + ".pem": unit.FullChainPEM(),
			"key" + suffix + ".pem":       unit.KeyPEM,
			"all" + suffix + ".pem":       append(unit.FullChainPEM(), unit.KeyPEM...),
			"cert" + suffix + ".der":      unit.Leaf.Raw,
		} {
			if !bytes.Equal(read(t, dir, name), want) {
				t.Errorf("%s has the wrong content", name)
			}
		}
		key, err := x509.ParsePKCS8PrivateKey(read(t, dir, "key"+suffix+".der"))
		checkKey(t, "key"+suffix+".der", key, err, unit)
		checkPKCS12(t, read(t, dir, "store"+suffix+".p12"), unit)
		checkJKS(t, read(t, dir, "store"+suffix+".jks"), unit)
	}
}

func checkKey(t *testing.T, name string, key any, err error, unit *certs.Bundle) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	want, err := certs.ParseKey(unit.KeyPEM)
	if err != nil {
		t.Fatal(err)
	}
	if eq, ok := want.(interface{ Equal(any) bool }); ok && !eq.Equal(key) {
		t.Errorf("%s has another key", name)
	}
}

func checkPKCS12(t *testing.T, content []byte, unit *certs.Bundle) {
	t.Helper()
	key, leaf, chain, err := pkcs12.DecodeChain(content, password)
	checkKey(t, "PKCS#12", key, err, unit)
	if err == nil && (!leaf.Equal(unit.Leaf) || len(chain) != 1) {
		t.Errorf("PKCS#12: leaf %v, %d issuers", leaf.Subject, len(chain))
	}
	if _, _, _, err := pkcs12.DecodeChain(content, "wrong password"); err == nil {
		t.Error("the PKCS#12 store opens with any password")
	}
}

func checkJKS(t *testing.T, content []byte, unit *certs.Bundle) {
	t.Helper()
	store := keystore.New()
	if err := store.Load(bytes.NewReader(content), []byte(password)); err != nil {
		t.Errorf("JKS: %v", err)
		return
	}
	entry, err := store.GetPrivateKeyEntry("tomcat", []byte(password))
	if err != nil {
		t.Errorf("JKS: %v", err)
		return
	}
	key, err := x509.ParsePKCS8PrivateKey(entry.PrivateKey)
	checkKey(t, "JKS", key, err, unit)
	if len(entry.CertificateChain) != 2 || !bytes.Equal(entry.CertificateChain[0].Content, unit.Leaf.Raw) {
		t.Errorf("JKS: a chain of %d certificates", len(entry.CertificateChain))
	}
}

// TestStoresOpenElsewhere reads the stores with the programs that people use them with.
func TestStoresOpenElsewhere(t *testing.T) {
	dir := installAll(t, installertest.Bundle(t, "a.example"))
	for _, tt := range []struct {
		argv []string
		want string
	}{
		{[]string{"openssl", "pkcs12", "-in", "store.p12", "-nodes", "-passin", "pass:" + password}, "-----BEGIN PRIVATE KEY-----"},
		{[]string{"keytool", "-list", "-v", "-keystore", "store.p12", "-storepass", password}, "PrivateKeyEntry"},
		{[]string{"keytool", "-list", "-v", "-keystore", "store.jks", "-storepass", password}, "chain length: 2"},
	} {
		t.Run(strings.Join(tt.argv[:2], " ")+" "+tt.argv[3], func(t *testing.T) {
			if _, err := exec.LookPath(tt.argv[0]); err != nil {
				t.Skipf("%s is not installed", tt.argv[0])
			}
			cmd := exec.CommandContext(t.Context(), tt.argv[0], tt.argv[1:]...)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), tt.want) {
				t.Errorf("%v: %v\n%s", tt.argv, err, out)
			}
		})
	}
}

func TestSaltsDependOnEverything(t *testing.T) {
	a, b := installertest.Bundle(t, "a.example"), installertest.Bundle(t, "a.example")
	take := func(purpose string, b *certs.Bundle, password string) string {
		p := make([]byte, 32)
		if _, err := salts(purpose, b, certs.Secret(password)).Read(p); err != nil {
			t.Fatal(err)
		}
		return string(p)
	}
	base := take("jks", a, password)
	if base != take("jks", a, password) {
		t.Error("the same content has two salts")
	}
	for _, other := range []string{take("pkcs12", a, password), take("jks", b, password), take("jks", a, "another one")} {
		if other == base {
			t.Error("two contents share a salt")
		}
	}
}

func TestPasswordFile(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		name, content string
		mode          os.FileMode
		want          string
	}{
		{"open", password, 0o644, "can be read by others"},
		{"short", "12345\n", 0o600, "fewer than 6"},
		{"missing", "", 0, "no such file"},
		{"good", password, 0o600, ""},
	} {
		path := filepath.Join(dir, tt.name)
		if tt.mode != 0 {
			write(t, path, tt.content, tt.mode)
		}
		c := Config{PasswordFile: path}
		got, err := c.password()
		switch {
		case tt.want == "" && (err != nil || string([]byte(got)) != password):
			t.Errorf("%s: %v", tt.name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s: %v, want %q", tt.name, err, tt.want)
		}
		if err != nil && strings.Contains(err.Error(), "12345") {
			t.Errorf("%s: the error shows the password", tt.name)
		}
	}
}
