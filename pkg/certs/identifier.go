package certs

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/net/idna"

	"github.com/acmed/acmed/internal/text"
)

// IdentifierType is the type of an ACME identifier.
type IdentifierType string

// The identifier types of RFC 8555 and RFC 8738.
const (
	DNS IdentifierType = "dns"
	IP  IdentifierType = "ip"
)

// Identifier is one name or address that a certificate is valid for, in the exact form in which it is ordered: lower
// case, A-labels, canonical IP text. Only [ParseIdentifier] should make one.
type Identifier struct {
	Type  IdentifierType `json:"type"`
	Value string         `json:"value"`
}

// String returns the value.
func (id Identifier) String() string { return id.Value }

// IsWildcard reports whether the identifier covers every direct subdomain.
func (id Identifier) IsWildcard() bool { return strings.HasPrefix(id.Value, "*.") }

// Base returns the value without a leading "*.": the name that is validated.
func (id Identifier) Base() string { return strings.TrimPrefix(id.Value, "*.") }

// Unicode returns the identifier as a person writes it, for display only.
func (id Identifier) Unicode() string {
	if id.Type != DNS {
		return id.Value
	}
	u, err := idna.Display.ToUnicode(id.Value)
	if err != nil {
		return id.Value
	}
	return u
}

func values(ids []Identifier) []string {
	list := make([]string, len(ids))
	for i, id := range ids {
		list[i] = id.Value
	}
	return list
}

// The limits that public CAs put on DNS identifiers.
const (
	maxDNSName = 253
	maxLabel   = 63
	maxLabels  = 10 // that public CAs certify
)

// ParseIdentifier turns what an operator wrote into an identifier, or says why no CA would accept it. The warnings tell
// what was changed on the way: upper case, a trailing dot, an internationalised name.
//
// It never lets a byte outside [a-z0-9.*:-] through, so an identifier can be written into a server's configuration.
func ParseIdentifier(text string) (id Identifier, warnings []string, err error) {
	if err := plainText(text); err != nil {
		return Identifier{}, nil, err
	}
	if addr, ok, err := parseIP(text); ok || err != nil {
		return addr, nil, err
	}
	name := text
	if cut, found := strings.CutSuffix(name, "."); found {
		warnings = append(warnings, fmt.Sprintf("%q ends in a dot, which was removed", text))
		name = cut
	}
	prefix := ""
	if base, found := strings.CutPrefix(name, "*."); found {
		prefix, name = "*.", base
	}
	ascii, more, err := toASCII(name)
	if err != nil {
		return Identifier{}, nil, fmt.Errorf("%q: %w", text, err)
	}
	if err := checkDNS(ascii); err != nil {
		return Identifier{}, nil, fmt.Errorf("%q: %w", text, err)
	}
	if prefix != "" && !strings.Contains(ascii, ".") {
		return Identifier{}, nil, fmt.Errorf("%q: a wildcard needs at least two labels after it", text)
	}
	return Identifier{Type: DNS, Value: prefix + ascii}, append(warnings, more...), nil
}

func plainText(text string) error {
	if text == "" {
		return fmt.Errorf("the name is empty")
	}
	if len(text) > 4*maxDNSName {
		return fmt.Errorf("the name has %d bytes, at most %d are allowed", len(text), maxDNSName)
	}
	if !utf8.ValidString(text) {
		return fmt.Errorf("%q is not UTF-8", text)
	}
	for _, r := range text {
		if unicode.IsControl(r) || unicode.IsSpace(r) || strings.ContainsRune(`/\;{}()$'"`+"`<>|&#%@!?=,+", r) {
			return fmt.Errorf("%q: character %q is not allowed in a name", text, r)
		}
	}
	return nil
}

func parseIP(text string) (id Identifier, ok bool, err error) {
	if strings.HasPrefix(text, "[") {
		return Identifier{}, false, fmt.Errorf("%q: write the IPv6 address without brackets", text)
	}
	addr, perr := netip.ParseAddr(text)
	if perr != nil {
		if strings.Contains(text, ":") {
			return Identifier{}, false, fmt.Errorf("%q is not an IP address, and a name has no colon or port", text)
		}
		return Identifier{}, false, nil
	}
	if addr.Zone() != "" {
		return Identifier{}, false, fmt.Errorf("%q: an address with a zone cannot be certified", text)
	}
	if addr.Is4In6() {
		return Identifier{}, false, fmt.Errorf("%q is an IPv4-mapped address; write %s", text, addr.Unmap())
	}
	return Identifier{Type: IP, Value: addr.String()}, true, nil
}

func toASCII(name string) (ascii string, warnings []string, err error) {
	if isASCII(name) {
		lower := strings.ToLower(name)
		if lower != name {
			warnings = append(warnings, fmt.Sprintf("%q was lower-cased", name))
		}
		return lower, warnings, nil
	}
	ascii, err = idna.Lookup.ToASCII(name)
	if err != nil {
		return "", nil, fmt.Errorf("not a valid internationalised name: %w", err)
	}
	warnings = append(warnings, fmt.Sprintf("%q is ordered as %q", name, ascii))
	for label := range strings.SplitSeq(name, ".") {
		if s := scripts(label); len(s) > 1 {
			warnings = append(warnings, fmt.Sprintf("%q mixes the scripts %s; is it the name you mean?", label, strings.Join(s, " and ")))
		}
	}
	return ascii, warnings, nil
}

