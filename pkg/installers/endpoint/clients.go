package endpoint

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// Family is what a client can verify a server's signature with. TLS 1.3 clients take both.
type Family string

// The families.
const (
	AnyFamily Family = ""
	RSA       Family = "RSA"
	ECDSA     Family = "ECDSA"
)

// ParallelProofs bounds how many targets of a server are proved at once.
const ParallelProofs = 64

// SameForClients reports whether those who accept a leaf accept a bundle for the same reasons: the issuer and the kind of key
// stay.
func SameForClients(leaf *x509.Certificate, b *certs.Bundle) bool {
	return b.RSA == nil && FamilyOf(leaf) == FamilyOf(b.Leaf) && bytes.Equal(leaf.RawIssuer, b.Leaf.RawIssuer)
}

// FamilyOf is the family of a certificate's key.
func FamilyOf(c *x509.Certificate) Family {
	switch c.PublicKey.(type) {
	case *rsa.PublicKey:
		return RSA
	case *ecdsa.PublicKey:
		return ECDSA
	}
	return AnyFamily
}

// Client is a kind of client, told from others by what it speaks.
type Client struct {
	Version uint16 // of TLS, and no other
	Family  Family // before TLS 1.3 alone, where the cipher suite says it
}

// Clients are all kinds of clients.
func Clients() []Client {
	return []Client{
		{tls.VersionTLS10, AnyFamily}, {tls.VersionTLS11, AnyFamily}, {tls.VersionTLS12, AnyFamily},
		{tls.VersionTLS12, RSA}, {tls.VersionTLS12, ECDSA}, {tls.VersionTLS13, AnyFamily},
	}
}

// String is how errors name the client.
func (c Client) String() string {
	if c.Family == AnyFamily {
		return tls.VersionName(c.Version)
	}
	return fmt.Sprintf("%s with %s certificates", tls.VersionName(c.Version), c.Family)
}

// suites are the cipher suites that the client offers: all that there are of its family. TLS 1.3 has its own.
func (c Client) suites() []uint16 {
	var list []uint16
	for _, s := range slices.Concat(tls.CipherSuites(), tls.InsecureCipherSuites()) {
		isECDSA := strings.Contains(s.Name, "_ECDSA_")
		if c.Family == AnyFamily || isECDSA == (c.Family == ECDSA) {
			list = append(list, s.ID)
		}
	}
	return list
}

// Ask connects once as the client and returns the leaf that it gets.
func (c Client) Ask(ctx context.Context, e Endpoint) (*x509.Certificate, error) {
	chain, err := restricted(ctx, e, func(config *tls.Config) {
		config.MinVersion, config.MaxVersion, config.CipherSuites = c.Version, c.Version, c.suites()
	})
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s presents no certificate", e)
	}
	return chain[0], nil
}

