package catalog_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
)

func TestTable(t *testing.T) {
	seen, previous := map[string]bool{}, ""
	for p := range catalog.All() {
		for _, name := range append([]string{p.Name}, p.Aliases...) {
			if seen[name] {
				t.Errorf("%s is there twice", name)
			}
			seen[name] = true
		}
		if p.Name <= previous || p.Title == "" {
			t.Errorf("%q after %q with the title %q", p.Name, previous, p.Title)
		}
		previous = p.Name
		for _, way := range p.Required {
			for _, group := range way {
				if len(group) == 0 || strings.ToUpper(group[0]) != group[0] {
					t.Errorf("%s requires %q", p.Name, group)
				}
			}
		}
	}
	if want := 195 + 6; len(seen) != want {
		t.Errorf("%d names and aliases, want %d", len(seen), want)
	}
}

func TestLookup(t *testing.T) {
	for name, want := range map[string]string{
		"cloudflare": "cloudflare", "acmedns": "acme-dns", "dnsupdate": "rfc2136", "linodev4": "linode", "domainnameshop": "domeneshop",
	} {
		if p, err := catalog.Lookup(name); err != nil || p.Name != want {
			t.Errorf("%s: %v, %v", name, p, err)
		}
	}
	for name, want := range map[string]string{
		"cloudflair":              `did you mean "cloudflare"?`,
		"Route53":                 `did you mean "route53"?`,
		"":                        "acmed dns list",
		"nothing-like-a-provider": "acmed dns list",
	} {
		if _, err := catalog.Lookup(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", name, err, want)
		}
	}
}

// TestNothingRequired: only a provider that may use the identity of its machine can do without any variable.
func TestNothingRequired(t *testing.T) {
	var got []string
	for p := range catalog.All() {
		if catalog.Check(p.Name, nil) == nil {
			got = append(got, p.Name)
		}
	}
	if want := []string{"azuredns", "gcloud", "route53"}; !slices.Equal(got, want) {
		t.Errorf("%q pass without a variable, want %q", got, want)
	}
}

func TestCheck(t *testing.T) {
	type env = map[string]string
	for _, tc := range []struct {
		name, provider string
		env            env
		want           string // "": fine
	}{
		{"token", "cloudflare", env{"CF_DNS_API_TOKEN": "s3cret"}, ""},
		{"token from a file", "cloudflare", env{"CLOUDFLARE_DNS_API_TOKEN_FILE": "/run/token"}, ""},
		{"key and e-mail", "cloudflare", env{"CLOUDFLARE_EMAIL": "a@example.com", "CF_API_KEY": "s3cret"}, ""},
		{"key alone", "cloudflare", env{"CF_API_KEY": "s3cret"}, "lacks CLOUDFLARE_EMAIL, or CLOUDFLARE_DNS_API_TOKEN"},
		{"empty value", "digitalocean", env{"DO_AUTH_TOKEN": ""}, "lacks DO_AUTH_TOKEN"},
		{"misspelt", "digitalocean", env{"DO_AUT_TOKEN": "s3cret"}, "it has DO_AUT_TOKEN, did you mean DO_AUTH_TOKEN?"},
		{"either way", "alidns", env{"ALICLOUD_RAM_ROLE": "role"}, ""},
		{"the other way", "alidns", env{"ALICLOUD_ACCESS_KEY": "a", "ALICLOUD_SECRET_KEY": "b"}, ""},
		{"half a way", "alidns", env{"ALICLOUD_SECRET_KEY": "s3cret"}, "lacks ALICLOUD_RAM_ROLE, or ALICLOUD_ACCESS_KEY;"},
		{"finds its own credentials", "route53", nil, ""},
		{"read by other means", "dnsimple", nil, "lacks DNSIMPLE_OAUTH_TOKEN"},
		{"deprecated", "azure", env{"AZURE_CLIENT_ID": "a"}, "lacks LEGO_AZURE_BYPASS_DEPRECATION;"},
		{"deprecated and wanted", "azure", env{"LEGO_AZURE_BYPASS_DEPRECATION": "true"}, ""},
		{"no keys", "ovh", env{"OVH_ENDPOINT": "ovh-eu"}, "lacks OVH_APPLICATION_KEY and OVH_APPLICATION_SECRET and OVH_CONSUMER_KEY, or " +
			"OVH_CLIENT_ID and OVH_CLIENT_SECRET, or OVH_ACCESS_TOKEN;"},
		{"application key", "ovh", env{"OVH_APPLICATION_KEY": "a", "OVH_APPLICATION_SECRET": "b", "OVH_CONSUMER_KEY": "c"}, ""},
		{"half a client", "ovh", env{"OVH_CLIENT_ID": "a"}, "or OVH_CLIENT_SECRET, or"},
		{"client", "ovh", env{"OVH_CLIENT_ID": "a", "OVH_CLIENT_SECRET_FILE": "/run/secret"}, ""},
		{"access token", "ovh", env{"OVH_ACCESS_TOKEN": "a"}, ""},
		{"neither variables nor a file", "edgedns", nil, "lacks AKAMAI_HOST and AKAMAI_CLIENT_TOKEN and AKAMAI_CLIENT_SECRET and AKAMAI_ACCESS_TOKEN, or AKAMAI_EDGERC;"},
		{"four variables", "fastdns", env{"AKAMAI_HOST": "h", "AKAMAI_CLIENT_TOKEN": "a", "AKAMAI_CLIENT_SECRET": "b", "AKAMAI_ACCESS_TOKEN": "c"}, ""},
		{"a file", "edgedns", env{"AKAMAI_EDGERC": "/etc/acmed/edgerc"}, ""},
		{"a section", "edgedns", env{"AKAMAI_EDGERC_SECTION": "a", "AKAMAI_A_HOST": "h"}, ""},
		{"no passport", "hyperone", nil, "lacks HYPERONE_PASSPORT_LOCATION;"},
		{"passport", "hyperone", env{"HYPERONE_PASSPORT_LOCATION": "/etc/acmed/passport.json"}, ""},
		{"passport in a home directory", "hyperone", env{"HOME": "/var/lib/acmed"}, ""},
		{"no zone", "lightsail", env{"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}, "lacks DNS_ZONE;"},
		{"identity of the machine and a zone", "lightsail", env{"DNS_ZONE": "example.com"}, ""},
		{"unknown", "cloudfare", nil, `did you mean "cloudflare"?`},
		{"closed", "googledomains", nil, "has shut down"},
		{"needs a person", "manual", nil, "unattended"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := catalog.Check(tc.provider, tc.env)
			switch {
			case tc.want == "" && err != nil:
				t.Error(err)
			case tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("%v, want %q", err, tc.want)
			case err != nil && strings.Contains(err.Error(), "s3cret"):
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}
