package etcdtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

// authority is a CA of the test's own.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "test CA"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{cert, key}
}

// issue writes a certificate for loopback with this common name into files.
func (a *authority) issue(t *testing.T, name, certFile, keyFile string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}

func (a *authority) write(t *testing.T, file string) {
	write(t, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.cert.Raw}))
}

func write(t *testing.T, file string, data []byte) {
	t.Helper()
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTLSAndRoles: mutual TLS, the certificate's common name as the user, roles limited to the fleet, and files that are
// replaced while the process runs.
func TestTLSAndRoles(t *testing.T) {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	ca := newAuthority(t)
	ca.write(t, file("ca.pem"))
	ca.issue(t, "server", file("server.pem"), file("server-key.pem"))
	ca.issue(t, "root", file("root.pem"), file("root-key.pem"))
	ca.issue(t, "issue-node", file("node.pem"), file("node-key.pem"))
	c := newCluster(t, 1, func(config *embed.Config) {
		config.ClientTLSInfo = transport.TLSInfo{CertFile: file("server.pem"), KeyFile: file("server-key.pem"), TrustedCAFile: file("ca.pem"), ClientCertAuth: true}
		client := local(t, "https")
		config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{client}, []url.URL{client}
	})
	tlsConfig, err := (transport.TLSInfo{CertFile: file("root.pem"), KeyFile: file("root-key.pem"), TrustedCAFile: file("ca.pem")}).ClientConfig()
	if err != nil {
		t.Fatal(err)
	}
	root, err := clientv3.New(clientv3.Config{Endpoints: c.endpoints(), TLS: tlsConfig})
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	ctx := t.Context()
	steps := []func() error{
		func() error {
			_, err := root.UserAddWithOptions(ctx, "root", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		},
		func() error { _, err := root.UserGrantRole(ctx, "root", "root"); return err },
		func() error { _, err := root.RoleAdd(ctx, "fleet"); return err },
		func() error {
			_, err := root.RoleGrantPermission(ctx, "fleet", "/acmed/f/", "/acmed/f0", clientv3.PermissionType(clientv3.PermReadWrite))
			return err
		},
		func() error {
			_, err := root.UserAddWithOptions(ctx, "issue-node", "", &clientv3.UserAddOptions{NoPassword: true})
			return err
		},
		func() error { _, err := root.UserGrantRole(ctx, "issue-node", "fleet"); return err },
		func() error { _, err := root.AuthEnable(ctx); return err },
	}
	if _, err := root.RoleAdd(ctx, "root"); err != nil {
		t.Fatal(err)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	open := func() (*etcd.Engine, error) {
		return etcd.Open(etcd.Config{Endpoints: c.endpoints(), CAFile: file("ca.pem"), CertFile: file("node.pem"), KeyFile: file("node-key.pem")})
	}
	e, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	if _, err := e.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: "/acmed/f/v1/x", Value: []byte("1")}}}); err != nil {
		t.Fatal(err)
	}
	var failed *certs.LedgerError
	_, err = e.Commit(ctx, fleet.Txn{Then: []fleet.Op{{Key: "/acmed/other/v1/x", Value: []byte("1")}}})
	if !errors.As(err, &failed) || failed.Code != advice.StoreDenied || failed.Unknown {
		t.Fatalf("another fleet's keys: %v", err)
	}
	stranger := newAuthority(t)
	stranger.issue(t, "issue-node", file("node.pem"), file("node-key.pem"))
	other, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Read(ctx, fleet.Range{From: "/acmed/f/v1/x"}); !errors.As(err, &failed) {
		t.Fatalf("a certificate of another CA: %v", err)
	}
	ca.issue(t, "issue-node", file("node.pem"), file("node-key.pem")) // the same connection, new files
	eventually(t, func() bool { _, err := other.Read(ctx, fleet.Range{From: "/acmed/f/v1/x"}); return err == nil })
	stranger.write(t, file("ca.pem"))
	distrusting, err := open()
	if err != nil {
		t.Fatal(err)
	}
	defer distrusting.Close()
	if _, err := distrusting.Read(ctx, fleet.Range{From: "/acmed/f/v1/x"}); !errors.As(err, &failed) {
		t.Fatalf("a server of a CA that is not trusted: %v", err)
	}
}
