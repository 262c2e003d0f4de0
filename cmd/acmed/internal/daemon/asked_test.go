package daemon

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dns01"
	"github.com/acmed/acmed/pkg/config"
)

// TestAsked: the hash changes with everything that an operator mends, and with nothing else.
func TestAsked(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	setup := func() (*config.Config, *certs.Spec) {
		c := &config.Config{
			Email: "ops@example.com",
			Issuers: []config.Issuer{
				{Name: "ca", Directory: "https://ca.example/dir", EAB: &config.EAB{KID: "1", HMACFile: write("hmac", "a")}},
				{Name: "other", Directory: "https://other.example/dir"},
			},
			Solvers: []config.Solver{{Name: "dns", DNS01: &dns01.Config{Provider: "cloudflare", EnvFile: write("env", "TOKEN=a")}}, {Name: "unused"}},
		}
		return c, &certs.Spec{Name: "www", Issuers: []string{"ca"}, Solvers: []string{"dns"}, Profile: "classic"}
	}
	sum := func(change func(*config.Config, *certs.Spec)) string {
		c, spec := setup()
		change(c, spec)
		return digests{}.asked(c, spec)
	}
	nothing := sum(func(*config.Config, *certs.Spec) {})
	for name, c := range map[string]struct {
		change  func(*config.Config, *certs.Spec)
		differs bool
	}{
		"nothing":                 {func(*config.Config, *certs.Spec) {}, false},
		"an issuer of others":     {func(c *config.Config, _ *certs.Spec) { c.Issuers[1].Email = "x@example.com" }, false},
		"a solver of others":      {func(c *config.Config, _ *certs.Spec) { c.Solvers[1].Zones = []string{"example.com"} }, false},
		"profile":                 {func(_ *config.Config, s *certs.Spec) { s.Profile = "tlsserver" }, true},
		"names":                   {func(_ *config.Config, s *certs.Spec) { s.Identifiers = []certs.Identifier{{Value: "example.com"}} }, true},
		"key type":                {func(_ *config.Config, s *certs.Spec) { s.KeyTypes = []certs.KeyType{certs.RSA2048} }, true},
		"another solver first":    {func(_ *config.Config, s *certs.Spec) { s.Solvers = []string{"http-01", "dns"} }, true},
		"email":                   {func(c *config.Config, _ *certs.Spec) { c.Email = "new@example.com" }, true},
		"terms":                   {func(c *config.Config, _ *certs.Spec) { c.AgreeTOS = true }, true},
		"EAB key ID":              {func(c *config.Config, _ *certs.Spec) { c.Issuers[0].EAB.KID = "2" }, true},
		"EAB removed":             {func(c *config.Config, _ *certs.Spec) { c.Issuers[0].EAB = nil }, true},
		"EAB key in its file":     {func(*config.Config, *certs.Spec) { write("hmac", "b") }, true},
		"credentials in the file": {func(*config.Config, *certs.Spec) { write("env", "TOKEN=b") }, true},
		"credentials gone":        {func(*config.Config, *certs.Spec) { _ = os.Remove(filepath.Join(dir, "env")) }, true},
		"provider":                {func(c *config.Config, _ *certs.Spec) { c.Solvers[0].DNS01.Provider = "route53" }, true},
	} {
		if got := sum(c.change); (got != nothing) != c.differs {
			t.Errorf("%s: changes the hash: %v", name, got != nothing)
		}
	}
}
