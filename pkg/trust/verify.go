package trust

import (
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Verify reports why the client would refuse a server at the given time: chain is what the server presents, leaf first,
// and names are what the client asks for. Nil means that all of them would be accepted.
func (s *Store) Verify(chain []*x509.Certificate, names []certs.Identifier, at time.Time) error {
	_, err := s.Path(chain, names, at)
	return err
}

// Path is [Store.Verify] and returns the certificates on which the client relies, from the leaf to its anchor.
func (s *Store) Path(chain []*x509.Certificate, names []certs.Identifier, at time.Time) ([]*x509.Certificate, error) {
	if len(chain) == 0 {
		return nil, errors.New("there is no certificate")
	}
	if err := s.unpinned(chain[0]); err != nil {
		return nil, err
	}
	path, err := chain[:1], error(nil)
	if len(s.pins) == 0 || s.system != nil || len(s.anchors) > 0 {
		path, err = s.find(chain, at)
	}
	if err != nil {
		return nil, err
	}
	if err := usableFor(path, names, at); err != nil {
		return nil, err
	}
	if s.system != nil || len(path) == 1 && len(s.anchors) == 0 {
		return path, nil
	}
	if err := s.minded(chain, at); err != nil {
		return nil, err
	}
	return path, nil
}

// minded is why one of the clients would refuse the chain although its path is good.
func (s *Store) minded(chain []*x509.Certificate, at time.Time) error {
	for _, c := range s.clients() {
		if err := s.minds(c, chain, at); err != nil {
			return err
		}
	}
	return nil
}

// usableFor checks a path and that its leaf is a server certificate for the names.
func usableFor(path []*x509.Certificate, names []certs.Identifier, at time.Time) error {
	if err := usable(path, at); err != nil {
		return err
	}
	if err := leafUsage(path[0]); err != nil {
		return err
	}
	for _, id := range names {
		if err := path[0].VerifyHostname(hostOf(id)); err != nil {
			return fmt.Errorf("the certificate is not for %s", id)
		}
	}
	return nil
}

// usable checks the times and the uses of a path.
func usable(path []*x509.Certificate, at time.Time) error {
	for _, c := range path {
		if err := errors.Join(validAt(c, at), forServers(c)); err != nil {
			return err
		}
	}
	return nil
}

// Until is the time at which a path stops to verify: the end of the certificate in it that ends first.
func Until(path []*x509.Certificate) time.Time {
	var end time.Time
	for _, c := range path {
		if end.IsZero() || c.NotAfter.Before(end) {
			end = c.NotAfter
		}
	}
	return end
}

// find returns a path whose signatures and constraints are good.
func (s *Store) find(chain []*x509.Certificate, at time.Time) ([]*x509.Certificate, error) {
	roots := s.system
	if roots == nil && s.client == SystemClient {
		roots = pool(s.anchors)
	}
	if roots != nil {
		options := anyUse(roots, chain[1:], at)
		paths, err := chain[0].Verify(options)
		if errors.As(err, new(x509.UnknownAuthorityError)) {
			way := Arrange(chain, at).Path
			return nil, &UntrustedError{Store: s.name, Last: way[len(way)-1]}
		}
		if err != nil {
			return nil, plain(err)
		}
		return paths[0], nil
	}
	path, err := s.path(chain, at)
	if err == nil {
		err = s.check(path, at)
	}
	if err != nil {
		return nil, err
	}
	return path, nil
}

// check verifies the signatures, constraints, times and uses along a path.
func (s *Store) check(path []*x509.Certificate, at time.Time) error {
	if err := usable(path, at); err != nil {
		return err
	}
	last := len(path) - 1
	if _, err := path[0].Verify(anyUse(pool(path[last:]), path[:last], at)); err != nil {
		return plain(err)
	}
	return nil
}

func pool(list []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range list {
		p.AddCert(c)
	}
	return p
}

func anyUse(roots *x509.CertPool, intermediates []*x509.Certificate, at time.Time) x509.VerifyOptions {
	return x509.VerifyOptions{
		Roots: roots, Intermediates: pool(intermediates), CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
}

// plain takes the library's name off a message.
func plain(err error) error {
	if errors.As(err, new(x509.UnknownAuthorityError)) {
		return errors.New("a certificate was not signed by the one that it names")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "x509: "))
}

// validAt takes the end itself as too late, as careful clients do.
func validAt(c *x509.Certificate, at time.Time) error {
	switch {
	case at.Before(c.NotBefore):
		return fmt.Errorf("%q is not valid before %s", Title(c), c.NotBefore.UTC().Format(time.RFC3339))
	case !at.Before(c.NotAfter):
		return fmt.Errorf("%q ends on %s", Title(c), c.NotAfter.UTC().Format(time.RFC3339))
	}
	return nil
}

// forServers wants serverAuth wherever a certificate restricts its use: anyExtendedKeyUsage alone does not do for
// OpenSSL's purpose sslserver.
func forServers(c *x509.Certificate) error {
	if len(c.ExtKeyUsage)+len(c.UnknownExtKeyUsage) == 0 || slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth) ||
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageNetscapeServerGatedCrypto) {
		return nil
	}
	return fmt.Errorf("%q is not for TLS servers", Title(c))
}

func leafUsage(leaf *x509.Certificate) error {
	const handshake = x509.KeyUsageDigitalSignature | x509.KeyUsageKeyEncipherment | x509.KeyUsageKeyAgreement
	if leaf.KeyUsage != 0 && leaf.KeyUsage&handshake == 0 {
		return fmt.Errorf("the key of %q may not be used in a TLS handshake", Title(leaf))
	}
	return nil
}

// hostOf is a host that a client could ask for. For a wildcard any one below it stands for all.
func hostOf(id certs.Identifier) string {
	switch {
	case id.Type == certs.IP:
		return "[" + id.Value + "]"
	case id.IsWildcard():
		return "any." + id.Base()
	}
	return id.Value
}
