package endpoint

import (
	"bytes"
	"crypto/x509"
	"slices"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// MarkNewer gives err its meaning when got is newer than one of the wanted certificates, for all of its names. What signed
// itself was not issued by anybody.
func MarkNewer(err error, got *x509.Certificate, want ...*x509.Certificate) error {
	for _, w := range want {
		if got.NotBefore.After(w.NotBefore) && got.NotAfter.After(w.NotAfter) && covers(got, w) && !bytes.Equal(got.RawIssuer, got.RawSubject) {
			return &installers.NewerError{Fingerprint: certs.Fingerprint(got), Err: err}
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
