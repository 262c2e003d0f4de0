package main

import (
	"strings"
	"testing"
)

// TestRedact: what gives access or names people is gone; what tells where secrets are stays.
func TestRedact(t *testing.T) {
	for in, want := range map[string]string{
		"-----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\nrest": "<redacted key>\nrest",
		"-----BEGIN PRIVATE KEY-----\ncut off":                                     "<redacted key>",
		"eab: { kid: abc-1, hmac_file: /etc/acmed/eab }":                           "eab: { kid: <redacted>, hmac_file: /etc/acmed/eab }",
		`secret_file: "/etc/acmed/secrets/hook"`:                                   `secret_file: "/etc/acmed/secrets/hook"`,
		"CF_DNS_API_TOKEN=abc.def":                                                 "CF_DNS_API_TOKEN=<redacted>",
		`"password": "two words", "x": 1`:                                          `"password": <redacted>, "x": 1`,
		"Authorization: Bearer abc def":                                            "Authorization: <redacted>",
		"proxy: http://user:pass@proxy.example:3128":                               "proxy: http://<redacted>@proxy.example:3128",
		"url: https://hooks.example/x?key=1&sig=2 refused":                         "url: https://hooks.example/x?<redacted> refused",
		"email: ops@example.com":                                                   "email: <email>",
		"key_type: ec256":                                                          "key_type: ec256",
		"names: [www.example.com]":                                                 "names: [www.example.com]",
	} {
		if got := redact(in); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
	if got := string(withoutComments([]byte("a: 1 # token abc\n# b\nc: 'x#y'"))); strings.Contains(got, "abc") || !strings.Contains(got, "x#y") {
		t.Errorf("comments: %q", got)
	}
}
