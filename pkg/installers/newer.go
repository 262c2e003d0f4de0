package installers

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// NewerError says that a target has a certificate for the same names that was issued after the wanted one: acmed's state
// is older than what it once installed, because a backup was restored, or somebody else renews there.
type NewerError struct {
	Fingerprint string // of what is there, as of [certs.Fingerprint]
	Err         error
}

// Error says what is there.
func (e *NewerError) Error() string { return e.Err.Error() }

// Unwrap returns the same without the meaning.
func (e *NewerError) Unwrap() error { return e.Err }

// whatIsThere gives err its meaning when got is newer than one of the wanted certificates, for all of its names. What signed
// itself was not issued by anybody.
func whatIsThere(err error, got *x509.Certificate, want ...*x509.Certificate) error {
	for _, w := range want {
		if got.NotBefore.After(w.NotBefore) && got.NotAfter.After(w.NotAfter) && covers(got, w) && !bytes.Equal(got.RawIssuer, got.RawSubject) {
			return &NewerError{Fingerprint: certs.Fingerprint(got), Err: err}
		}
	}
	return err
}

// covers reports whether got is for every name of want.
func covers(got, want *x509.Certificate) bool {
	for _, name := range want.DNSNames {
		if !slices.Contains(got.DNSNames, name) {
			return false
		}
	}
	for _, ip := range want.IPAddresses {
		if !slices.ContainsFunc(got.IPAddresses, ip.Equal) {
			return false
		}
	}
	return true
}

// UpToDate is nil when no file differs from what b needs. The error lists those that do, and is a [*NewerError] if one of
// them begins with a newer certificate than b.
func (c *Change) UpToDate(b *certs.Bundle) error {
	edits, err := c.plan()
	if err != nil || len(edits) == 0 {
		return err
	}
	paths := make([]string, len(edits))
	for i := range edits {
		paths[i] = edits[i].Path
	}
	err = fmt.Errorf("not up to date: %s", strings.Join(paths, ", "))
	for i := range edits {
		if got := firstCertificate(edits[i].before); got != nil {
			err = whatIsThere(err, got, b.Leaves()...)
		}
	}
	return err
}

// firstCertificate is that of a file in PEM, nil if there is none.
func firstCertificate(text []byte) *x509.Certificate {
	for {
		block, rest := pem.Decode(text)
		if block == nil {
			return nil
		}
		if block.Type == "CERTIFICATE" {
			c, _ := x509.ParseCertificate(block.Bytes)
			return c
		}
		text = rest
	}
}
