package config

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dnsquery"
)

// TLSA is about the TLSA records (RFC 6698) by which clients of DANE know the keys of a certificate, such as mail servers.
type TLSA struct {
	// Services lists where the records are: _25._tcp stands for that port of every name of the certificate, and
	// _25._tcp.mx.example.com for itself.
	Services []string `mapstructure:"services"`
	// Records lists the kinds of record: "3 1 1" has the key of the certificate, "2 1 1" that of its issuer. Default 3 1 1.
	Records []string `mapstructure:"records"`
	// Solver is the dns-01 solver whose account writes the records. Only rfc2136 can; for others acmed chain NAME --tlsa prints
	// them for you to publish. Default: the first of the certificate's dns-01 solvers.
	Solver string `mapstructure:"solver"`
	// TTL is the time to live of the records, 1s to 24h. A new key goes live when its record has been visible for twice as
	// long. Default 1h.
	TTL time.Duration `mapstructure:"ttl"`
}

const (
	defaultTLSATTL = time.Hour
	maxTLSATTL     = 24 * time.Hour
)

var tlsaService = regexp.MustCompile(`^_([1-9][0-9]{0,4})\._(tcp|udp|sctp)(\..+)?$`)

// tlsaUsages maps the kinds of record to their certificate usage.
func tlsaUsages() map[string]uint8 { return map[string]uint8{"3 1 1": 3, "2 1 1": 2} }

// Names are where the records of a certificate are, with the final dot.
func (t *TLSA) Names(ids []certs.Identifier) []string {
	var list []string
	add := func(name string) {
		if name = strings.ToLower(strings.TrimSuffix(name, ".")) + "."; !slices.Contains(list, name) {
			list = append(list, name)
		}
	}
	for _, service := range t.Services {
		if m := tlsaService.FindStringSubmatch(service); m == nil || m[3] != "" {
			add(service)
			continue
		}
		for _, id := range ids {
			if id.Type == certs.DNS && !id.IsWildcard() {
				add(service + "." + id.Value)
			}
		}
	}
	return list
}

// Usages are the certificate usages of the records.
func (t *TLSA) Usages() []uint8 {
	var list []uint8
	for _, kind := range first(t.Records, []string{"3 1 1"}) {
		list = append(list, tlsaUsages()[kind])
	}
	return list
}

// Life is the time to live of the records.
func (t *TLSA) Life() time.Duration { return cmp.Or(t.TTL, defaultTLSATTL) }

// TLSASolver is the dns-01 solver that publishes the records of a certificate, or looks at them; false without one.
func (c *Config) TLSASolver(cert *Certificate) (Solver, bool) {
	names := c.solversOf(cert)
	if cert.TLSA.Solver != "" {
		names = []string{cert.TLSA.Solver}
	}
	for _, name := range names {
		if s, ok := c.Solver(name); ok && (s.DNS01 != nil || s.DNSAccount01 != nil) {
			return s, true
		}
	}
	return Solver{}, false
}

func (v *validator) tlsa(path string, cert *Certificate) {
	t := cert.TLSA
	if t == nil {
		return
	}
	path += ".tlsa"
	if len(t.Services) == 0 {
		v.report(path+".services", "say where the clients look, such as [_25._tcp]")
	}
	for i, service := range t.Services {
		v.tlsaService(fmt.Sprintf("%s.services[%d]", path, i), service, cert)
	}
	for i, kind := range t.Records {
		if tlsaUsages()[kind] == 0 {
			v.report(fmt.Sprintf("%s.records[%d]", path, i), "%s is neither 3 1 1 nor 2 1 1", quote(kind))
		}
	}
	if t.TTL != 0 && (t.TTL < time.Second || t.TTL > maxTLSATTL) {
		v.report(path+".ttl", "%s is not between 1s and %s", show(t.TTL), show(maxTLSATTL))
	}
	if _, ok := v.c.TLSASolver(cert); t.Solver != "" && !ok {
		v.report(path+".solver", "there is no dns-01 solver %s", quote(t.Solver))
	}
}

// tlsaService checks where clients look for the records of one service.
func (v *validator) tlsaService(at, service string, cert *Certificate) {
	m := tlsaService.FindStringSubmatch(strings.ToLower(service))
	switch {
	case m == nil:
		v.report(at, "%s is neither like _25._tcp nor like _25._tcp.mx.example.com", quote(service))
	case m[3] != "" && !dnsquery.PlainName(strings.TrimSuffix(strings.ToLower(service), ".")+"."):
		v.report(at, "%s is no domain name", quote(service))
	case m[3] == "" && len((&TLSA{Services: []string{service}}).Names(identifiers(cert.Names))) == 0:
		v.report(at, "the certificate has only wildcards and addresses; write the whole name, such as %s.mx.example.com", service)
	}
}
