package trust

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"

	"github.com/acmed/acmed/pkg/certs"
)

// maxAnchors is several times what the largest public bundle holds (about 150).
const maxAnchors = 1000

// Store is what one kind of client trusts. It never changes.
type Store struct {
	name    string
	anchors []*x509.Certificate
	system  *x509.CertPool // instead of anchors
	client  Client
	pins    []string // of the only keys that it accepts, in the form of certs.Pin; none: any
}

// New returns the store of a client that trusts exactly these certificates, each as an anchor.
func New(name string, anchors []*x509.Certificate) *Store {
	return &Store{name: name, anchors: slices.Clone(anchors)}
}

// Parse returns the store of a client that trusts the certificates in PEM text. Text around the blocks is allowed, as in
// the bundles that distributions ship; blocks of any other kind are an error.
func Parse(name string, text []byte) (*Store, error) {
	s := &Store{name: name}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("a block of type %q where only certificates belong", block.Type)
		}
		c, err := certs.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("certificate %d: %w", len(s.anchors)+1, err)
		}
		if len(s.anchors) == maxAnchors {
			return nil, fmt.Errorf("more than %d certificates", maxAnchors)
		}
		s.anchors = append(s.anchors, c)
	}
	if len(s.anchors) == 0 {
		return nil, errors.New("no certificate in PEM form")
	}
	return s, nil
}

// System returns the store of this machine, for clients that trust what a common operating system does.
func System(name string) (*Store, error) {
	pool, err := x509.SystemCertPool()
	if err != nil {
		return nil, fmt.Errorf("the trust store of this machine: %w", err)
	}
	return &Store{name: name, system: pool}, nil
}

// Pinned returns the store of a client that accepts only leaves with one of these keys, each in the form of [certs.Pin]. A store
// without certificates becomes that of a client that looks at nothing else but names and dates.
func (s *Store) Pinned(pins []string) *Store {
	copied := *s
	copied.pins = slices.Clone(pins)
	return &copied
}

// unpinned says that the key of a leaf is none of those that the client knows.
func (s *Store) unpinned(leaf *x509.Certificate) error {
	if pin := certs.Pin(leaf.PublicKey); len(s.pins) > 0 && !slices.Contains(s.pins, pin) {
		return fmt.Errorf("its key %s is not pinned", pin)
	}
	return nil
}

// Name is what the operator calls the client.
func (s *Store) Name() string { return s.name }

// Anchors is how many certificates the client trusts; 0 for a system's store, whose number is not known.
func (s *Store) Anchors() int { return len(s.anchors) }

func (s *Store) has(c *x509.Certificate) bool { return slices.ContainsFunc(s.anchors, c.Equal) }

// Chains lists the chains that a CA offers for one leaf, the presented one first, each with the leaf.
func Chains(b *certs.Bundle) ([][]*x509.Certificate, error) {
	var chains [][]*x509.Certificate
	for _, issuers := range append([][]byte{b.ChainPEM}, b.Alternates...) {
		chain := []*x509.Certificate{b.Leaf}
		if len(bytes.TrimSpace(issuers)) > 0 {
			more, err := certs.ParseChain(issuers)
			if err != nil {
				return nil, err
			}
			chain = append(chain, more...)
		}
		chains = append(chains, chain)
	}
	return chains, nil
}

// Names lists what a leaf is valid for.
func Names(leaf *x509.Certificate) []certs.Identifier {
	var ids []certs.Identifier
	for _, name := range leaf.DNSNames {
		ids = append(ids, certs.Identifier{Type: certs.DNS, Value: name})
	}
	for _, ip := range leaf.IPAddresses {
		ids = append(ids, certs.Identifier{Type: certs.IP, Value: ip.String()})
	}
	return ids
}
