package installertest

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Live makes a target whose live paths go through a "current" link as those of the store do, and a function that makes a
// bundle the active one. The live paths exist after the first call of publish. The twin of a dual unit is beside them,
// with "-rsa" before the extension. Its journal is below its own temporary directory, which state names.
func Live(t testing.TB, names ...string) (target installers.Target, publish func(*certs.Bundle), state string) {
	t.Helper()
	state = t.TempDir()
	lineage := filepath.Join(state, "certs", "test")
	if err := os.MkdirAll(filepath.Join(lineage, "versions"), 0o755); err != nil {
		t.Fatal(err)
	}
	at := func(file string) string { return filepath.Join(lineage, "current", file) }
	target = installers.Target{
		Certificate: "test",
		Cert:        at("cert.pem"), Chain: at("chain.pem"), FullChain: at("fullchain.pem"), Key: at("privkey.pem"),
		Journal: filepath.Join(state, "journals", "test"),
	}
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		target.Names = append(target.Names, id)
	}
	var mu sync.Mutex
	version := 0
	publish = func(b *certs.Bundle) {
		t.Helper()
		mu.Lock()
		defer mu.Unlock()
		version++
		name := fmt.Sprintf("versions/%d", version)
		if err := writeVersion(filepath.Join(lineage, name), b); err != nil {
			t.Fatal(err)
		}
		if err := atomicfile.Symlink(name, filepath.Join(lineage, "current")); err != nil {
			t.Fatal(err)
		}
	}
	return target, publish, state
}

func writeVersion(dir string, b *certs.Bundle) error {
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	for suffix, unit := range map[string]*certs.Bundle{"": b, "-rsa": b.RSA} {
		if unit == nil {
			continue
		}
		for name, content := range map[string][]byte{
			"cert": unit.CertPEM, "chain": unit.ChainPEM, "fullchain": unit.FullChainPEM(), "privkey": unit.KeyPEM,
		} {
			if err := os.WriteFile(filepath.Join(dir, name+suffix+".pem"), content, 0o600); err != nil {
				return err
			}
		}
	}
	return nil
}

// TLSServer is a TLS server on a free port of 127.0.0.1 that ends with the test.
type TLSServer struct {
	Addr string

	load func() ([]tls.Certificate, error)
	mu   sync.Mutex
	max  uint16
	min  uint16
}

// Serve starts a server that asks load for its certificates at each handshake and picks the one that suits the client.
func Serve(t testing.TB, load func() ([]tls.Certificate, error)) *TLSServer {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &TLSServer{Addr: listener.Addr().String(), load: load}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { s.answer(conn) })
		}
	})
	t.Cleanup(func() {
		listener.Close()
		wg.Wait()
	})
	return s
}

// Versions restricts the TLS versions that the server speaks; 0 stands for Go's default.
func (s *TLSServer) Versions(lowest, highest uint16) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.min, s.max = lowest, highest
}

func (s *TLSServer) answer(conn net.Conn) {
	defer conn.Close()
	s.mu.Lock()
	config := &tls.Config{MinVersion: s.min, MaxVersion: s.max}
	s.mu.Unlock()
	var err error
	if config.Certificates, err = s.load(); err != nil {
		return
	}
	server := tls.Server(conn, config)
	if server.Handshake() == nil {
		_, _ = io.Copy(io.Discard, server)
	}
}

// KeyPairs turns a bundle into what a TLS server needs; a dual unit has two.
func KeyPairs(b *certs.Bundle) ([]tls.Certificate, error) {
	pair, err := tls.X509KeyPair(b.FullChainPEM(), b.KeyPEM)
	if err != nil || b.RSA == nil {
		return []tls.Certificate{pair}, err
	}
	twin, err := tls.X509KeyPair(b.RSA.FullChainPEM(), b.RSA.KeyPEM)
	return []tls.Certificate{pair, twin}, err
}
