package config

import (
	"slices"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// DefaultStateDir is state_dir where none is given.
const DefaultStateDir = "/var/lib/acmed"

// defaults is the configuration of an empty file. Lists have their defaults where they are looked up.
func defaults() *Config {
	return &Config{
		StateDir:  DefaultStateDir,
		Socket:    "/run/acmed/acmed.sock",
		Log:       Log{Level: "info", Format: "console"},
		Preflight: PreflightAdvisory,
		Renewal: Renewal{
			Before:      plan.DefaultRenewBefore,
			Schedule:    "@hourly",
			Splay:       30 * time.Minute,
			Concurrency: 8,
			Keep:        5,
		},
	}
}

const letsencryptStaging = "https://acme-staging-v02.api.letsencrypt.org/directory"

// builtinIssuers lists the public CAs whose directory URL need not be configured.
func builtinIssuers() []Issuer {
	return []Issuer{
		{Name: "letsencrypt", Directory: "https://acme-v02.api.letsencrypt.org/directory", Staging: letsencryptStaging},
		{Name: "letsencrypt-staging", Directory: letsencryptStaging, Staging: letsencryptStaging, OrdersPer3h: 1500},
		{Name: "zerossl", Directory: "https://acme.zerossl.com/v2/DV90"},
		{Name: "google", Directory: "https://dv.acme-v02.api.pki.goog/directory", Staging: "https://dv.acme-v02.test-api.pki.goog/directory"},
		{Name: "buypass", Directory: "https://api.buypass.com/acme/directory", Staging: "https://api.test4.buypass.no/acme/directory"},
		{Name: "sslcom", Directory: "https://acme.ssl.com/sslcom-dv-ecc"},
	}
}

// wantsEAB reports whether a built-in CA opens accounts only with an external account binding.
func wantsEAB(name string) bool {
	return slices.Contains([]string{"zerossl", "google", "sslcom"}, name)
}

// isLetsEncrypt reports whether the limits of Let's Encrypt's profiles hold for a built-in issuer.
func isLetsEncrypt(name string) bool { return name == "letsencrypt" || name == "letsencrypt-staging" }

func builtinIssuer(name string) (Issuer, bool) {
	list := builtinIssuers()
	i := slices.IndexFunc(list, func(is Issuer) bool { return is.Name == name })
	if i < 0 {
		return Issuer{}, false
	}
	return list[i], true
}

func builtinSolvers() []Solver {
	return []Solver{
		{Name: "http-01", HTTP01: &HTTP01{}},
		{Name: "tls-alpn-01", TLSALPN01: &TLSALPN01{}},
		{Name: "dns-persist-01", DNSPersist01: &dnspersist01.Config{}},
	}
}

// The values of preflight.
const (
	PreflightOff      = "off"
	PreflightAdvisory = "advisory"
	PreflightEnforce  = "enforce"
)

// The limits on new orders in three hours where none is configured; see [Issuer].
const (
	publicOrders = 300
	noLimit      = -1
)

// The lists that hold when neither a certificate nor the defaults section has one.
func defaultIssuers() []string  { return []string{"letsencrypt"} }
func defaultSolvers() []string  { return []string{"http-01", "tls-alpn-01"} }
func defaultKeyTypes() KeyTypes { return KeyTypes{certs.EC256} }
