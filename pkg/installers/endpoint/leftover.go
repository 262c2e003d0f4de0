package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// LeftoverError says that clients which take certificates of one key family only get another certificate for the same name.
type LeftoverError struct {
	Endpoint Endpoint
	Client   Client
	Leaf     *x509.Certificate
}

// Error says who gets what.
func (e *LeftoverError) Error() string {
	return fmt.Sprintf("%s serves serial %s from \"%s\" until %s to clients that speak %s only", e.Endpoint, e.Leaf.SerialNumber.Text(16),
		text.Tail(e.Leaf.Issuer.String(), maxIssuer), e.Leaf.NotAfter.UTC().Format(time.RFC3339), e.Client)
}

// Leftover is nil unless an address serves a certificate that is not b's, for the name that it is asked for, to clients of
// the key family that b has none for; else it is a [*LeftoverError]. TLS 1.3 does not let a client choose, so an address
// that speaks nothing else has no such clients.
func Leftover(ctx context.Context, endpoints []Endpoint, b *certs.Bundle) error {
	var families []Family
	for _, leaf := range b.Leaves() {
		families = append(families, FamilyOf(leaf))
	}
	var mu sync.Mutex
	var found *LeftoverError
	v := &verification{once: true, slots: make(chan struct{}, parallelProbes)}
	_ = v.all(ctx, endpoints, func(ctx context.Context, e Endpoint) error { // an address that does not answer serves nothing
		v.slots <- struct{}{}
		defer func() { <-v.slots }()
		for _, c := range []Client{{tls.VersionTLS12, RSA}, {tls.VersionTLS12, ECDSA}} {
			if slices.Contains(families, c.Family) {
				continue
			}
			leaf, err := c.Ask(ctx, e)
			if err == nil && !slices.ContainsFunc(b.Leaves(), leaf.Equal) && (e.sni() == "" || leaf.VerifyHostname(e.sni()) == nil) {
				mu.Lock()
				found = &LeftoverError{Endpoint: e, Client: c, Leaf: leaf}
				mu.Unlock()
			}
		}
		return nil
	})
	if found == nil {
		return nil
	}
	return found
}
