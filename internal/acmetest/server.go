package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	mrand "math/rand/v2"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// ServerFault is what is wrong with the TLS certificate of a directory.
type ServerFault int

// The faults of a directory's own certificate.
const (
	ServerSound       ServerFault = iota
	ServerWrongName               // for another name
	ServerExpired                 // ended an hour ago
	ServerUnknownRoot             // by an authority that is not in CA.Roots
)

// authority is a small certificate authority with one root.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(name string) (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("authority key: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, SerialNumber: serial(), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, NotBefore: time.Now().Add(-24 * time.Hour),
		NotAfter: time.Now().Add(20 * 365 * 24 * time.Hour),
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	return &authority{cert: cert, key: key}, nil
}

// serverCertificate issues a TLS certificate for 127.0.0.1, localhost and the host unless that is "", with fault f.
func (a *authority) serverCertificate(host string, f ServerFault) (tls.Certificate, error) {
	signer := a
	if f == ServerUnknownRoot {
		stranger, err := newAuthority("Unknown test root")
		if err != nil {
			return tls.Certificate{}, err
		}
		signer = stranger
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("server key: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber: serial(), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	if host != "" {
		template.DNSNames = append(template.DNSNames, host)
	}
	switch f {
	case ServerWrongName:
		template.DNSNames, template.IPAddresses = []string{"elsewhere.example"}, nil
	case ServerExpired:
		template.NotAfter = time.Now().Add(-time.Hour)
	}
	cert, err := sign(template, signer.cert, key.Public(), signer.key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}, nil
}

// sign creates and parses a certificate.
func sign(template, parent *x509.Certificate, public, signer any) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, public, signer)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("parse signed certificate: %w", err)
	}
	return cert, nil
}

func serial() *big.Int { return new(big.Int).SetUint64(mrand.Uint64() >> 1) }

func encode(certs ...*x509.Certificate) []byte {
	var out []byte
	for _, c := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	return out
}

// FreePort returns a port of 127.0.0.1 that nobody uses over TCP or UDP. It lies below the range from which the kernel
// takes ports for outgoing connections, so it stays free until the caller binds it.
func FreePort(t testing.TB) int {
	t.Helper()
	port, err := Port()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// ports counts up, so that a process never gets the same port twice; it begins anywhere, so that processes that run side
// by side seldom meet.
var ports = func() *atomic.Uint32 {
	begin := &atomic.Uint32{}
	begin.Store(mrand.Uint32N(portRange))
	return begin
}()

const (
	firstPort = 10_000
	portRange = 22_000
)

// Port is FreePort for programs.
func Port() (int, error) {
	var last error
	for range 100 {
		port := firstPort + int(ports.Add(1)%portRange)
		stream, packet, err := listenBoth(fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			last = err
			continue
		}
		_ = packet.Close()
		_ = stream.Close()
		return port, nil
	}
	return 0, fmt.Errorf("no free port on 127.0.0.1: %w", last)
}
