package trust

import (
	"bytes"
	"crypto/x509"
	"fmt"
	"slices"
	"time"
)

// UntrustedError says that the presented certificates lead to none that the client trusts.
type UntrustedError struct {
	Store string
	Last  *x509.Certificate // where the path ends
}

// Error names the issuer that would be needed.
func (e *UntrustedError) Error() string {
	if SelfSigned(e.Last) {
		return fmt.Sprintf("it does not know the self-signed certificate %q", Title(e.Last))
	}
	return fmt.Sprintf("it knows neither %q nor what issued it", Title(e.Last))
}

// path goes from the leaf to an anchor: each step takes an issuer from the store if there is one, which ends the path, or
// else from the rest of the presented chain. A way once taken is not taken back. A leaf without a way to an anchor may be
// one itself; then what the server presents above it still belongs to the path.
func (s *Store) path(chain []*x509.Certificate, at time.Time) ([]*x509.Certificate, error) {
	path, rest := chain[:1:1], slices.Clone(chain[1:])
	for {
		last := path[len(path)-1]
		if SelfSigned(last) {
			if s.has(last) {
				return path, nil
			}
			break
		}
		if anchor := issuerOf(last, s.anchors, at); anchor != nil {
			return append(path, anchor), nil
		}
		next := issuerOf(last, rest, at)
		if next == nil {
			break
		}
		rest = slices.DeleteFunc(rest, next.Equal)
		path = append(path, next)
	}
	if s.has(chain[0]) {
		return path, nil
	}
	return nil, &UntrustedError{Store: s.name, Last: path[len(path)-1]}
}

// issuerOf picks the issuer of c that is valid at the given time, or the one that was valid last.
func issuerOf(c *x509.Certificate, from []*x509.Certificate, at time.Time) *x509.Certificate {
	var best *x509.Certificate
	for _, candidate := range from {
		switch {
		case !mayIssue(candidate, c):
		case validAt(candidate, at) == nil:
			return candidate
		case best == nil || candidate.NotAfter.After(best.NotAfter):
			best = candidate
		}
	}
	return best
}

// mayIssue compares names and key identifiers. Whether the parent may sign, and did, is checked later, on the whole path:
// a client does not look for another way when it is wrong.
func mayIssue(parent, child *x509.Certificate) bool {
	if !bytes.Equal(parent.RawSubject, child.RawIssuer) {
		return false
	}
	return len(child.AuthorityKeyId) == 0 || len(parent.SubjectKeyId) == 0 || bytes.Equal(child.AuthorityKeyId, parent.SubjectKeyId)
}

// SelfSigned reports whether a certificate names itself as its issuer.
func SelfSigned(c *x509.Certificate) bool {
	return bytes.Equal(c.RawSubject, c.RawIssuer) &&
		(len(c.AuthorityKeyId) == 0 || len(c.SubjectKeyId) == 0 || bytes.Equal(c.AuthorityKeyId, c.SubjectKeyId))
}

// Title is how a certificate is called in messages: by its common name, its subject, or what it is for.
func Title(c *x509.Certificate) string {
	if c.Subject.CommonName != "" {
		return c.Subject.CommonName
	}
	if subject := c.Subject.String(); subject != "" {
		return subject
	}
	if len(c.DNSNames) > 0 {
		return c.DNSNames[0]
	}
	return "serial " + c.SerialNumber.Text(16)
}
