package tlsalpn01

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

// AcmeIdentifier is the extension that carries the digest of the key authorization (RFC 8737 section 6.1).
func AcmeIdentifier() asn1.ObjectIdentifier {
	return asn1.ObjectIdentifier{1, 3, 6, 1, 5, 5, 7, 1, 31}
}

// lifetime of a challenge certificate. Nobody checks it; a day covers a clock that is wrong by hours.
const lifetime = 24 * time.Hour

// Certificate makes the self-signed certificate that answers a challenge (RFC 8737 section 3): a P-256 key, the
// identifier as only subject alternative name, and the digest of the key authorization in a critical extension.
func Certificate(c challenges.Challenge, now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make the key of the challenge certificate: %w", err)
	}
	digest := sha256.Sum256([]byte(c.KeyAuth))
	value, err := asn1.Marshal(digest[:])
	if err != nil {
		return nil, fmt.Errorf("encode the digest of the key authorization: %w", err)
	}
	template := &x509.Certificate{
		SerialNumber:          big.NewInt(1),
		Subject:               pkix.Name{CommonName: "ACME challenge"},
		NotBefore:             now.Add(-lifetime),
		NotAfter:              now.Add(lifetime),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
		ExtraExtensions:       []pkix.Extension{{Id: AcmeIdentifier(), Critical: true, Value: value}},
	}
	if c.Identifier.Type == certs.IP {
		template.IPAddresses = []net.IP{net.ParseIP(c.Identifier.Value)}
	} else {
		template.DNSNames = []string{c.Identifier.Value}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the challenge certificate for %s: %w", c.Identifier, err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// ServerName returns what a CA sends as SNI for an identifier: a DNS name itself, an IP address as its name for reverse
// look-ups without the trailing dot (RFC 8738 section 6).
func ServerName(id certs.Identifier) (string, error) {
	if id.Type != certs.IP {
		return id.Value, nil
	}
	addr, err := netip.ParseAddr(id.Value)
	if err != nil {
		return "", fmt.Errorf("identifier %q: %w", id.Value, err)
	}
	var b strings.Builder
	raw := addr.AsSlice()
	if addr.Is4() {
		for i := len(raw) - 1; i >= 0; i-- {
			b.WriteString(strconv.Itoa(int(raw[i])) + ".")
		}
		return b.String() + "in-addr.arpa", nil
	}
	for i := len(raw) - 1; i >= 0; i-- {
		fmt.Fprintf(&b, "%x.%x.", raw[i]&15, raw[i]>>4)
	}
	return b.String() + "ip6.arpa", nil
}

// identifierOf is what a server name stands for: the reverse of [ServerName].
func identifierOf(name string) (certs.Identifier, bool) {
	var text string
	switch labels, v4 := strings.CutSuffix(name, ".in-addr.arpa"); {
	case v4:
		parts := strings.Split(labels, ".")
		slices.Reverse(parts)
		text = strings.Join(parts, ".")
	case strings.HasSuffix(name, ".ip6.arpa"):
		parts := strings.Split(strings.TrimSuffix(name, ".ip6.arpa"), ".")
		slices.Reverse(parts)
		if len(parts) != 32 {
			return certs.Identifier{}, false
		}
		for i := 0; i < len(parts); i += 4 {
			text += ":" + strings.Join(parts[i:i+4], "")
		}
		text = text[1:]
	default:
		id, _, err := certs.ParseIdentifier(name)
		return id, err == nil && id.Type == certs.DNS
	}
	id, _, err := certs.ParseIdentifier(text)
	return id, err == nil && id.Type == certs.IP
}
