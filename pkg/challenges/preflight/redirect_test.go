package preflight

import (
	"net/netip"
	"testing"
)

// A redirect must not make this machine connect to itself or into a private network.
func TestWhereRedirectsLead(t *testing.T) {
	const public, private, local = "8.8.8.8", "10.1.2.3", "127.0.0.1"
	for to, from := range map[string][]string{
		"1.1.1.1":            {public, private, local},
		"2606:4700::1":       {public, private, local},
		"64:ff9b::101:101":   {public, private, local}, // 1.1.1.1 behind NAT64
		"192.168.7.7":        {private, local},
		"fd00::1":            {private, local},
		"::ffff:192.168.7.7": {private, local},
		"127.0.0.1":          {local},
		"127.9.9.9":          {local},
		"::1":                {local},
		"::ffff:127.0.0.1":   {local},
		"0.0.0.0":            nil,
		"0.1.2.3":            nil,
		"::":                 nil,
		"::ffff:0.0.0.0":     nil,
		"::7f00:1":           nil, // the IPv4-compatible form of 127.0.0.1
		"::ffff:0:127.0.0.1": nil, // its translated form
		"64:ff9b::7f00:1":    nil,
		"64:ff9b::a01:203":   nil,
		"64:ff9b:1::1":       nil,
		"2002:7f00:1::1":     nil,
		"2001::1":            nil,
		"169.254.169.254":    nil,
		"fe80::1":            nil,
		"fe80::1%eth0":       nil,
		"2606:4700::1%lo":    nil,
		"100.64.0.1":         nil,
		"224.0.0.1":          nil,
		"ff02::1":            nil,
		"255.255.255.255":    nil,
		"240.0.0.1":          nil,
		"192.0.0.8":          nil,
		"198.18.0.1":         nil,
		"fec0::1":            nil,
	} {
		allowed := map[string]bool{}
		for _, a := range from {
			allowed[a] = true
		}
		for _, a := range []string{public, private, local} {
			if got := mayFollow(netip.MustParseAddr(a), netip.MustParseAddr(to).Unmap()); got != allowed[a] {
				t.Errorf("from %s to %s: %v", a, to, got)
			}
		}
	}
}
