package etcd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"

	grpccreds "google.golang.org/grpc/credentials"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
)

// credentials make TLS connections with the files as they are at that moment.
type credentials struct {
	files Config
	name  string // overrides the server's name
}

// maxFile is the most that a file may have, in bytes.
const maxFile = 1 << 20

// Roots reads CAFile; nil without one. Nobody but root and this user may be able to change it.
func (c *Config) Roots() (*x509.CertPool, error) {
	if c.CAFile == "" {
		return nil, nil //nolint:nilnil // documented
	}
	text, err := vetted.ReadFile(c.CAFile, 0o022, maxFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	pool, err := certs.Pool(text)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %s: %w", c.CAFile, err)
	}
	return pool, nil
}

// Pair reads CertFile and KeyFile, of which others may not read the key.
func (c *Config) Pair() (tls.Certificate, error) {
	cert, err := vetted.ReadFile(c.CertFile, 0o022, maxFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cert_file: %w", err)
	}
	read := c.ReadKey
	if read == nil {
		read = func(file string) ([]byte, error) { return vetted.ReadFile(file, 0o077, maxFile) }
	}
	key, err := read(c.KeyFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("key_file: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("cert_file %s with key_file %s: %w", c.CertFile, c.KeyFile, err)
	}
	return pair, nil
}

// config reads the files. The errors name them and never hold their content.
func (c *credentials) config(server string) (*tls.Config, error) {
	config := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12}
	var err error
	if config.RootCAs, err = c.files.Roots(); err != nil || c.files.CertFile == "" {
		return config, err
	}
	pair, err := c.files.Pair()
	config.Certificates = []tls.Certificate{pair}
	return config, err
}

// ClientHandshake implements grpc's TransportCredentials.
func (c *credentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, grpccreds.AuthInfo, error) {
	server, _, err := net.SplitHostPort(authority)
	if err != nil {
		server = authority
	}
	if c.name != "" {
		server = c.name
	}
	config, err := c.config(server)
	if err != nil {
		return nil, nil, err
	}
	return grpccreds.NewTLS(config).ClientHandshake(ctx, authority, conn)
}

// ServerHandshake is never used.
func (c *credentials) ServerHandshake(net.Conn) (net.Conn, grpccreds.AuthInfo, error) {
	return nil, nil, fmt.Errorf("not a server")
}

// Info implements grpc's TransportCredentials.
func (c *credentials) Info() grpccreds.ProtocolInfo {
	return grpccreds.NewTLS(&tls.Config{ServerName: c.name, MinVersion: tls.VersionTLS12}).Info()
}

// Clone implements grpc's TransportCredentials.
func (c *credentials) Clone() grpccreds.TransportCredentials {
	clone := *c
	return &clone
}

// OverrideServerName implements grpc's TransportCredentials.
func (c *credentials) OverrideServerName(name string) error {
	c.name = name
	return nil
}
