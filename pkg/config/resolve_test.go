package config_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers/file"
	"github.com/acmed/acmed/pkg/installers/nginx"
)

const day = 24 * time.Hour

func TestSpec(t *testing.T) {
	dns := func(name string) certs.Identifier { return certs.Identifier{Type: certs.DNS, Value: name} }
	tests := []struct {
		name string
		c    config.Config
		cert config.Certificate
		want certs.Spec
	}{
		{
			"built-in defaults",
			config.Config{Renewal: config.Renewal{Before: 30 * day}},
			config.Certificate{Name: "www", Names: []string{"Example.com", "example.com."}},
			certs.Spec{Name: "www", Identifiers: []certs.Identifier{dns("example.com")}, KeyTypes: []certs.KeyType{certs.EC256},
				Issuers: []string{"letsencrypt"}, Solvers: []string{"http-01", "tls-alpn-01"}},
		},
		{
			"configured defaults",
			config.Config{
				Renewal:  config.Renewal{Before: 40 * day},
				Defaults: config.Defaults{Issuers: []string{"a", "b"}, Solvers: []string{"s"}, KeyType: config.KeyTypes{certs.RSA2048, certs.EC384}},
			},
			config.Certificate{Name: "www", Names: []string{"10.0.0.1"}},
			certs.Spec{Name: "www", Identifiers: []certs.Identifier{{Type: certs.IP, Value: "10.0.0.1"}},
				KeyTypes: []certs.KeyType{certs.EC384, certs.RSA2048}, Issuers: []string{"a", "b"}, Solvers: []string{"s"}, RenewBefore: 40 * day},
		},
		{
			"everything of its own",
			config.Config{
				Renewal:  config.Renewal{Before: 40 * day},
				Defaults: config.Defaults{Issuers: []string{"a"}, RenewBefore: 20 * day},
			},
			config.Certificate{Name: "www", Names: []string{"bücher.example"}, Issuers: []string{"i"}, Solvers: []string{"s"},
				KeyType: config.KeyTypes{certs.RSA4096}, ReuseKey: true, MustStaple: true, Profile: "p", PreferredChain: "c",
				Lifetime: 60 * day, RenewBefore: 30 * day,
				Install: []config.Install{{Nginx: &nginx.Config{}}, {Nginx: &nginx.Config{Config: "/opt/nginx.conf"}}, {File: &file.Config{Dir: "/etc/ssl/x/"}}}},
			certs.Spec{Name: "www", Identifiers: []certs.Identifier{dns("xn--bcher-kva.example")}, KeyTypes: []certs.KeyType{certs.RSA4096},
				ReuseKey: true, MustStaple: true, Profile: "p", PreferredChain: "c", Lifetime: 60 * day, Issuers: []string{"i"}, Solvers: []string{"s"},
				RenewBefore: 30 * day, Targets: []string{"nginx", "nginx:/opt/nginx.conf", "file:/etc/ssl/x"}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, tt.c.Spec(&tt.cert)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestIssuer(t *testing.T) {
	c := config.Config{Email: "ops@example.com", Preflight: "advisory", Issuers: []config.Issuer{
		{Name: "zerossl", EAB: &config.EAB{KID: "k"}, Email: "pki@example.com"},
		{Name: "internal", Directory: "https://ca.internal/directory", Private: true, MinLifetime: time.Minute},
		{Name: "busy", Directory: "https://ca.example/directory", OrdersPer3h: 7, Preflight: "enforce"},
	}}
	want := []config.Issuer{
		{Name: "letsencrypt", Staging: "https://acme-staging-v02.api.letsencrypt.org/directory", Directory: "https://acme-v02.api.letsencrypt.org/directory", Email: "ops@example.com", MinLifetime: time.Hour, OrdersPer3h: 300, Preflight: "advisory"},
		{Name: "letsencrypt-staging", Staging: "https://acme-staging-v02.api.letsencrypt.org/directory", Directory: "https://acme-staging-v02.api.letsencrypt.org/directory", Email: "ops@example.com", MinLifetime: time.Hour, OrdersPer3h: 1500, Preflight: "advisory"},
		{Name: "zerossl", Directory: "https://acme.zerossl.com/v2/DV90", Email: "pki@example.com", EAB: &config.EAB{KID: "k"}, MinLifetime: time.Hour, OrdersPer3h: 300, Preflight: "advisory"},
		{Name: "google", Staging: "https://dv.acme-v02.test-api.pki.goog/directory", Directory: "https://dv.acme-v02.api.pki.goog/directory", Email: "ops@example.com", MinLifetime: time.Hour, OrdersPer3h: 300, Preflight: "advisory"},
		{Name: "buypass", Staging: "https://api.test4.buypass.no/acme/directory", Directory: "https://api.buypass.com/acme/directory", Email: "ops@example.com", MinLifetime: time.Hour, OrdersPer3h: 300, Preflight: "advisory"},
		{Name: "sslcom", Directory: "https://acme.ssl.com/sslcom-dv-ecc", Email: "ops@example.com", MinLifetime: time.Hour, OrdersPer3h: 300, Preflight: "advisory"},
		{Name: "internal", Directory: "https://ca.internal/directory", Email: "ops@example.com", Private: true, MinLifetime: time.Minute, OrdersPer3h: -1, Preflight: "off"},
		{Name: "busy", Directory: "https://ca.example/directory", Email: "ops@example.com", MinLifetime: time.Hour, OrdersPer3h: 7, Preflight: "enforce"},
	}
	for _, w := range want {
		got, ok := c.Issuer(w.Name)
		if diff := cmp.Diff(w, got); !ok || diff != "" {
			t.Errorf("%s (-want +got):\n%s", w.Name, diff)
		}
	}
	if _, ok := c.Issuer("unknown"); ok {
		t.Error("an issuer that does not exist was found")
	}
}

func TestProbeServer(t *testing.T) {
	for text, want := range map[string]string{
		"": "", "192.0.2.53": "192.0.2.53:53", "192.0.2.53:5353": "192.0.2.53:5353", "2001:db8::53": "[2001:db8::53]:53", "[2001:db8::53]:1": "[2001:db8::53]:1",
	} {
		if got, err := (&config.Probe{Resolver: text}).Server(); got != want || err != nil {
			t.Errorf("%q: %q, %v", text, got, err)
		}
	}
}

func TestSolver(t *testing.T) {
	c := config.Config{Solvers: []config.Solver{
		{Name: "http-01", HTTP01: &config.HTTP01{Listen: "127.0.0.1:8080"}, Zones: []string{"Example.com.", "bücher.example"}},
		{Name: "webroot", HTTP01: &config.HTTP01{Webroot: "/srv"}},
		{Name: "empty"},
	}}
	tests := []struct {
		want config.Solver
		typ  challenges.Type
	}{
		{config.Solver{Name: "http-01", HTTP01: &config.HTTP01{Listen: "127.0.0.1:8080"}, Zones: []string{"example.com", "xn--bcher-kva.example"}}, challenges.HTTP01},
		{config.Solver{Name: "tls-alpn-01", TLSALPN01: &config.TLSALPN01{Listen: ":443"}}, challenges.TLSALPN01},
		{config.Solver{Name: "webroot", HTTP01: &config.HTTP01{Webroot: "/srv"}}, challenges.HTTP01},
		{config.Solver{Name: "empty"}, ""},
	}
	for _, tt := range tests {
		got, ok := c.Solver(tt.want.Name)
		if diff := cmp.Diff(tt.want, got); !ok || diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.want.Name, diff)
		}
		if got.Type() != tt.typ {
			t.Errorf("%s has the type %q, want %q", tt.want.Name, got.Type(), tt.typ)
		}
	}
	if _, ok := c.Solver("unknown"); ok {
		t.Error("a solver that does not exist was found")
	}
	if plain, _ := (&config.Config{}).Solver("http-01"); plain.HTTP01.Listen != ":80" {
		t.Errorf("the built-in http-01 listens on %q", plain.HTTP01.Listen)
	}
}
