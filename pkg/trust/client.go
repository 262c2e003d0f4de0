package trust

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Client is the software that uses a store. Clients differ in how they find a way from a leaf to an anchor, so the same
// chain and the same anchors please one and not another.
type Client string

// The clients whose rules are known. Each is tested against the program.
const (
	Strictest    Client = ""        // all of the following that can use such anchors at all
	OpenSSL      Client = "openssl" // with partial chains: any certificate is an anchor
	GnuTLS       Client = "gnutls"
	MbedTLS      Client = "mbedtls"
	Java         Client = "java"
	Python       Client = "python" // and OpenSSL without partial chains: only self-signed anchors count
	SystemClient Client = "system" // looks for any way, as common operating systems and browsers do
)

// Clients lists the names.
func Clients() []Client { return []Client{OpenSSL, GnuTLS, MbedTLS, Java, Python, SystemClient} }

// For returns the store as this client uses it. A store of [System] is for the system's client always.
func (s *Store) For(c Client) *Store {
	copied := *s
	copied.client = c
	return &copied
}

// ClientError says that one kind of software would refuse a chain that others accept.
type ClientError struct {
	Client Client
	Err    error
}

// Error names the software.
func (e *ClientError) Error() string { return fmt.Sprintf("%s: %v", e.Client, e.Err) }

// Unwrap returns what it minds.
func (e *ClientError) Unwrap() error { return e.Err }

// clients are those whose rules the store stands for. A store that pins intermediates or leaves alone cannot belong to
// software that knows no such anchors.
func (s *Store) clients() []Client {
	if s.client != Strictest {
		return []Client{s.client}
	}
	list := []Client{Java}
	if slices.ContainsFunc(s.anchors, func(c *x509.Certificate) bool { return c.IsCA }) {
		list = append(list, GnuTLS, MbedTLS)
	}
	if slices.ContainsFunc(s.anchors, SelfSigned) {
		list = append(list, Python)
	}
	return list
}

// minds reports what a client has against a chain that has a good way to an anchor.
func (s *Store) minds(c Client, chain []*x509.Certificate, at time.Time) error {
	var err error
	switch c {
	case GnuTLS:
		err = s.gnutls(chain, at)
	case MbedTLS:
		err = s.mbedtls(chain, at)
	case Java:
		err = s.java(chain, at)
	case Python:
		err = s.python(chain, at)
	}
	if err != nil {
		return &ClientError{Client: c, Err: err}
	}
	return nil
}

// gnutls wants the last presented certificate to be an anchor, or to be issued by one. It does not stop at an anchor on the
// way, so that an intermediate that is pinned counts only when nothing above it is presented. A self-signed certificate at
// the end is left out. A leaf is no anchor. Of several anchors of one name it may take any, so all must do.
func (s *Store) gnutls(chain []*x509.Certificate, at time.Time) error {
	layout := Arrange(chain, at)
	path := layout.Path
	if len(layout.Extra) > 0 {
		return errors.New("certificates are presented that do not belong to the chain")
	}
	if last := path[len(path)-1]; len(path) > 1 && SelfSigned(last) {
		path = path[:len(path)-1]
	}
	last := path[len(path)-1]
	if above := s.named(last.RawIssuer); len(above) > 0 {
		for _, c := range above {
			if err := s.check(append(slices.Clone(path), c), at); err != nil || !issued(c, last) {
				return fmt.Errorf("the anchor %q did not issue the end of the presented chain", Title(c))
			}
		}
		return nil
	}
	if len(path) == 1 || !s.has(last) || len(s.named(last.RawSubject)) > 1 {
		return fmt.Errorf("the presented chain ends in %q, which no anchor issued", Title(last))
	}
	return s.check(path, at)
}

// named are the anchors with a subject.
func (s *Store) named(subject []byte) []*x509.Certificate {
	return slices.DeleteFunc(slices.Clone(s.anchors), func(c *x509.Certificate) bool { return !bytes.Equal(c.RawSubject, subject) })
}

