package installers

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// Pair is one certificate file and its key file as a server is told about them.
type Pair struct{ Cert, Key string }

// Pairs are the live full chain and key of the target; for a dual unit its RSA twin's, which the store keeps beside them
// with "-rsa" before the extension, come second.
func (t *Target) Pairs(dual bool) []Pair {
	list := []Pair{{t.FullChain, t.Key}}
	if dual {
		list = append(list, Pair{twinPath(t.FullChain), twinPath(t.Key)})
	}
	return list
}

func twinPath(path string) string {
	ext := filepath.Ext(path)
	return strings.TrimSuffix(path, ext) + "-rsa" + ext
}

// CheckLive makes sure that a server which reads the live paths gets b, and a key that belongs to it.
func (t *Target) CheckLive(b *certs.Bundle) error {
	bundles := []*certs.Bundle{b, b.RSA}
	for i, p := range t.Pairs(b.RSA != nil) {
		chain, err := ReadRegular(p.Cert)
		if err != nil {
			return fmt.Errorf("the active certificate: %w", err)
		}
		key, err := ReadRegular(p.Key)
		if err != nil {
			return fmt.Errorf("the active key: %w", err)
		}
		live, err := certs.NewBundle(chain, key)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Cert, err)
		}
		if !live.Leaf.Equal(bundles[i].Leaf) {
			return fmt.Errorf("%s is not the certificate that is being installed: activate it first", p.Cert)
		}
	}
	return nil
}

// Select returns the identifiers of an operator's list, each of which the certificate must cover, or all names of the
// certificate when the list is empty.
func (t *Target) Select(names []string) ([]certs.Identifier, error) {
	if len(t.Names) == 0 {
		return nil, fmt.Errorf("the certificate %q has no names", t.Certificate)
	}
	if len(names) == 0 {
		for _, id := range t.Names {
			names = append(names, id.Value)
		}
	}
	var list []certs.Identifier
	for _, text := range names {
		id, _, err := certs.ParseIdentifier(text)
		if err != nil {
			return nil, fmt.Errorf("names: %w", err)
		}
		if !t.covers(id) {
			return nil, fmt.Errorf("names: %q is not in the certificate %q", id.Value, t.Certificate)
		}
		list = append(list, id)
	}
	return list, nil
}

// covers follows RFC 6125 section 6.4.3: a wildcard stands for one label.
func (t *Target) covers(id certs.Identifier) bool {
	_, parent, _ := strings.Cut(id.Value, ".")
	return slices.ContainsFunc(t.Names, func(n certs.Identifier) bool {
		return n == id || n.IsWildcard() && !id.IsWildcard() && id.Type == certs.DNS && parent == n.Base()
	})
}
