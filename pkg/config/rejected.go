package config

import (
	"fmt"
	"net/mail"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
)

// public lists the issuers of a certificate that are not private.
func (v *validator) public(cert *Certificate) []string {
	return slices.DeleteFunc(slices.Clone(v.c.issuersOf(cert)), func(name string) bool {
		is, known := v.issuers[name]
		return !known || is.Private
	})
}

// redundant reports a name that a wildcard of the same certificate covers.
func (v *validator) redundant(path string, cert *Certificate, ids []certs.Identifier) {
	public := v.public(cert)
	if len(public) == 0 {
		return
	}
	for i, name := range cert.Names[:min(len(cert.Names), maxProblems)] {
		id, _, err := certs.ParseIdentifier(name)
		_, domain, _ := strings.Cut(id.Value, ".")
		wildcard := certs.Identifier{Type: certs.DNS, Value: "*." + domain}
		if err != nil || id.Type != certs.DNS || id.IsWildcard() || !slices.Contains(ids, wildcard) {
			continue
		}
		at, text := fmt.Sprintf("%s.names[%d]", path, i), "%s is covered by %s of the same certificate; remove one of the two, CAs such as Let's Encrypt reject both together"
		if slices.ContainsFunc(public, isLetsEncrypt) {
			v.refused(at, text, id, wildcard)
		} else {
			v.warn(at, text, id, wildcard)
		}
	}
}

// ignored reports settings that a built-in CA rejects or ignores.
func (v *validator) ignored(path string, cert *Certificate) {
	for _, name := range v.public(cert) {
		_, builtin := builtinIssuer(name)
		switch {
		case isLetsEncrypt(name):
			if cert.Lifetime > 0 {
				v.refused(path+".lifetime", "%s rejects orders that ask for a lifetime; remove it, or set profile: shortlived", name)
			}
			if cert.MustStaple {
				v.refused(path+".must_staple", "%s rejects must-staple requests since it stopped OCSP in 2025; remove it", name)
			}
			if strings.HasPrefix(cert.PreferredChain, "DST Root") {
				v.warn(path+".preferred_chain", "%s no longer offers a chain to %s, so this is ignored", name, quote(cert.PreferredChain))
			}
		case builtin && cert.Profile != "":
			v.warn(path+".profile", "%s is not known to offer profiles", name)
		}
	}
}

// addresses reports email addresses that no public CA accepts, and account bindings that the CA ignores. Only [Check] reports
// the former: an account that exists already needs no address.
func (v *validator) addresses() {
	seen := map[string]bool{}
	for _, is := range v.used() {
		if is.Private {
			continue
		}
		i := slices.IndexFunc(v.c.Issuers, func(c Issuer) bool { return c.Name == is.Name })
		at := "email"
		if i >= 0 && v.c.Issuers[i].Email != "" {
			at = entryPath("issuers", is.Name) + ".email"
		}
		if reason, placeholder := badMailDomain(is.Email); reason != "" && !seen[at] && v.examine != nil {
			seen[at] = true
			say := v.report
			if placeholder { // of the guides; all else in the file may be tried with it
				say = v.warn
			}
			say(at, "%s: %s; use an address that you read, or remove it", quote(is.Email), reason)
		}
		if is.EAB != nil && isLetsEncrypt(is.Name) {
			v.warn(entryPath("issuers", is.Name)+".eab", "%s has no external account binding and ignores it", is.Name)
		}
	}
}

// badMailDomain is why no CA accepts an address as a contact, or "", and whether it is one that only stands for another.
func badMailDomain(address string) (reason string, placeholder bool) {
	a, err := mail.ParseAddress(address)
	if err != nil {
		return "", false // there is none, or it is reported as one that cannot be read
	}
	domain := strings.ToLower(a.Address[strings.LastIndexByte(a.Address, '@')+1:])
	for _, reserved := range []string{"example.com", "example.net", "example.org"} {
		if domain == reserved || strings.HasSuffix(domain, "."+reserved) {
			return "CAs reject addresses in " + reserved + ", which is reserved for documentation", true
		}
	}
	id, _, err := certs.ParseIdentifier(domain)
	if err != nil || id.Type != certs.DNS || certs.CheckPublic(id) != nil {
		return "CAs reject addresses outside of public domains", false
	}
	return "", false
}
