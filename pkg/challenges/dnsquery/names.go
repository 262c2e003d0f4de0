package dnsquery

import (
	"fmt"
	"net"
	"strconv"
	"strings"
)

// HostPort completes a host, host:port, IPv6 address or [IPv6 address]:port with the default port.
func HostPort(text, port string) (string, error) {
	if ip := net.ParseIP(strings.Trim(text, "[]")); ip != nil {
		return net.JoinHostPort(ip.String(), port), nil
	}
	host, p, err := net.SplitHostPort(text)
	if err != nil {
		host, p = text, port
	}
	if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
		return "", fmt.Errorf("%q has no valid port", text)
	}
	if net.ParseIP(host) == nil && !PlainName(strings.ToLower(strings.TrimSuffix(host, "."))+".") {
		return "", fmt.Errorf("%q is neither an address nor a host name, with or without a port", text)
	}
	return net.JoinHostPort(host, p), nil
}

// MaxName is the longest name in text form, with the final dot.
const MaxName = 254

// PlainName accepts letters, digits, hyphens and underscores in labels, with a final dot. Names reach the arguments of
// programs and the bodies of requests, so nothing else may pass.
func PlainName(name string) bool {
	if len(name) < 2 || len(name) > MaxName || !strings.HasSuffix(name, ".") || strings.Contains(name, "..") || name[0] == '.' {
		return false
	}
	return strings.IndexFunc(name, func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' && c != '_' && c != '.'
	}) < 0
}
