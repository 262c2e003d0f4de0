package endpoint

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// Endpoint is one address where a certificate is served.
type Endpoint struct {
	Addr       string // host:port; a host name stands for all its addresses
	ServerName string // sent as SNI; "" is the host of Addr unless that is an IP address
	StartTLS   string // "" for TLS at once, or one of StartTLSProtocols
	RSA        bool   // ask for the RSA certificate of a server that has two (needs TLS 1.2)
}

// StartTLSProtocols lists the protocols that can be asked to switch to TLS.
func StartTLSProtocols() []string {
	return []string{"smtp", "imap", "pop3", "ftp", "ldap", "mysql", "postgres", "xmpp"}
}

var hostName = regexp.MustCompile(`^[A-Za-z0-9_]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$`)

// Parse reads "host:port", "host:port/server.name" and "smtp://host:port/server.name". The server name is what
// the client asks for (SNI); it is needed where the host is an IP address and the server has more than one certificate.
func Parse(text string) (Endpoint, error) {
	var e Endpoint
	rest := text
	if protocol, after, found := strings.Cut(text, "://"); found {
		if !slices.Contains(StartTLSProtocols(), protocol) {
			return Endpoint{}, fmt.Errorf("endpoint %q: %q is not one of %s", text, protocol, strings.Join(StartTLSProtocols(), ", "))
		}
		e.StartTLS, rest = protocol, after
	}
	addr, name, named := strings.Cut(rest, "/")
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return Endpoint{}, fmt.Errorf("endpoint %q: want host:port, such as example.com:443 or [2001:db8::1]:443", text)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
		return Endpoint{}, fmt.Errorf("endpoint %q: %q is not a port", text, port)
	}
	if _, err := netip.ParseAddr(host); err != nil && !hostName.MatchString(host) {
		return Endpoint{}, fmt.Errorf("endpoint %q: %q is neither a host name nor an IP address", text, host)
	}
	if named && !hostName.MatchString(name) {
		return Endpoint{}, fmt.Errorf("endpoint %q: %q is not a server name", text, name)
	}
	e.Addr, e.ServerName = addr, name
	return e, nil
}

// ParseAll reads the endpoints of a target. At an IP address without a server name it asks for the certificate's
// first name; for a wildcard that is some host below it.
func ParseAll(texts []string, names []certs.Identifier) ([]Endpoint, error) {
	var list []Endpoint
	for _, text := range texts {
		e, err := Parse(text)
		if err != nil {
			return nil, err
		}
		if e.sni() == "" {
			e.ServerName = askFor(names)
		}
		list = append(list, e)
	}
	return list, nil
}

// askFor is the server name that shows a certificate for names: a fixed name if there is one, else a host that the first
// wildcard covers, else none.
func askFor(names []certs.Identifier) string {
	wildcard := ""
	for _, id := range names {
		switch {
		case id.Type != certs.DNS:
		case !id.IsWildcard():
			return id.Value
		case wildcard == "":
			wildcard = "acmed-probe." + id.Base()
		}
	}
	return wildcard
}

// String says where and for which name, as errors show it.
func (e Endpoint) String() string {
	text := e.Addr
	if e.StartTLS != "" {
		text = e.StartTLS + "://" + text
	}
	if name := e.sni(); name != "" {
		text += " (SNI " + name + ")"
	}
	return text
}

// sni is the name to ask for; "" asks for the server's default certificate.
func (e Endpoint) sni() string {
	if e.ServerName != "" {
		return e.ServerName
	}
	host, _, err := net.SplitHostPort(e.Addr)
	if err != nil {
		return ""
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return ""
	}
	return host
}

// maxAddresses bounds what one name may stand for; a name with more addresses is a farm that is checked elsewhere.
const maxAddresses = 32

// resolve returns one endpoint for each address of e's host.
func (e Endpoint) resolve(ctx context.Context) ([]Endpoint, error) {
	host, port, err := net.SplitHostPort(e.Addr)
	if err != nil {
		return nil, fmt.Errorf("endpoint %q: %w", e.Addr, err)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		return []Endpoint{e}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
	defer cancel()
	addrs, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("endpoint %s: %w", e, err)
	}
	var list []Endpoint
	for _, addr := range addrs[:min(len(addrs), maxAddresses)] {
		one := e
		one.ServerName = e.sni()
		one.Addr = net.JoinHostPort(addr.Unmap().String(), port)
		if !slices.Contains(list, one) {
			list = append(list, one)
		}
	}
	return list, nil
}

// ProbeName is what a client asks for (SNI) that wants the identifier: nothing for an IP address, some host for a
// wildcard.
func ProbeName(id certs.Identifier) string {
	switch {
	case id.Type == certs.IP:
		return ""
	case id.IsWildcard():
		return "acmed-probe." + id.Base()
	}
	return id.Value
}

// Given reads an operator's list of [Parse] form. An IP address without a server name stands for all
// names there.
func Given(list []string, names []certs.Identifier) ([]Endpoint, error) {
	var all []Endpoint
	for _, text := range list {
		e, err := Parse(text)
		if err != nil {
			return nil, err
		}
		if e.ServerName != "" || !hasIP(e.Addr) {
			all = append(all, e)
			continue
		}
		for _, id := range names {
			one := e
			one.ServerName = ProbeName(id)
			all = append(all, one)
		}
	}
	return all, nil
}

func hasIP(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	_, err = netip.ParseAddr(host)
	return err == nil
}
