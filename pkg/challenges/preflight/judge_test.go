package preflight

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
)

func identifier(t *testing.T, text string) certs.Identifier {
	t.Helper()
	id, _, err := certs.ParseIdentifier(text)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func at(addr string, h, t Outcome) Address {
	return Address{Address: netip.MustParseAddr(addr), HTTP: HTTP{Outcome: h}, TLS: TLS{Outcome: t}}
}

func behind(proxy string, a Address) Address {
	a.HTTP.Proxy = proxy
	return a
}

func TestJudge(t *testing.T) {
	const four, four2, six = "192.0.2.1", "192.0.2.2", "2001:db8::1"
	for _, tc := range []struct {
		name   string
		id     string // default example.com
		found  []Address
		class  Class
		proxy  string
		prefer string
		avoid  string
	}{
		{name: "everything is ours", found: []Address{at(four, Ours, Ours)}, class: Direct, prefer: "tls-alpn-01 http-01 dns-01"},
		{name: "only http asked", found: []Address{at(four, Ours, Skipped)}, class: Direct, prefer: "http-01 dns-01"},
		{name: "only tls asked", found: []Address{at(four, Skipped, Ours)}, class: Direct, prefer: "tls-alpn-01 dns-01"},
		{name: "port 443 closed", found: []Address{at(four, Ours, Closed)}, class: Direct, prefer: "http-01 dns-01", avoid: "tls-alpn-01"},
		{name: "port 80 closed", found: []Address{at(four, Timeout, Ours)}, class: Direct, prefer: "tls-alpn-01 dns-01", avoid: "http-01"},
		{name: "a CDN passes http", found: []Address{behind("Imperva", at(four, Ours, Other))}, class: HTTPPasses, proxy: "Imperva", prefer: "http-01 dns-01", avoid: "tls-alpn-01"},
		{name: "a web server has TLS", found: []Address{at(four, Ours, Other)}, class: HTTPPasses, prefer: "http-01 dns-01", avoid: "tls-alpn-01"},
		{name: "a proxy for http only", found: []Address{behind("Varnish", at(four, Ours, Closed))}, class: HTTPPasses, proxy: "Varnish", prefer: "http-01 dns-01", avoid: "tls-alpn-01"},
		{name: "a CDN keeps everything", found: []Address{behind("Cloudflare", at(four, Other, Other))}, class: Terminated, proxy: "Cloudflare", prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "TLS in front, port 80 closed", found: []Address{at(four, Closed, Other)}, class: Terminated, prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "another web server", found: []Address{at(four, Other, Closed)}, class: Elsewhere, prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "nobody", found: []Address{at(four, Closed, Timeout)}, class: Unreachable, prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "one of two is elsewhere", found: []Address{at(four, Ours, Ours), at(four2, Other, Ours)}, class: Direct, prefer: "tls-alpn-01 dns-01", avoid: "http-01"},
		{name: "one of two is dead", found: []Address{at(four, Ours, Ours), at(four2, Timeout, Timeout)}, class: Unreachable, prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "IPv6 is dead", found: []Address{at(four, Ours, Ours), at(six, Timeout, Timeout)}, class: Direct, prefer: "tls-alpn-01 http-01 dns-01"},
		{name: "IPv6 is elsewhere", found: []Address{at(four, Ours, Ours), at(six, Other, Closed)}, class: Elsewhere, prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "only a dead IPv6", found: []Address{at(six, Timeout, Timeout)}, class: Unreachable, prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "no address", class: Unprobed, prefer: "dns-01"},
		{name: "wildcard", id: "*.example.com", class: Unprobed, prefer: "dns-01", avoid: "tls-alpn-01 http-01"},
		{name: "IP identifier", id: four, found: []Address{at(four, Ours, Other)}, class: HTTPPasses, prefer: "http-01", avoid: "tls-alpn-01"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if tc.id == "" {
				tc.id = "example.com"
			}
			v := Judge(&Findings{Addresses: tc.found}, identifier(t, tc.id), nil)
			got := []string{string(v.Class), v.Proxy, join(v.Prefer), join(v.Avoid)}
			if diff := cmp.Diff([]string{string(tc.class), tc.proxy, tc.prefer, tc.avoid}, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func join(types []challenges.Type) string {
	var list []string
	for _, t := range types {
		list = append(list, string(t))
	}
	return strings.Join(list, " ")
}

func TestProblems(t *testing.T) {
	v := Judge(&Findings{
		DNS:   DNS{Error: "broken"},
		Local: []Local{{Type: challenges.HTTP01, Error: "cannot listen on :80: nginx (pid 7) is listening there"}},
		Addresses: []Address{
			{Address: netip.MustParseAddr("192.0.2.1"), HTTP: HTTP{Outcome: Other, Status: 404, Server: "nginx"}, TLS: TLS{Outcome: Other, Names: []string{"a.example", "b.example"}, Error: "tls: no application protocol"}},
			{Address: netip.MustParseAddr("2001:db8::1"), HTTP: HTTP{Outcome: Closed, Error: "connection refused"}, TLS: TLS{Outcome: Timeout, Error: "no answer in time"}},
			{Address: netip.MustParseAddr("192.0.2.2"), HTTP: HTTP{Outcome: Other, Status: 503, Proxy: "Imperva", Redirects: []string{"https://www.example.com/"}}},
		},
	}, identifier(t, "192.0.2.1"), nil)
	want := []string{
		"DNS of 192.0.2.1: broken",
		"http-01 is not available on this machine: cannot listen on :80: nginx (pid 7) is listening there",
		"http-01 at 192.0.2.1: another server (nginx) answered with status 404",
		"tls-alpn-01 at 192.0.2.1: another TLS server answered with a certificate for a.example, b.example: tls: no application protocol",
		"http-01 at 2001:db8::1: connection refused",
		"tls-alpn-01 at 2001:db8::1: no answer in time",
		"http-01 at 192.0.2.2: Imperva answered with status 503 after a redirect to https://www.example.com/",
		"no challenge type is expected to work",
	}
	if diff := cmp.Diff(want, v.Problems); diff != "" {
		t.Error(diff)
	}
}

func TestJudgeCAA(t *testing.T) {
	ids := []string{"ca.example", "other-name.example"}
	issue := func(v string) CAARecord { return CAARecord{Tag: "issue", Value: v} }
	for _, tc := range []struct {
		name     string
		records  []CAARecord
		wildcard bool
		blocked  bool
		avoid    string
	}{
		{name: "none"},
		{name: "ours", records: []CAARecord{issue("strange.example"), issue("CA.example")}},
		{name: "our other name", records: []CAARecord{issue(" other-name.example ; policy=x")}},
		{name: "another CA", records: []CAARecord{issue("strange.example")}, blocked: true},
		{name: "nobody", records: []CAARecord{issue(";")}, blocked: true},
		{name: "only for reports", records: []CAARecord{{Tag: "iodef", Value: "mailto:a@example.com"}}},
		{name: "unknown", records: []CAARecord{{Tag: "tbs", Value: "x"}}},
		{name: "unknown and critical", records: []CAARecord{{Tag: "tbs", Value: "x", Critical: true}, issue("ca.example")}, blocked: true},
		{name: "wildcards elsewhere", records: []CAARecord{issue("ca.example"), {Tag: "issuewild", Value: "strange.example"}}},
		{name: "wildcard elsewhere", records: []CAARecord{issue("ca.example"), {Tag: "issuewild", Value: "strange.example"}}, wildcard: true, blocked: true, avoid: "tls-alpn-01 http-01"},
		{name: "wildcard by issue", records: []CAARecord{issue("ca.example")}, wildcard: true, avoid: "tls-alpn-01 http-01"},
		{name: "methods", records: []CAARecord{issue("ca.example; accounturi=https://a/1; ValidationMethods=dns-01")}, avoid: "tls-alpn-01 http-01"},
		{name: "methods of two records", records: []CAARecord{issue("ca.example;validationmethods=dns-01"), issue("ca.example;validationmethods=http-01,ca-own-01")}, avoid: "tls-alpn-01"},
		{name: "methods of one record", records: []CAARecord{issue("ca.example;validationmethods=dns-01"), issue("ca.example")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			id := identifier(t, "example.com")
			f := Findings{DNS: DNS{CAA: tc.records, Zone: "example.com"}, Addresses: []Address{at("192.0.2.1", Ours, Ours)}}
			if tc.wildcard {
				id, f.Addresses = identifier(t, "*.example.com"), nil
			}
			v := Judge(&f, id, ids)
			if v.Blocked != tc.blocked || join(v.Avoid) != tc.avoid {
				t.Errorf("blocked %v, avoid %q, %q", v.Blocked, join(v.Avoid), v.Problems)
			}
			if len(v.Problems) == 0 && (tc.blocked || tc.avoid != "" && !tc.wildcard) {
				t.Error("nothing is said about it")
			}
		})
	}
}

func TestProxyName(t *testing.T) {
	for text, want := range map[string]string{
		"X-Iinfo: 1-2-3 NNNN CT(0 0 0)": "Imperva",
		"X-CDN: Incapsula":              "Imperva",
		"X-CDN: Imperva":                "Imperva",
		"Set-Cookie: a=b|Set-Cookie: visid_incap_123=x; path=/": "Imperva",
		"CF-RAY: 8f-FRA":      "Cloudflare",
		"Server: cloudflare":  "Cloudflare",
		"Server: AkamaiGHost": "Akamai",
		"X-Amz-Cf-Id: abc|Via: 1.1 x.cloudfront.net (CloudFront)": "CloudFront",
		"X-Served-By: cache-fra-1|Via: 1.1 varnish":               "Fastly",
		"X-Varnish: 5":             "Varnish",
		"Via: 1.1 gateway\x1b[31m": "a proxy (Via: 1.1 gateway\\u001b[31m)",
		"Server: nginx":            "",
		"":                         "",
	} {
		h := http.Header{}
		for line := range strings.SplitSeq(text, "|") {
			key, value, _ := strings.Cut(line, ": ")
			h.Add(key, value)
		}
		if got := proxyName(h); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	if got := text.Short(strings.Repeat("é", 100), text.Value); len(got) > text.Value+3 {
		t.Errorf("%d bytes", len(got))
	}
}
