package certs

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

// Ignored lists what s asks for and the CA did not do, each as a sentence that begins with the setting: CAs may ignore the
// lifetime (RFC 8555 section 7.4), extensions of a CSR, and no CA has chains of every name.
func (s *Spec) Ignored(b *Bundle) []string {
	var list []string
	if got := b.Leaf.NotAfter.Sub(b.Leaf.NotBefore); s.Lifetime > 0 && (got-s.Lifetime).Abs() > lifetimeSlack(s.Lifetime) {
		list = append(list, fmt.Sprintf("lifetime: the CA issued for %s although %s was asked for", got.Round(time.Minute), s.Lifetime))
	}
	if s.MustStaple && !slices.ContainsFunc(b.Leaf.Extensions, isMustStaple) {
		list = append(list, "must_staple: the CA issued without the extension")
	}
	if s.PreferredChain != "" && !b.offers(s.PreferredChain) {
		list = append(list, fmt.Sprintf("preferred_chain: the CA offers no chain with the name %q, its default is used", s.PreferredChain))
	}
	return list
}

// lifetimeSlack is what CAs add to and take from a lifetime: some let it begin an hour earlier.
func lifetimeSlack(asked time.Duration) time.Duration {
	return max(asked/10, min(asked/2, 90*time.Minute))
}

func isMustStaple(e pkix.Extension) bool {
	return e.Id.Equal(asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24})
}

// offers reports whether one of the chains is that of the name.
func (b *Bundle) offers(name string) bool {
	for n := range len(b.Alternates) + 1 {
		if b.WithChain(n).HasIssuer(name) {
			return true
		}
	}
	return false
}

// HasIssuer reports whether the presented chain has an issuer of that common name, or ends at a root of that name.
func (b *Bundle) HasIssuer(name string) bool {
	top := b.Leaf
	if len(b.ChainPEM) > 0 {
		chain, err := ParseChain(b.ChainPEM)
		if err != nil {
			return false
		}
		if slices.ContainsFunc(chain, func(c *x509.Certificate) bool { return c.Subject.CommonName == name }) {
			return true
		}
		top = chain[len(chain)-1]
	}
	return top.Issuer.CommonName == name
}
