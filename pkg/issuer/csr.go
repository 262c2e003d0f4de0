package issuer

import (
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// mustStaple is the TLS feature extension with status_request (RFC 7633).
func mustStaple() pkix.Extension {
	return pkix.Extension{Id: asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 24}, Value: []byte{0x30, 0x03, 0x02, 0x01, 0x05}}
}

// makeCSR asks for the identifiers as subject alternative names and for nothing else: no common name, which public CAs
// ignore or refuse (CA/B BR 7.1.4.2.2).
func makeCSR(spec *certs.Spec, key crypto.Signer) ([]byte, error) {
	template := x509.CertificateRequest{}
	for _, id := range spec.Identifiers {
		if id.Type == certs.IP {
			template.IPAddresses = append(template.IPAddresses, net.ParseIP(id.Value))
		} else {
			template.DNSNames = append(template.DNSNames, id.Value)
		}
	}
	if spec.MustStaple {
		template.ExtraExtensions = append(template.ExtraExtensions, mustStaple())
	}
	csr, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		return nil, fmt.Errorf("make the certificate request: %w", err)
	}
	return csr, nil
}

// checkCSR refuses an operator's CSR that does not ask for exactly the configured names.
func checkCSR(spec *certs.Spec) (*x509.CertificateRequest, error) {
	csr, err := certs.ParseRequest(spec.CSR)
	if err != nil {
		return nil, fmt.Errorf("the CSR cannot be read: %w", err)
	}
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("the CSR is not signed by its own key: %w", err)
	}
	var names []string
	for _, name := range csr.DNSNames {
		names = append(names, strings.ToLower(name))
	}
	for _, ip := range csr.IPAddresses {
		names = append(names, ip.String())
	}
	want := spec.Names()
	slices.Sort(names)
	slices.Sort(want)
	switch cn := strings.ToLower(csr.Subject.CommonName); {
	case !slices.Equal(slices.Compact(names), want):
		return nil, fmt.Errorf("the CSR asks for %q, configured are %q", names, want)
	case cn != "" && !slices.Contains(want, cn):
		return nil, fmt.Errorf("the CSR's common name %q is not among its alternative names", cn)
	case len(csr.EmailAddresses)+len(csr.URIs) > 0:
		return nil, errors.New("the CSR asks for mail addresses or URIs")
	}
	return csr, nil
}
