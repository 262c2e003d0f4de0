package certs

import (
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Policy says which lifetimes are sane for a certificate from one issuer.
type Policy struct {
	MinLifetime time.Duration // refuse certificates valid for less
	MaxLifetime time.Duration // refuse certificates valid for longer
}

// DefaultPolicy accepts one hour to ten years less a day. Public CAs stay far below (398 days, CA/B BR 6.3.2), private
// CAs may use all of it; a CA with five-minute certificates needs min_lifetime in its issuer's configuration.
func DefaultPolicy() Policy {
	return Policy{MinLifetime: time.Hour, MaxLifetime: 3649 * 24 * time.Hour}
}

// clockSkew is how far in the future notBefore may lie: CAs backdate by an hour, so an hour ahead is a broken clock here
// or there.
const clockSkew = time.Hour

// Vet checks an issued bundle against what was asked for: the very names, a sound leaf, a sane validity, a chain that
// builds from the leaf to its top. Every failure is a [*VetError]; the caller stores nothing. The key pair itself was
// checked by [NewBundle].
func Vet(b *Bundle, spec *Spec, policy Policy, now time.Time) error {
	err := errors.Join(
		vetNames(b.Leaf, spec.Identifiers),
		vetLeaf(b.Leaf),
		vetValidity(b.Leaf, policy, now),
		vetChain(b),
	)
	if err != nil {
		return &VetError{Err: err}
	}
	return nil
}

// SameNames reports whether the certificate's subject alternative names are exactly the identifiers, in any order.
func SameNames(leaf *x509.Certificate, ids []Identifier) bool { return vetNames(leaf, ids) == nil }

// LeafNames lists the certificate's DNS names, in lower case, and addresses.
func LeafNames(leaf *x509.Certificate) []string {
	list := make([]string, 0, len(leaf.DNSNames)+len(leaf.IPAddresses))
	for _, name := range leaf.DNSNames {
		list = append(list, strings.ToLower(name))
	}
	for _, ip := range leaf.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}

// JoinNames writes a list of names so that two lists of the same names give the same text, whatever their order.
func JoinNames(names []string) string { return strings.Join(slices.Sorted(slices.Values(names)), " ") }

func vetNames(leaf *x509.Certificate, ids []Identifier) error {
	got := LeafNames(leaf)
	if n := len(leaf.EmailAddresses) + len(leaf.URIs); n > 0 {
		return fmt.Errorf("%d mail addresses or URIs that were not asked for", n)
	}
	want := values(ids)
	missing, extra := diff(want, got), diff(got, want)
	if len(missing) == 0 && len(extra) == 0 {
		return nil
	}
	return fmt.Errorf("wrong names: missing %s, not asked for %s", shortList(missing), shortList(extra))
}

func diff(a, b []string) []string {
	var d []string
	for _, s := range a {
		if !slices.Contains(b, s) {
			d = append(d, s)
		}
	}
	return d
}

func shortList(list []string) string {
	const most = 5
	if len(list) == 0 {
		return "none"
	}
	if len(list) > most {
		return fmt.Sprintf("%q and %d more", list[:most], len(list)-most)
	}
	return fmt.Sprintf("%q", list)
}

func vetLeaf(leaf *x509.Certificate) error {
	switch {
	case leaf.IsCA:
		return errors.New("the leaf is a CA certificate")
	case len(leaf.UnhandledCriticalExtensions) > 0:
		return fmt.Errorf("unknown critical extension %s", leaf.UnhandledCriticalExtensions[0])
	case len(leaf.ExtKeyUsage)+len(leaf.UnknownExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) &&
		!slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return errors.New("the leaf is not for TLS servers (no serverAuth key usage)")
	}
	if key, ok := leaf.PublicKey.(*rsa.PublicKey); ok && key.N.BitLen() < 2048 {
		return fmt.Errorf("an RSA key of %d bits", key.N.BitLen())
	}
	return vetSignature(leaf)
}

func vetSignature(c *x509.Certificate) error {
	switch c.SignatureAlgorithm {
	case x509.MD2WithRSA, x509.MD5WithRSA, x509.SHA1WithRSA, x509.DSAWithSHA1, x509.ECDSAWithSHA1, x509.DSAWithSHA256, x509.UnknownSignatureAlgorithm:
		return fmt.Errorf("a signature by %s", c.SignatureAlgorithm)
	}
	return nil
}

func vetValidity(leaf *x509.Certificate, policy Policy, now time.Time) error {
	lifetime := leaf.NotAfter.Sub(leaf.NotBefore)
	switch {
	case !now.Before(leaf.NotAfter):
		return fmt.Errorf("expired at %s; is this machine's clock right?", leaf.NotAfter.UTC().Format(time.RFC3339))
	case leaf.NotBefore.After(now.Add(clockSkew)):
		return fmt.Errorf("not valid before %s; is this machine's clock right?", leaf.NotBefore.UTC().Format(time.RFC3339))
	case lifetime < policy.MinLifetime:
		return fmt.Errorf("a lifetime of %s, less than %s", lifetime, policy.MinLifetime)
	case lifetime > policy.MaxLifetime:
		return fmt.Errorf("a lifetime of %d days, more than %d", lifetime/(24*time.Hour), policy.MaxLifetime/(24*time.Hour))
	}
	return nil
}

// vetChain checks that each certificate was signed by the next one, so that there are neither strangers nor gaps. The
// trust gate decides later whom the top satisfies.
func vetChain(b *Bundle) error {
	for i, text := range append([][]byte{b.ChainPEM}, b.Alternates...) {
		if err := VetChain(b.Leaf, text); err != nil {
			if i > 0 {
				return fmt.Errorf("alternate chain %d: %w", i, err)
			}
			return err
		}
	}
	return nil
}

// VetChain checks that a PEM chain of issuers builds from the leaf, with neither strangers nor gaps. An empty one does.
func VetChain(leaf *x509.Certificate, text []byte) error {
	if len(text) == 0 {
		return nil
	}
	issuers, err := ParseChain(text)
	if err != nil {
		return err
	}
	if len(issuers) >= MaxChain {
		return fmt.Errorf("the certificate chain has more than %d certificates", MaxChain)
	}
	child := leaf
	for i, parent := range issuers {
		if err := child.CheckSignatureFrom(parent); err != nil {
			return fmt.Errorf("certificate %d of the chain did not sign the one before it: %w", i+2, err)
		}
		child = parent
	}
	return nil
}