// mbedtls looks for each issuer among the anchors and then among what is presented behind the certificate. It knows neither
// pinned leaves nor critical extensions beyond the usual ones.
func (s *Store) mbedtls(chain []*x509.Certificate, at time.Time) error {
	for _, c := range slices.Concat(chain, s.anchors) {
		if e := slices.IndexFunc(c.Extensions, unusual); e >= 0 {
			return fmt.Errorf("%q has the critical extension %v", Title(c), c.Extensions[e].Id)
		}
	}
	for n := 0; ; {
		if above := signers(s.anchors, chain[n], at); len(above) > 0 {
			return validAt(above[0], at)
		}
		above := signers(chain[n+1:], chain[n], at)
		if len(above) == 0 {
			return fmt.Errorf("no anchor issued %q, and nothing behind it in the chain did", Title(chain[n]))
		}
		if err := validAt(above[0], at); err != nil {
			return err
		}
		n += 1 + slices.IndexFunc(chain[n+1:], above[0].Equal)
	}
}

// signers are the CAs that signed a certificate, whatever key identifiers say, those first that are valid now.
func signers(from []*x509.Certificate, child *x509.Certificate, at time.Time) []*x509.Certificate {
	var valid, other []*x509.Certificate
	for _, c := range from {
		switch {
		case !bytes.Equal(c.RawSubject, child.RawIssuer) || !c.IsCA || child.CheckSignatureFrom(c) != nil:
		case validAt(c, at) == nil:
			valid = append(valid, c)
		default:
			other = append(other, c)
		}
	}
	return append(valid, other...)
}

func unusual(e pkix.Extension) bool {
	known := []asn1.ObjectIdentifier{{2, 5, 29, 15}, {2, 5, 29, 17}, {2, 5, 29, 19}, {2, 5, 29, 37}} // RFC 5280 section 4.2.1
	return e.Critical && !slices.ContainsFunc(known, e.Id.Equal)
}

// java stops at the first presented certificate that is an anchor, or has the name and the key of one, and validates what is
// below it. When an anchor has the name of what issued the last one, it must have issued it. A leaf may be an anchor.
func (s *Store) java(chain []*x509.Certificate, at time.Time) error {
	if s.has(chain[0]) {
		return nil
	}
	for _, c := range chain {
		if n := slices.IndexFunc(s.named(c.RawIssuer), mayNotIssue); n >= 0 {
			return fmt.Errorf("an anchor with the name of what issued %q may not issue", Title(c))
		}
	}
	for i, c := range chain {
		switch {
		case i > 0 && !bytes.Equal(c.RawSubject, chain[i-1].RawIssuer):
			return nil // it looks for any way through a chain that is not in order
		case i > 0 && slices.ContainsFunc(s.named(c.RawSubject), func(a *x509.Certificate) bool {
			return bytes.Equal(a.RawSubjectPublicKeyInfo, c.RawSubjectPublicKeyInfo)
		}):
			return s.javaPath(chain[:i], at)
		}
	}
	if len(s.named(chain[len(chain)-1].RawIssuer)) > 0 {
		return s.javaPath(chain, at)
	}
	return nil
}

func mayNotIssue(c *x509.Certificate) bool {
	return !c.IsCA || c.KeyUsage != 0 && c.KeyUsage&x509.KeyUsageCertSign == 0
}

func (s *Store) javaPath(path []*x509.Certificate, at time.Time) error {
	last := path[len(path)-1]
	for _, a := range s.named(last.RawIssuer) {
		if mayIssue(a, last) && s.check(append(slices.Clone(path), a), at) == nil {
			return nil
		}
	}
	return fmt.Errorf("no anchor of the name issued %q", Title(last))
}

// python goes on from an anchor to the one that issued it, until one is self-signed.
func (s *Store) python(chain []*x509.Certificate, at time.Time) error {
	path, rest, trusted := chain[:1:1], slices.Clone(chain[1:]), false
	for len(path) <= len(chain)+len(s.anchors) {
		last := path[len(path)-1]
		if SelfSigned(last) {
			if !s.has(last) {
				return &UntrustedError{Store: s.name, Last: last}
			}
			return s.check(path, at)
		}
		next := issuerOf(last, s.anchors, at)
		if next != nil {
			trusted = true
		} else if !trusted {
			if next = issuerOf(last, rest, at); next != nil {
				rest = slices.DeleteFunc(rest, next.Equal)
			}
		}
		if next == nil {
			return fmt.Errorf("it wants a self-signed root and knows none that issued %q", Title(last))
		}
		path = append(path, next)
	}
	return errors.New("the anchors issued each other")
}

// issued reports whether a certificate is of a CA that signed another one.
func issued(parent, child *x509.Certificate) bool {
	return mayIssue(parent, child) && parent.IsCA && child.CheckSignatureFrom(parent) == nil
}