func isASCII(s string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return r > unicode.MaxASCII }) < 0
}

func scripts(label string) []string {
	var found []string
	for _, name := range []string{"Latin", "Cyrillic", "Greek", "Armenian", "Hebrew", "Arabic", "Cherokee"} {
		table := unicode.Scripts[name]
		if strings.IndexFunc(label, func(r rune) bool { return unicode.Is(table, r) }) >= 0 {
			found = append(found, name)
		}
	}
	return found
}

// checkDNS applies the rules by which public CAs accept a DNS name (Boulder's policy, RFC 5890, CA/B BR 7.1.4.2).
func checkDNS(name string) error {
	if len(name) > maxDNSName {
		return fmt.Errorf("the name has %d characters, at most %d are allowed", len(name), maxDNSName)
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if err := checkLabel(label); err != nil {
			return err
		}
	}
	if _, err := strconv.ParseUint(labels[len(labels)-1], 10, 64); err == nil {
		return fmt.Errorf("the last label is a number: neither a domain name nor a valid IP address")
	}
	return nil
}

func checkLabel(label string) error {
	switch {
	case label == "":
		return fmt.Errorf("an empty label (two dots in a row, or a dot at the start)")
	case len(label) > maxLabel:
		return fmt.Errorf("label %q has %d characters, at most %d are allowed", text.Cut(label, 17), len(label), maxLabel)
	case strings.Contains(label, "*"):
		return fmt.Errorf("a wildcard is only allowed as the whole first label, as in *.example.com")
	case label[0] == '-' || label[len(label)-1] == '-':
		return fmt.Errorf("label %q begins or ends with a hyphen", label)
	}
	if i := strings.IndexFunc(strings.ReplaceAll(label, "_", "-"), notLDH); i >= 0 {
		return fmt.Errorf("label %q: character %q is not allowed", label, label[i])
	}
	if len(label) >= 4 && label[2:4] == "--" {
		return checkALabel(label)
	}
	return nil
}

// notLDH reports whether r is anything but a letter, a digit or a hyphen.
func notLDH(r rune) bool {
	return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-'
}

func checkALabel(label string) error {
	if !strings.HasPrefix(label, "xn--") {
		return fmt.Errorf("label %q has hyphens in the third and fourth place without being an xn-- label", label)
	}
	u, err := idna.Registration.ToUnicode(label)
	if err != nil {
		return fmt.Errorf("label %q is not valid punycode: %w", label, err)
	}
	back, err := idna.Registration.ToASCII(u)
	if err != nil || back != label || isASCII(u) {
		return fmt.Errorf("label %q is not a well-formed internationalised label", label)
	}
	return nil
}

// CheckPublic reports why no publicly trusted CA would certify the identifier: a single label, a special-use domain
// (RFC 6761, RFC 8375), an address that is not globally reachable. Private CAs may certify all of these.
func CheckPublic(id Identifier) error {
	if id.Type == IP {
		addr, err := netip.ParseAddr(id.Value)
		if err != nil || !PublicAddr(addr) {
			return fmt.Errorf("%s is not a globally reachable address, so no public CA certifies it; use an issuer with private: true", id.Value)
		}
		return nil
	}
	name := id.Base()
	if !strings.Contains(name, ".") {
		return fmt.Errorf("%s has a single label, so no public CA certifies it; use an issuer with private: true", id.Value)
	}
	if n := strings.Count(name, ".") + 1; n > maxLabels {
		return fmt.Errorf("%s has %d labels, and public CAs certify at most %d; use an issuer with private: true", id.Value, n, maxLabels)
	}
	if strings.Contains(name, "_") {
		return fmt.Errorf("%s has an underscore, so no public CA certifies it; use an issuer with private: true", id.Value)
	}
	for _, special := range []string{"local", "localhost", "internal", "invalid", "test", "example", "onion", "home.arpa", "lan", "corp", "localdomain"} {
		if strings.HasSuffix(name, "."+special) {
			return fmt.Errorf("%s is under .%s, which no public CA certifies; use an issuer with private: true", id.Value, special)
		}
	}
	return nil
}

// PublicAddr reports whether an address is globally reachable (the registries of RFC 6890). An IPv4 address within an IPv6
// address counts as what it is: an address that is mapped (::ffff:0:0/96) or translated by NAT64 (64:ff9b::/96).
func PublicAddr(addr netip.Addr) bool {
	addr = addr.Unmap()
	if addr.Zone() != "" || !addr.IsGlobalUnicast() || addr.IsPrivate() || reservedAddr(addr) {
		return false
	}
	if raw := addr.As16(); netip.MustParsePrefix("64:ff9b::/96").Contains(addr) {
		return PublicAddr(netip.AddrFrom4([4]byte(raw[12:])))
	}
	return true
}

func reservedAddr(addr netip.Addr) bool {
	for _, p := range []string{"::/96", "::ffff:0:0:0/96", "2001::/32", "2001:10::/28", "3fff::/20", "5f00::/16", "fec0::/10", "192.88.99.0/24", "0.0.0.0/8", "100.64.0.0/10", "192.0.0.0/24", "192.0.2.0/24", "198.18.0.0/15", "198.51.100.0/24",
		"203.0.113.0/24", "240.0.0.0/4", "2001:db8::/32", "100::/64", "64:ff9b:1::/48", "2002::/16"} {
		if netip.MustParsePrefix(p).Contains(addr) {
			return true
		}
	}
	return false
}