// Refused reports whether the server itself ended a handshake: it was there, and did not agree to what the client offers
// (a fatal alert, RFC 8446 section 6.2).
func Refused(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// Before is which clients could connect before a change, at the addresses where it may take effect.
type Before struct {
	clients map[Endpoint][]Client
}

// Clients are those that could connect to an address.
func (b *Before) Clients(e Endpoint) []Client { return b.clients[e] }

// AskAll connects to every address as every kind of client. An address that does not answer, or that answers for other
// names than it is asked for, had no clients. Where same says of the leaf that nothing changes for clients there is no
// need to look further.
func AskAll(ctx context.Context, endpoints []Endpoint, same func(leaf *x509.Certificate) bool) *Before {
	b := &Before{clients: map[Endpoint][]Client{}}
	var mu sync.Mutex
	v := &verification{once: true, slots: make(chan struct{}, parallelProbes)}
	_ = v.all(ctx, endpoints, func(ctx context.Context, e Endpoint) error { // who cannot be found has no clients
		v.slots <- struct{}{}
		defer func() { <-v.slots }()
		chain, err := Handshake(ctx, e)
		if err != nil || len(chain) == 0 || e.sni() != "" && chain[0].VerifyHostname(e.sni()) != nil || same(chain[0]) {
			return nil
		}
		list := []Client{}
		for _, c := range Clients() {
			if _, err := c.Ask(ctx, e); err == nil {
				list = append(list, c)
			}
		}
		mu.Lock()
		defer mu.Unlock()
		b.clients[e] = list
		return nil
	})
	return b
}

// Verify is [Verify], except that it does not wait for an address that had clients before and now refuses every handshake:
// that is a [*LockedOutError] after two seconds.
func (b *Before) Verify(ctx context.Context, endpoints []Endpoint, bundle *certs.Bundle, wait time.Duration) error {
	return verify(ctx, endpoints, bundle, wait, b)
}

// locked judges an address that steadily refuses every handshake.
func (b *Before) locked(e Endpoint, steadily bool, bundle *certs.Bundle, err error) error {
	if b == nil || len(b.clients[e]) == 0 || !steadily {
		return nil
	}
	return &LockedOutError{Endpoint: e, Clients: b.clients[e], Key: FamilyOf(bundle.Leaf), Err: err}
}

// refusing is how long a server that answers must go on refusing clients before that counts. Workers of before and after a
// reload answer side by side for a moment.
const refusing = 2 * time.Second

// LockedOutError says that clients which could connect before a change cannot any more.
type LockedOutError struct {
	Endpoint Endpoint
	Clients  []Client
	Key      Family // of the new certificate
	Err      error  // what one of them gets
}

// Error names the clients and the remedy.
func (e *LockedOutError) Error() string {
	names := make([]string, len(e.Clients))
	for i, c := range e.Clients {
		names[i] = c.String()
	}
	text := fmt.Sprintf("%s: clients that speak %s could connect before and cannot now (%v)", e.Endpoint, strings.Join(names, ", "), e.Err)
	if e.Key == ECDSA {
		text += "; the server's cipher list has nothing for the new ECDSA key: " + Remedy
	}
	return text
}

// Remedy is what to do where a server has cipher suites for RSA keys only.
const Remedy = "set \"key_type\" to rsa2048, or to both key types, or add ECDHE-ECDSA suites to the list"

// Unwrap returns what a client gets.
func (e *LockedOutError) Unwrap() error { return e.Err }

// Advice is the code of the failure.
func (e *LockedOutError) Advice() advice.Code { return advice.ClientsLockedOut }

// Lost asks again as every client that could connect before. Those that steadily cannot any more are a [*LockedOutError]
// for each address, joined. A client that takes one family only counts where the bundle has a certificate for it: to give
// up a family is what the operator asked for. Versions below oldest do not count.
func (b *Before) Lost(ctx context.Context, bundle *certs.Bundle, oldest uint16) error {
	families := []Family{AnyFamily}
	for _, leaf := range bundle.Leaves() {
		families = append(families, FamilyOf(leaf))
	}
	return parallel(slices.Collect(maps.Keys(b.clients)), func(e Endpoint) error {
		lost := &LockedOutError{Endpoint: e, Key: FamilyOf(bundle.Leaf)}
		until := time.Now().Add(refusing)
		for _, c := range b.clients[e] {
			if c.Version < oldest || !slices.Contains(families, c.Family) {
				continue
			}
			if err := c.patient(ctx, e, until); err != nil {
				lost.Clients, lost.Err = append(lost.Clients, c), err
			}
		}
		if len(lost.Clients) == 0 || ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return lost
	})
}

// patient asks until it is answered, or until some time.
func (c Client) patient(ctx context.Context, e Endpoint, until time.Time) error {
	for {
		_, err := c.Ask(ctx, e)
		if err == nil || time.Now().After(until) {
			return err
		}
		if !pause(ctx, 5*firstPoll) {
			return err
		}
	}
}
