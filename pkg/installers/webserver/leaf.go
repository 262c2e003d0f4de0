package webserver

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"os"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/endpoint"
)

// NoOCSP reports whether a CA issued the certificate and names no OCSP responder in it, so that a server has nothing to staple.
func NoOCSP(b *certs.Bundle) bool {
	return len(b.Leaf.OCSPServer) == 0 && !bytes.Equal(b.Leaf.RawIssuer, b.Leaf.RawSubject)
}

// ReadLeaf reads the first certificate of a file; nil when there is none to read.
func ReadLeaf(path string) *x509.Certificate {
	text, err := installers.ReadRegular(path)
	if err != nil {
		return nil
	}
	return ParseLeaf(text)
}

// ParseLeaf is the first certificate in PEM, in any of the forms that OpenSSL takes; nil when there is none to read.
func ParseLeaf(text []byte) *x509.Certificate {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" && block.Type != "TRUSTED CERTIFICATE" && block.Type != "X509 CERTIFICATE" {
			continue
		}
		leaf, err := certs.ParseCertificate(block.Bytes)
		if err != nil {
			return nil
		}
		return leaf
	}
	return nil
}

// Lost is the first of a site's names that the certificate at path covers and the new one does not, or "".
func Lost(names []string, path string, leaf *x509.Certificate) string {
	old := ReadLeaf(path)
	if old == nil || old.Equal(leaf) {
		return ""
	}
	for _, name := range names {
		sample := sampleName(name)
		if sample != "" && old.VerifyHostname(sample) == nil && leaf.VerifyHostname(sample) != nil {
			return name
		}
	}
	return ""
}

// sampleName is a host name that a site with the name answers for, or "" when there is none to be told.
func sampleName(name string) string {
	name = strings.TrimPrefix(name, "*")
	if strings.HasPrefix(name, ".") {
		return "acmed-probe" + name
	}
	if strings.ContainsAny(name, "~*$_") {
		return ""
	}
	return name
}

// Unfit reports whether an OpenSSL cipher list surely has nothing for any key of the bundle.
func Unfit(list string, b *certs.Bundle) bool {
	for _, leaf := range b.Leaves() {
		if !endpoint.Unfit(list, endpoint.FamilyOf(leaf)) {
			return false
		}
	}
	return true
}

// UnfitReason says so, with the remedy.
const UnfitReason = "this cipher list has no suite for the key of the certificate, so clients before TLS 1.3 could not connect: " + endpoint.Remedy

// packageStatus is where Debian's package manager lists the configuration files of packages.
const packageStatus = "/var/lib/dpkg/status"

// FromPackage reports whether a file is one that a package of the distribution brings. The next upgrade may replace it, and
// other sites may come to include it.
func FromPackage(path string) bool {
	status, err := os.ReadFile(packageStatus)
	return err == nil && strings.Contains(string(status), "\n "+path+" ")
}
