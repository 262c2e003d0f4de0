package config

import (
	"cmp"
	"net/netip"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/installers/imperva"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// Spec is what one of the certificates asks for, with every default filled in. The certificate must be valid: names
// that [Config.Validate] refuses are missing.
func (c *Config) Spec(cert *Certificate) certs.Spec {
	spec := certs.Spec{
		Name:           cert.Name,
		Identifiers:    identifiers(cert.Names),
		KeyTypes:       c.keyTypes(cert),
		ReuseKey:       cert.ReuseKey,
		NextKey:        cert.NextKey || cert.TLSA != nil,
		Profile:        cert.Profile,
		PreferredChain: cert.PreferredChain,
		MustStaple:     cert.MustStaple,
		Lifetime:       cert.Lifetime,
		Issuers:        c.issuersOf(cert),
		Solvers:        c.solversOf(cert),
		RenewBefore:    c.renewBefore(cert),
		Trust:          cert.Trust,
		Notice:         cert.Notice,
		Window:         maintenance(cmp.Or(cert.Window, c.Renewal.Window)),
	}
	if cert.csr != nil {
		spec.CSR = cert.csr.Raw
	}
	for i := range cert.Install {
		spec.Targets = append(spec.Targets, cert.Install[i].ID())
	}
	return spec
}

// identifiers parses names, leaving out repeated ones and those that are refused.
func identifiers(names []string) []certs.Identifier {
	var ids []certs.Identifier
	for _, name := range names {
		if id, _, err := certs.ParseIdentifier(name); err == nil && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// keyTypes puts the EC type of a dual unit first.
func (c *Config) keyTypes(cert *Certificate) []certs.KeyType {
	types := slices.Clone(first(cert.KeyType, c.Defaults.KeyType, defaultKeyTypes()))
	if len(types) == 2 && types[0].IsRSA() {
		slices.Reverse(types)
	}
	return types
}

func (c *Config) issuersOf(cert *Certificate) []string {
	return first(cert.Issuers, c.Defaults.Issuers, defaultIssuers())
}

func (c *Config) solversOf(cert *Certificate) []string {
	return first(cert.Solvers, c.Defaults.Solvers, defaultSolvers())
}

// first returns the first list that is not empty.
func first[S ~[]E, E any](lists ...S) S {
	for _, list := range lists {
		if len(list) > 0 {
			return list
		}
	}
	return nil
}

// renewBefore is 0 for the rule that depends on the lifetime.
func (c *Config) renewBefore(cert *Certificate) time.Duration {
	if asked := cmp.Or(cert.RenewBefore, c.Defaults.RenewBefore); asked > 0 {
		return asked
	}
	if c.Renewal.Before == plan.DefaultRenewBefore {
		return 0
	}
	return c.Renewal.Before
}

func maintenance(w *Window) *certs.Maintenance {
	if w == nil {
		return nil
	}
	return &certs.Maintenance{Schedule: w.Schedule, Length: w.Length}
}

// Issuer returns an issuer by its name, configured or built in, with every default filled in.
func (c *Config) Issuer(name string) (Issuer, bool) {
	issuer, builtin := builtinIssuer(name)
	i := slices.IndexFunc(c.Issuers, func(is Issuer) bool { return is.Name == name })
	if i < 0 && !builtin {
		return Issuer{}, false
	}
	if i >= 0 {
		known := issuer
		issuer = c.Issuers[i]
		issuer.Directory = cmp.Or(issuer.Directory, known.Directory)
		issuer.OrdersPer3h = cmp.Or(issuer.OrdersPer3h, known.OrdersPer3h)
		issuer.Staging = cmp.Or(issuer.Staging, known.Staging)
	}
	orders, preflight := publicOrders, c.Preflight
	if issuer.Private {
		orders, preflight = noLimit, PreflightOff
	}
	issuer.Preflight = cmp.Or(issuer.Preflight, preflight)
	issuer.OrdersPer3h = cmp.Or(issuer.OrdersPer3h, orders)
	issuer.MinLifetime = cmp.Or(issuer.MinLifetime, certs.DefaultPolicy().MinLifetime)
	issuer.Email = cmp.Or(issuer.Email, c.Email)
	c.inheritProxy(&issuer.Proxy, &issuer.ProxyAuthFile)
	return issuer, true
}

// inheritProxy fills in the proxy for all where there is no other one.
func (c *Config) inheritProxy(address, authFile *string) {
	if *address == "" {
		*address, *authFile = c.Proxy, c.ProxyAuthFile
	}
}

// Imperva is the section of an entry with the proxy that it has from the top.
func (c *Config) Imperva(in *Install) imperva.Config {
	conf := *in.Imperva
	c.inheritProxy(&conf.Proxy, &conf.ProxyAuthFile)
	return conf
}

// IssuerNames lists all issuers, configured and built in, each once.
func (c *Config) IssuerNames() []string {
	var names []string
	for _, is := range slices.Concat(c.Issuers, builtinIssuers()) {
		if !slices.Contains(names, is.Name) {
			names = append(names, is.Name)
		}
	}
	return names
}

// Server returns the resolver as host:port, "" for the machine's own.
func (p *Probe) Server() (string, error) {
	if p.Resolver == "" {
		return "", nil
	}
	if addr, err := netip.ParseAddr(p.Resolver); err == nil {
		return netip.AddrPortFrom(addr, 53).String(), nil
	}
	at, err := netip.ParseAddrPort(p.Resolver)
	if err != nil {
		return "", err
	}
	return at.String(), nil
}

// SolverNames lists all solvers, configured and built in, each once.
func (c *Config) SolverNames() []string {
	var names []string
	for _, s := range slices.Concat(c.Solvers, builtinSolvers()) {
		if !slices.Contains(names, s.Name) {
			names = append(names, s.Name)
		}
	}
	return names
}

// Solver returns a solver by its name, configured or built in, with every default filled in and its zones as they are
// compared.
func (c *Config) Solver(name string) (Solver, bool) {
	all := slices.Concat(c.Solvers, builtinSolvers())
	i := slices.IndexFunc(all, func(s Solver) bool { return s.Name == name })
	if i < 0 {
		return Solver{}, false
	}
	s := all[i]
	s.Zones = nil
	for _, zone := range identifiers(all[i].Zones) {
		s.Zones = append(s.Zones, zone.Value)
	}
	if h := s.HTTP01; h != nil && h.Webroot+h.ChallengeDir == "" && !h.Stateless {
		s.HTTP01 = &HTTP01{Listen: cmp.Or(h.Listen, ":80"), ProxyProtocol: h.ProxyProtocol}
	}
	if s.TLSALPN01 != nil {
		s.TLSALPN01 = &TLSALPN01{Listen: cmp.Or(s.TLSALPN01.Listen, ":443")}
	}
	return s, true
}

// Proxies returns proxy_protocol as networks. The section must be valid.
func (h *HTTP01) Proxies() []netip.Prefix {
	var list []netip.Prefix
	for _, text := range h.ProxyProtocol {
		if p, err := parsePrefix(text); err == nil {
			list = append(list, p)
		}
	}
	return list
}

// parsePrefix reads a network, or an address as the network of it alone.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

// Type is the challenge type that the solver answers, or "" unless it has exactly one section.
func (s *Solver) Type() challenges.Type {
	if types := s.types(); len(types) == 1 {
		return types[0]
	}
	return ""
}

// types lists the sections. A new kind of solver has a line here.
func (s *Solver) types() []challenges.Type {
	var types []challenges.Type
	if s.HTTP01 != nil {
		types = append(types, challenges.HTTP01)
	}
	if s.TLSALPN01 != nil {
		types = append(types, challenges.TLSALPN01)
	}
	if s.DNS01 != nil {
		types = append(types, challenges.DNS01)
	}
	if s.DNSAccount01 != nil {
		types = append(types, challenges.DNSAccount01)
	}
	if s.DNSPersist01 != nil {
		types = append(types, challenges.DNSPersist01)
	}
	return types
}

// covers reports whether the solver's zones include the identifier.
func (s *Solver) covers(id certs.Identifier) bool {
	if len(s.Zones) == 0 {
		return true
	}
	return id.Type == certs.DNS && slices.ContainsFunc(s.Zones, func(zone string) bool {
		return id.Base() == zone || strings.HasSuffix(id.Base(), "."+zone)
	})
}

// plugin is one section of an install entry.
type plugin struct {
	key     string // in YAML
	at      string // what tells two targets of this kind apart; "" for the usual one of this machine
	section interface{ Validate() error }
}

// plugins lists the sections of an entry. A new plugin has a line here.
func (in *Install) plugins() []plugin {
	var list []plugin
	if c := in.Nginx; c != nil {
		list = append(list, plugin{"nginx", c.Config, c})
	}
	if c := in.Apache; c != nil {
		list = append(list, plugin{"apache", cmp.Or(c.Config, c.Root), c})
	}
	if c := in.Helper; c != nil {
		list = append(list, plugin{"helper", c.Target, c})
	}
	if c := in.File; c != nil {
		list = append(list, plugin{"file", filepath.Clean(c.Dir), c})
	}
	if c := in.HAProxy; c != nil {
		list = append(list, plugin{"haproxy", filepath.Clean(c.File), c})
	}
	if c := in.Imperva; c != nil {
		list = append(list, plugin{"imperva", strconv.Itoa(c.SiteID), c})
	}
	if c := in.SSH; c != nil {
		list = append(list, plugin{"ssh", c.Host + ":" + path.Clean(c.Dir), c})
	}
	if c := in.Command; c != nil {
		list = append(list, plugin{"command", strings.Join(c.Run, " "), c})
	}
	return list
}

// ID names the target among those of its certificate, the same in every run: "nginx", "nginx:/opt/nginx/nginx.conf",
// "file:/etc/ssl/postgres". It is "" unless the entry has exactly one section.
func (in *Install) ID() string {
	list := in.plugins()
	if len(list) != 1 {
		return ""
	}
	if list[0].at == "" {
		return list[0].key
	}
	return list[0].key + ":" + list[0].at
}
