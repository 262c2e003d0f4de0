package dns01

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/miekg/dns"
)

// ACMEDNSConfig is an acme-dns server (github.com/joohoi/acme-dns) and the accounts at it.
type ACMEDNSConfig struct {
	Server string `mapstructure:"server"` // https://auth.example.org
	// AccountsFile has a JSON object of accounts as the server's /register returns them, by domain; the files of lego and
	// of acme-dns-client have this form.
	AccountsFile string `mapstructure:"accounts_file"`
}

func (c *ACMEDNSConfig) validate() error {
	errs := []error{prefix("server", checkEndpoint(c.Server, true))}
	if !filepath.IsAbs(c.AccountsFile) {
		errs = append(errs, fmt.Errorf("accounts_file: %q is not an absolute path", c.AccountsFile))
	}
	return errors.Join(errs...)
}

// account is one registration. Its full domain is where the delegated name must point to.
type account struct {
	FullDomain string
	SubDomain  string
	Username   string
	Password   certs.Secret
}

func readAccounts(path string) (map[string]account, error) {
	text, err := readSecretFile(path)
	if err != nil {
		return nil, fmt.Errorf("acme-dns accounts: %w", err)
	}
	var raw map[string]struct{ FullDomain, SubDomain, Username, Password string }
	if err := json.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("acme-dns accounts %s: not a JSON object of accounts by domain", path)
	}
	accounts := map[string]account{}
	for domain, a := range raw {
		if a.FullDomain == "" || a.SubDomain == "" || a.Username == "" || a.Password == "" {
			return nil, fmt.Errorf("acme-dns accounts %s: %q lacks one of fulldomain, subdomain, username, password", path, domain)
		}
		accounts[domain] = account{dns.CanonicalName(a.FullDomain), a.SubDomain, a.Username, certs.Secret(a.Password)}
	}
	return accounts, nil
}

type acmeDNS struct {
	config ACMEDNSConfig
	poster poster
}

func newACMEDNS(c *ACMEDNSConfig) *acmeDNS { return &acmeDNS{config: *c, poster: newPoster()} }

// Present updates the account that the name is delegated to. The server keeps the last two values of an account, enough
// for a wildcard and its apex.
func (p *acmeDNS) Present(ctx context.Context, r Record) error {
	accounts, err := readAccounts(p.config.AccountsFile)
	if err != nil {
		return refused(err)
	}
	a, err := accountFor(accounts, r)
	if err != nil {
		return refused(fmt.Errorf("acme-dns accounts %s: %w", p.config.AccountsFile, err))
	}
	header := http.Header{"X-Api-User": {a.Username}, "X-Api-Key": {string([]byte(a.Password))}}
	return p.poster.post(ctx, strings.TrimSuffix(p.config.Server, "/")+"/update", header,
		map[string]string{"subdomain": a.SubDomain, "txt": r.Value})
}

// CleanUp does nothing: the server has no request for it, and the next two values push this one out.
func (p *acmeDNS) CleanUp(context.Context, Record) error { return nil }

func accountFor(accounts map[string]account, r Record) (account, error) {
	for _, a := range accounts {
		if a.FullDomain == r.FQDN {
			return a, nil
		}
	}
	if a, ok := accounts[r.Domain]; ok {
		return account{}, fmt.Errorf("%s is not delegated to the account of %s; add the record: %s CNAME %s",
			challengeName(r.Domain), r.Domain, challengeName(r.Domain), a.FullDomain)
	}
	var known []string
	for domain := range accounts {
		known = append(known, domain)
	}
	slices.Sort(known)
	return account{}, fmt.Errorf("no account for %s at %s (there are accounts for %.200s); POST to /register of the server makes one",
		r.Domain, r.FQDN, strings.Join(known, ", "))
}
