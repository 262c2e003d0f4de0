package etcd

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"

	"github.com/acmed/acmed/pkg/certs"
	grpccreds "google.golang.org/grpc/credentials"
)

// credentials make TLS connections with the files as they are at that moment.
type credentials struct {
	files Config
	name  string // overrides the server's name
}

// config reads the files. The errors name them and never hold their content.
func (c *credentials) config(server string) (*tls.Config, error) {
	config := &tls.Config{ServerName: server, MinVersion: tls.VersionTLS12}
	if c.files.CAFile != "" {
		text, err := os.ReadFile(c.files.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		if config.RootCAs, err = certs.Pool(text); err != nil {
			return nil, fmt.Errorf("ca_file: %s: %w", c.files.CAFile, err)
		}
	}
	if c.files.CertFile == "" {
		return config, nil
	}
	pair, err := tls.LoadX509KeyPair(c.files.CertFile, c.files.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file %s with key_file %s: %w", c.files.CertFile, c.files.KeyFile, err)
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
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
