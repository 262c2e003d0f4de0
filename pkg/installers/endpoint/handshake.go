package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// handshakeTimeout bounds one look at one address, name resolution, STARTTLS and TLS included. A server that is slower
// is as good as down for its clients.
const handshakeTimeout = 10 * time.Second

// farewellTimeout bounds how long a server may take to hang up.
const farewellTimeout = time.Second

// rsaSuites make a TLS 1.2 server choose its RSA certificate. TLS 1.3 suites do not name a key type.
func rsaSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
	}
}

// ecdsaSuites make a TLS 1.2 server choose its ECDSA certificate.
func ecdsaSuites() []uint16 {
	return []uint16{
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA,
	}
}

// tls13Only recognises the answer of a server that speaks TLS 1.3 only: the alert protocol_version (RFC 8446 section
// 6.2). The type of a received alert is private to crypto/tls, so its text must do.
func tls13Only(err error) bool {
	return err != nil && strings.Contains(err.Error(), "tls: protocol version not supported")
}

// Handshake connects once and returns the chain that the endpoint presents, leaf first. It proves that the server holds
// the key, but judges neither trust nor names nor dates. It takes at most ten seconds.
func Handshake(ctx context.Context, e Endpoint) ([]*x509.Certificate, error) {
	if e.RSA {
		return handshake(ctx, e, rsaSuites())
	}
	return handshake(ctx, e, nil)
}

// Protocols tries each version of TLS from 1.0 to 1.3 and returns those that the endpoint speaks, in order. An endpoint
// that cannot be reached speaks none.
func Protocols(ctx context.Context, e Endpoint) []uint16 {
	versions := []uint16{tls.VersionTLS10, tls.VersionTLS11, tls.VersionTLS12, tls.VersionTLS13}
	return slices.DeleteFunc(versions, func(v uint16) bool {
		_, err := restricted(ctx, e, func(c *tls.Config) { c.MinVersion, c.MaxVersion = v, v })
		return err != nil
	})
}

// handshake restricts the client to TLS 1.2 with the given suites, if there are any.
func handshake(ctx context.Context, e Endpoint, suites []uint16) ([]*x509.Certificate, error) {
	return restricted(ctx, e, func(c *tls.Config) {
		if suites != nil {
			c.MaxVersion, c.CipherSuites = tls.VersionTLS12, suites
		}
	})
}

func restricted(ctx context.Context, e Endpoint, restrict func(*tls.Config)) ([]*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	chain, err := dialTLS(ctx, e, restrict)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", e, err)
	}
	return chain, nil
}

func dialTLS(ctx context.Context, e Endpoint, restrict func(*tls.Config)) ([]*x509.Certificate, error) {
	var dialer net.Dialer
	conn, err := dialer.DialContext(ctx, "tcp", e.Addr)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		if err := conn.SetDeadline(deadline); err != nil {
			return nil, err
		}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	if err := startTLS(conn, e); err != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	config := &tls.Config{
		ServerName:         e.sni(),
		InsecureSkipVerify: true, // the caller compares the leaf with the one it knows; trust is not the question here
		NextProtos:         alpn(e),
	}
	var seen []*x509.Certificate
	wanted := false
	config.VerifyConnection = func(state tls.ConnectionState) error {
		seen = state.PeerCertificates
		return nil
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		wanted = true
		return &tls.Certificate{}, nil
	}
	restrict(config)
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
		if wanted && Refused(err) { // a client certificate is required; the server has shown its own and that it has the key
			return seen, nil
		}
		return nil, fmt.Errorf("the TLS handshake failed: %w", err)
	}
	leave(client, e)
	return client.ConnectionState().PeerCertificates, nil
}

// leave ends the conversation as the protocol has it and waits until the server hangs up, because servers log broken
// connections and some block who breaks many. What the server sends meanwhile, session tickets above all, is read: a
// socket that is closed with unread data resets the connection. The certificate is known by now, so errors do not count.
func leave(client *tls.Conn, e Endpoint) {
	bound := time.AfterFunc(farewellTimeout, func() { _ = client.NetConn().Close() })
	defer bound.Stop()
	_, _ = io.WriteString(client, farewell(e.StartTLS))
	_ = client.CloseWrite()
	_, _ = io.Copy(io.Discard, client)
}

// alpn names HTTP on a port that speaks TLS at once and nothing after STARTTLS. A server that only tunnels by ALPN
// (RFC 7301) would otherwise refuse.
func alpn(e Endpoint) []string {
	if e.StartTLS != "" {
		return nil
	}
	return []string{"h2", "http/1.1"}
}
