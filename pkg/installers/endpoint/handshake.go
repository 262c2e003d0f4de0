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
	"sync"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// handshakeTimeout bounds one look at one address, name resolution, STARTTLS and TLS included. A server that is slower
// is as good as down for its clients.
const handshakeTimeout = 10 * time.Second

// Polling starts fast, because most servers answer with the new certificate within milliseconds of a reload, and slows
// down to spare one that takes seconds.
const (
	firstPoll = 20 * time.Millisecond
	lastPoll  = time.Second
)

// farewellTimeout bounds how long a server may take to hang up.
const farewellTimeout = time.Second

// shortestLook is what one look at all addresses gets however little of the time is left, so that the last look of a
// verification is a fair one.
const shortestLook = time.Second

// parallelProbes bounds the connections that one verification keeps open at once.
const parallelProbes = 16

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
	restrict(config)
	client := tls.Client(conn, config)
	if err := client.HandshakeContext(ctx); err != nil {
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

// Verify polls until every address of every endpoint serves b's leaf, or wait is over; with no wait it looks
// once. An address that accepts and does not answer holds up the verification for no more than what is left of wait, or a
// second if that is longer. For a dual unit each address must serve both leaves, unless it speaks TLS 1.3 only, where a client cannot choose.
// The error joins one line for each address that is still wrong, and says what it serves instead.
func Verify(ctx context.Context, endpoints []Endpoint, b *certs.Bundle, wait time.Duration) error {
	begun := time.Now()
	deadline := time.NewTimer(wait)
	defer deadline.Stop()
	for delay := firstPoll; ; delay = min(delay*3/2, lastPoll) {
		err := advice.Tag(advice.NotServed, look(ctx, endpoints, b, wait, wait-time.Since(begun)))
		if err == nil || wait <= 0 {
			return err
		}
		next := time.NewTimer(delay)
		select {
		case <-next.C:
		case <-deadline.C:
			next.Stop()
			return err
		case <-ctx.Done():
			next.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// look ends after what is left of the verification's time. A verification that looks only once gives each address the full
// time of a handshake.
func look(ctx context.Context, endpoints []Endpoint, b *certs.Bundle, wait, left time.Duration) error {
	if wait > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, max(left, shortestLook))
		defer cancel()
	}
	return verifyOnce(ctx, endpoints, b)
}

func verifyOnce(ctx context.Context, endpoints []Endpoint, b *certs.Bundle) error {
	var all []Endpoint
	var errs []error
	for _, e := range endpoints {
		list, err := e.resolve(ctx)
		errs = append(errs, err)
		all = append(all, list...)
	}
	results := make([]error, len(all))
	slots := make(chan struct{}, parallelProbes)
	var wg sync.WaitGroup
	for i, e := range all {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			results[i] = verifyAddress(ctx, e, b)
		})
	}
	wg.Wait()
	return errors.Join(append(errs, results...)...)
}

func verifyAddress(ctx context.Context, e Endpoint, b *certs.Bundle) error {
	if b.RSA == nil {
		chain, err := Handshake(ctx, e)
		if err != nil {
			return err
		}
		return compare(e, chain, b.Leaf)
	}
	err := errors.Join(
		verifySuites(ctx, e, b.Leaf, ecdsaSuites()),
		verifySuites(ctx, e, b.RSA.Leaf, rsaSuites()),
	)
	if !tls13Only(err) {
		return err
	}
	chain, err := handshake(ctx, e, nil)
	if err != nil {
		return err
	}
	return compare(e, chain, b.Leaves()...)
}

func verifySuites(ctx context.Context, e Endpoint, want *x509.Certificate, suites []uint16) error {
	chain, err := handshake(ctx, e, suites)
	if err != nil {
		return err
	}
	return compare(e, chain, want)
}

// maxIssuer is how much of a stranger's name an error shows.
const maxIssuer = 200

// compare says who answered what when the leaf is none of the wanted ones. The error is a [*installers.NewerError] if it is newer.
func compare(e Endpoint, chain []*x509.Certificate, want ...*x509.Certificate) error {
	if len(chain) == 0 {
		return fmt.Errorf("%s presents no certificate", e)
	}
	serials := make([]string, len(want))
	for i, w := range want {
		if chain[0].Equal(w) {
			return nil
		}
		serials[i] = w.SerialNumber.Text(16)
	}
	got := chain[0]
	err := fmt.Errorf("%s serves serial %s from \"%s\" until %s, expected serial %s", e, got.SerialNumber.Text(16),
		text.Tail(got.Issuer.String(), maxIssuer), got.NotAfter.UTC().Format(time.RFC3339), strings.Join(serials, " or "))
	return MarkNewer(err, got, want...)
}
