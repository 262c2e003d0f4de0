package preflight

import (
	"net/http"
	"strings"

	"github.com/acmed/acmed/internal/text"
)

// sign is one header by which a proxy gives itself away.
type sign struct {
	proxy  string
	header string
	has    string // in the value, lower case; "": any value
}

// signs lists what the operators of these networks document or have sent for years. The first match wins, so products
// that are also used inside a network come after it.
func signs() []sign {
	return []sign{
		{"Imperva", "X-Iinfo", ""},
		{"Imperva", "X-Cdn", "imperva"},
		{"Imperva", "X-Cdn", "incapsula"},
		{"Imperva", "Set-Cookie", "visid_incap_"},
		{"Imperva", "Set-Cookie", "incap_ses_"},
		{"Cloudflare", "Cf-Ray", ""},
		{"Cloudflare", "Server", "cloudflare"},
		{"Akamai", "Server", "akamai"},
		{"Akamai", "Akamai-Grn", ""},
		{"Akamai", "X-Akamai-Transformed", ""},
		{"Akamai", "X-Akamai-Request-Id", ""},
		{"CloudFront", "X-Amz-Cf-Id", ""},
		{"CloudFront", "Via", "cloudfront"},
		{"Fastly", "X-Fastly-Request-Id", ""},
		{"Fastly", "X-Served-By", "cache-"},
		{"Azure Front Door", "X-Azure-Ref", ""},
		{"Google", "Via", "1.1 google"},
		{"Sucuri", "X-Sucuri-Id", ""},
		{"Varnish", "X-Varnish", ""},
		{"Varnish", "Via", "varnish"},
		{"Caddy", "Via", "caddy"},
		{"Squid", "Via", "squid"},
	}
}

// proxyName names the proxy that an answer came through, "" if its headers do not tell.
func proxyName(h http.Header) string {
	for _, s := range signs() {
		for _, value := range h.Values(s.header) {
			if strings.Contains(strings.ToLower(value), s.has) {
				return s.proxy
			}
		}
	}
	if via := h.Get("Via"); via != "" {
		return "a proxy (Via: " + text.Short(via, text.Value) + ")"
	}
	return ""
}
