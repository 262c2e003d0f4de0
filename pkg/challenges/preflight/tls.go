package preflight

import (
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"net"
	"net/netip"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
)

// tlsProbe dials one address with acme-tls/1 the way a CA does.
type tlsProbe struct {
	port    string
	timeout time.Duration
}

func (p *tlsProbe) run(ctx context.Context, addr netip.Addr, c challenges.Challenge) TLS {
	name, err := tlsalpn01.ServerName(c.Identifier)
	if err != nil {
		return TLS{Outcome: Other, Error: err.Error()}
	}
	state, err := p.handshake(ctx, addr, name, tlsalpn01.Protocol)
	if err == nil {
		return judgeHandshake(state, c.KeyAuth)
	}
	got := TLS{}
	got.Outcome, got.Error = failure(err)
	if got.Outcome != Other {
		return got
	}
	// Somebody refused the protocol. As a browser, ask who it is.
	if state, err := p.handshake(ctx, addr, name, "http/1.1"); err == nil {
		got.describe(state)
	}
	return got
}

func (p *tlsProbe) handshake(ctx context.Context, addr netip.Addr, name, protocol string) (tls.ConnectionState, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	d := tls.Dialer{Config: &tls.Config{
		ServerName: name, NextProtos: []string{protocol}, MinVersion: tls.VersionTLS12,
		InsecureSkipVerify: true, //nolint:gosec // the certificate is what is asked for
	}}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(addr.String(), p.port))
	if err != nil {
		return tls.ConnectionState{}, err
	}
	defer func() { _ = conn.Close() }()
	return conn.(*tls.Conn).ConnectionState(), nil
}

func judgeHandshake(state tls.ConnectionState, keyAuth string) TLS {
	var got TLS
	switch {
	case state.NegotiatedProtocol != tlsalpn01.Protocol:
		got.Outcome, got.Error = Other, "it does not speak acme-tls/1"
	case !answers(state.PeerCertificates[0], keyAuth):
		got.Outcome, got.Error = Other, "it speaks acme-tls/1 with another answer than ours"
	default:
		got.Outcome = Ours
		return got
	}
	got.describe(state)
	return got
}

// answers reports whether a challenge certificate carries the digest of the key authorization.
func answers(cert *x509.Certificate, keyAuth string) bool {
	want := sha256.Sum256([]byte(keyAuth))
	for _, e := range cert.Extensions {
		var digest []byte
		if e.Id.Equal(tlsalpn01.AcmeIdentifier()) {
			_, err := asn1.Unmarshal(e.Value, &digest)
			return err == nil && string(digest) == string(want[:])
		}
	}
	return false
}

// maxNames is how many names of a strange certificate are repeated.
const maxNames = 5

func (t *TLS) describe(state tls.ConnectionState) {
	leaf := state.PeerCertificates[0]
	for _, name := range leaf.DNSNames[:min(len(leaf.DNSNames), maxNames)] {
		t.Names = append(t.Names, text.Short(name, text.Value))
	}
	t.Issuer = text.Short(leaf.Issuer.String(), text.Value)
}
