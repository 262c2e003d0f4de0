package store

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
)

const www = "www"

// noon is the time at which these tests begin.
func noon() time.Time { return time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC) }

// ca issues bundles for tests.
type ca struct {
	key    *ecdsa.PrivateKey
	cert   *x509.Certificate
	serial atomic.Int64
}

func newCA(t testing.TB) *ca {
	t.Helper()
	c := &ca{key: ecKey(t)}
	c.serial.Store(1)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Test CA"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: noon().AddDate(-1, 0, 0), NotAfter: noon().AddDate(10, 0, 0), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, c.key.Public(), c.key)
	must(t, err)
	c.cert, err = x509.ParseCertificate(der)
	must(t, err)
	return c
}

func ecKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// bundle issues a certificate with a fresh key, its issuer and one alternate chain.
func (c *ca) bundle(t testing.TB) *certs.Bundle {
	t.Helper()
	key := ecKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(c.serial.Add(1)), DNSNames: []string{"example.com"},
		NotBefore: noon().Add(-time.Hour), NotAfter: noon().AddDate(0, 0, 90),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, c.cert, key.Public(), c.key)
	must(t, err)
	leaf, err := x509.ParseCertificate(der)
	must(t, err)
	keyPEM, err := certs.EncodeKey(key)
	must(t, err)
	b, err := certs.NewBundle(append(certs.EncodeCert(leaf), certs.EncodeCert(c.cert)...), keyPEM)
	must(t, err)
	b.Issuer, b.Directory, b.Profile = "test", "https://ca.example/dir", "classic"
	b.Validations = []certs.Validation{{Identifier: "example.com", Solver: "http-01", Type: "http-01"}}
	b.Alternates = [][]byte{certs.EncodeCert(c.cert)}
	return b
}

func (c *ca) dual(t testing.TB) *certs.Bundle {
	t.Helper()
	b := c.bundle(t)
	b.RSA = c.bundle(t) // the kind of the key does not matter to the store
	return b
}

func openTest(t testing.TB, dir string, guard atomicfile.Guard) *Store {
	t.Helper()
	s, err := open(dir, guard)
	must(t, err)
	t.Cleanup(func() { _ = s.Close() }) // some tests close it themselves
	return s
}

// stateDir makes an empty state directory.
func stateDir(t testing.TB) string {
	t.Helper()
	top := t.TempDir()
	must(t, os.Chmod(top, 0o755)) // whatever the umask
	dir := filepath.Join(top, "acmed")
	must(t, os.Mkdir(dir, 0o750))
	return dir
}

// quickDir is stateDir in memory where there is such a file system, for tests with thousands of fsyncs.
func quickDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "acmed-store-")
	if err != nil {
		return stateDir(t)
	}
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	return dir
}

// live opens a store in which www has one active version.
func live(t testing.TB, b *certs.Bundle) (s *Store, version string) {
	t.Helper()
	s = openTest(t, stateDir(t), nil)
	return s, add(t, s, b, noon(), true)
}

func add(t testing.TB, s *Store, b *certs.Bundle, now time.Time, activate bool) string {
	t.Helper()
	id, err := s.AddVersion(www, b, now)
	must(t, err)
	if activate {
		must(t, s.Activate(www, id))
	}
	return id
}

func load(t testing.TB, s *Store) *Lineage {
	t.Helper()
	l, err := s.Load(www)
	must(t, err)
	return l
}

func in(s *Store, name ...string) string {
	return filepath.Join(append([]string{s.Dir(), "certs", www}, name...)...)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t testing.TB, name, text string) {
	t.Helper()
	must(t, os.WriteFile(name, []byte(text), 0o600))
}

// contains fails unless one of the texts contains the part.
func contains(t testing.TB, texts []string, part string) {
	t.Helper()
	if !slices.ContainsFunc(texts, func(s string) bool { return strings.Contains(s, part) }) {
		t.Errorf("%q is not in %q", part, texts)
	}
}

// temporaries lists what killed or failed writers left.
func temporaries(t testing.TB, dir string) []string {
	t.Helper()
	var found []string
	must(t, filepath.WalkDir(dir, func(name string, e fs.DirEntry, err error) error {
		if err == nil && atomicfile.IsTemp(e.Name()) {
			found = append(found, name)
		}
		return err
	}))
	return found
}
