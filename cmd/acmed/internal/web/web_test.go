package web

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/cmd/acmed/internal/control"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/renewal"
)

// has checks that each of the texts is on the page.
func has(t *testing.T, page string, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(page, text) {
			t.Errorf("%q is missing", text)
		}
	}
}

func TestIndex(t *testing.T) {
	s := server(&fake{list: few(), reload: "acmed.yaml:1: <unknown> key"})
	code, page := get(t, s, "/")
	if code != http.StatusOK {
		t.Fatal(code, page)
	}
	has(t, page,
		"<h1><span class=\"dot bad-text\"></span>acmed needs attention, and 2 of 3 certificates</h1>", "Next renewal: www, in 38 days.",
		"a configuration file is broken</b> (<a href=\"/errors/configuration-broken\">configuration-broken</a>)\nconf.d/www.yaml, line 7</div>", `<a href="/?state=failing" class="bad-text"><b>1</b>failing</a>`,
		`<b><a href="/certificate/mail">mail</a></b><div class="soft small">mail.example.com, imap.example.com</div>`,
		"connection refused; is port 80 open?", `<td class="when keep" title="2026-12-15 12:00 UTC">in 24 days<meter`, "next attempt in 17 hours",
		"blog.example.com and 2 more", `<span class="bad-text">0 of 1</span>`, "1 to 3 of 3", "window of the CA 2026-12-28 to 2026-12-30",
	)
	if mail, www := strings.Index(page, "/certificate/mail"), strings.Index(page, "/certificate/www"); mail > www {
		t.Error("the worst does not come first")
	}
}

// TestFleetLine: the page says in one line how the fleet is, and nothing on a machine that is in none.
func TestFleetLine(t *testing.T) {
	for want, f := range map[string]*Fleet{
		"<br>Fleet web: 3 nodes.</p>":                               {Name: "web", Up: true, Contact: noon, Issue: 2, Install: 1},
		"<br>Fleet web: 1 node, the store was not reached yet.</p>": {Name: "web", Issue: 1},
		"<br>Fleet web: 2 nodes, the store answered last 2 hours ago, newer versions of 1 certificate are not served here yet.</p>": {
			Name: "web", Contact: noon.Add(-2 * time.Hour), Issue: 2, Behind: 1,
		},
	} {
		_, page := get(t, server(&fake{list: few(), fleet: f}), "/")
		has(t, page, want)
	}
	if _, page := get(t, server(&fake{list: few()}), "/"); strings.Contains(page, "Fleet") {
		t.Error("a machine in no fleet shows one")
	}
}

// TestPlots: bars stand where the times are, on an axis from 69.4 days ago to 73.4 days ahead, and weeks have their counts.
func TestPlots(t *testing.T) {
	_, page := get(t, server(&fake{list: append(few(), valid("more", 38))}), "/")
	has(t, page,
		`<rect class="fill-good" x="34.59%" y="107" width="40.62%" height="9" rx="2"/>`+ // www, for 58 days from 20 days ago
			`<rect class="fill-renew" x="75.21%" y="107" width="22.40%" height="9" rx="2"/>`+ // from its renewal in 38 days to its end in 70
			`<rect class="fill-window" x="74.50%" y="107" width="1.41%" height="9"/>`+ // the CA asks for two days around the renewal
			`<text class="name" x="0" y="102">www</text>`,
		`<title>mail: valid from 2026-09-16 to 2026-12-15, renews 2026-11-15, overdue</title><rect class="fill-bad" x="2.38%" y="17" width="42.01%"`,
		`<title>1 expire between 2026-12-12 and 2026-12-19</title><rect class="fill-good" x="28.17%" y="83" width="7.27%" height="67"`,
		`<title>2 expire between 2027-01-09 and 2027-01-16</title><rect class="fill-good" x="64.53%" y="16" width="7.27%" height="134"`,
		`<title>0 expire between 2026-11-21 and 2026-11-28</title>`,
	)
}

func TestHeadline(t *testing.T) {
	for want, list := range map[string][]renewal.Status{
		"No certificates are configured": nil,
		"The certificate is fine":        {valid("a", 1)},
		"All 1,200 certificates are fine": func() []renewal.Status {
			list := make([]renewal.Status, 1200)
			for i := range list {
				list[i] = valid("a", 1)
			}
			return list
		}(),
		"1 of 2 certificates needs attention": {valid("a", 1), {Name: "b", Health: renewal.HealthMissing}},
	} {
		if code, page := get(t, server(&fake{list: list}), "/"); code != http.StatusOK || !strings.Contains(page, want) {
			t.Errorf("%s: not said", want)
		}
	}
}

func TestFilters(t *testing.T) {
	s := server(&fake{list: many(1000)})
	for query, want := range map[string]string{
		"":                           "1 to 100 of 1,000",
		"?page=10":                   "901 to 1,000 of 1,000",
		"?page=99":                   "901 to 1,000 of 1,000",
		"?page=-1":                   "1 to 100 of 1,000",
		"?state=attention":           "1 to 4 of 4",
		"?state=held":                "1 to 1 of 1",
		"?state=nonsense":            "of 1,000",
		"?q=site-00012":              "1 to 1 of 1",
		"?q=WWW.site-0001*":          "1 to 10 of 10",
		"?q=%5B*":                    "No matching certificates.",
		"?q=nobody":                  "No matching certificates.",
		"?state=failing&expiring=30": "1 to 3 of 3",
		"?expiring=1&sort=next":      "No matching certificates.",
	} {
		if _, page := get(t, s, "/"+query); !strings.Contains(page, want) {
			t.Errorf("%q: %q is missing in %s", query, want, regexp.MustCompile(`[\d,]+ to [\d,]+ of [\d,]+`).FindString(page))
		}
	}
	_, page := get(t, s, "/?q=site&state=ok&page=2&sort=name")
	has(t, page, `href="/?q=site&amp;sort=name&amp;state=ok" rel="prev"`, `href="/?page=3&amp;q=site&amp;sort=name&amp;state=ok" rel="next"`, `aria-sort="ascending"><a href="/?q=site&amp;sort=name&amp;state=ok"`)
	if first, second := strings.Index(page, "/certificate/site-00110"), strings.Index(page, "/certificate/site-00111"); first < 0 || first > second {
		t.Error("not in the order of names")
	}
}

func TestCertificate(t *testing.T) {
	s := server(&fake{list: few()})
	code, page := get(t, s, "/certificate/www")
	if code != http.StatusOK {
		t.Fatal(code)
	}
	has(t, page, `<h1>www<span class="badge good-tint">ok</span></h1>`, "<td>example.com</td><td>http-01</td>",
		`<td>shop.example.com</td><td>tls-alpn-01<div class="soft small">http-01 failed: connection refused</div></td>`, `<td>firmware-1.2</td><td class="keep"><span class="good-text">yes</span></td>`,
		"it does not know ISRG Root X1", "acmed chose a random time in this window",
		"<code>https://ca.example/docs/ari</code>", "CN=R12,O=Let&#39;s Encrypt,C=US", "2026-09-02 12:00 UTC", "file:/etc/ssl/postgres", `<span class="badge good-tint">active</span>`)
	if strings.Contains(page, `href="https://`) {
		t.Error("a link leads elsewhere")
	}
	_, page = get(t, s, "/certificate/mail")
	has(t, page, "30 days before expiry, as configured. The CA suggests no renewal window.", "Failed 4 times in a row.", "\nNext attempt in 17 hours.")
	code, page = get(t, s, "/certificate/%3Cb%3Eno%E2%80%AEbody")
	if code != http.StatusNotFound {
		t.Error(code)
	}
	has(t, page, "No certificate is named &lt;b&gt;no\\u202ebody")
	if code, page := get(t, server(&fake{list: []renewal.Status{{Name: "new", Names: []string{"new.example.com"}, Health: renewal.HealthMissing, Message: "there is no certificate yet"}}}), "/certificate/new"); code != http.StatusOK {
		t.Error(code, page)
	}
}

// TestHostile: what a CA or a server said is text, whatever is in it.
func TestHostile(t *testing.T) {
	s := valid("www", 10, "example.com")
	s.Health, s.Error = renewal.HealthFailing, "</style><script>alert(1)</script>\x1b[2J\u202etxt.exe"+strings.Repeat("x", 10_000)
	r := *s.Renewal
	r.URL, s.Renewal, s.Issuer = "javascript:alert(1)", &r, `"><img src=x onerror=alert(1)>`
	srv := server(&fake{list: []renewal.Status{s}})
	for _, address := range []string{"/", "/certificate/www", "/?q=%22%3E%3Cscript%3E&sort=%3Cb%3E"} {
		_, page := get(t, srv, address)
		for _, bad := range []string{"<script", "<img", "\x1b", "\u202e", `href="javascript`} {
			if strings.Contains(page, bad) {
				t.Errorf("%s has %q", address, bad)
			}
		}
	}
	if _, page := get(t, srv, "/"); len(page) > 20_000 {
		t.Errorf("a long error makes a page of %d bytes", len(page))
	}
}

func TestGuard(t *testing.T) {
	s := server(&fake{list: few()})
	for _, tt := range []struct {
		method, host string
		want         int
	}{
		{"GET", "127.0.0.1:9540", 200}, {"GET", "[::1]:9540", 200}, {"GET", "localhost:9540", 200}, {"GET", "LOCALHOST.", 200},
		{"GET", "192.0.2.1", 200}, {"HEAD", "web1.example.com:9540", 200}, {"GET", "Web1.Example.com", 200},
		{"GET", "attacker.example:9540", 421}, {"GET", "127.0.0.1.attacker.example", 421}, {"GET", "localhost.attacker.example", 421}, {"GET", "", 421},
		{"POST", "localhost", 405}, {"DELETE", "localhost", 405}, {"OPTIONS", "localhost", 405},
	} {
		r := httptest.NewRequestWithContext(t.Context(), tt.method, "http://x/", nil)
		r.Host = tt.host
		w := httptest.NewRecorder()
		s.http.Handler.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s %q: %d, want %d", tt.method, tt.host, w.Code, tt.want)
		}
		h := w.Header()
		if !strings.HasPrefix(h.Get("Content-Security-Policy"), "default-src 'none'; style-src 'sha256-") || h.Get("X-Content-Type-Options") != "nosniff" ||
			h.Get("Referrer-Policy") != "no-referrer" || !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") {
			t.Errorf("%s %q: headers %v", tt.method, tt.host, h)
		}
	}
	for _, address := range []string{"/nowhere", "/certificate/", "/certificate/a/b", "/favicon.ico"} {
		if code, _ := get(t, s, address); code != http.StatusNotFound {
			t.Errorf("%s: %d", address, code)
		}
	}
}

// TestHealth: the health check fails when a condition or a certificate needs attention, and names each of them with its
// cause; the check for those who restart what fails does not.
func TestHealth(t *testing.T) {
	f := &fake{list: []renewal.Status{valid("www", 20, "example.com")}}
	check := func(path string, code int, want string) {
		t.Helper()
		if got, text := get(t, server(f), path); got != code || text != want { // a new server has nothing in its cache
			t.Errorf("%s: %d\n%s, want %d\n%s", path, got, text, code, want)
		}
	}
	check("/healthz", http.StatusOK, "ok\n")
	for _, health := range states() {
		f.list[0].Health = health
		if health != renewal.HealthOK {
			check("/healthz", http.StatusServiceUnavailable, string(health)+": www\n")
		}
		check("/livez", http.StatusOK, "ok\n")
	}
	f.list = few()
	f.list[1].Code, f.list[2].Targets[0].Code = advice.PortClosed, advice.ServerTestFailed
	failing := "port-closed: the CA could not connect: mail\nserver-test-failed: the server's configuration test fails: api\n"
	check("/healthz", http.StatusServiceUnavailable, failing)

	f.progress = renewal.ErrStarting
	check("/livez", http.StatusOK, "ok\n")
	f.progress = errors.New("no job has ended since 10:00")
	check("/livez", http.StatusServiceUnavailable, "no job has ended since 10:00\n")
	f.conditions = []control.Condition{
		{Code: advice.ClockWrong, Detail: "the clock is 1h ahead"},
		{Code: advice.ConfigBroken, Detail: "conf.d/www.yaml:7: root:x:0:0", File: "conf.d/www.yaml", Line: 7},
	}
	check("/healthz", http.StatusServiceUnavailable,
		"clock-wrong: the clock of this machine is wrong: the clock is 1h ahead\nconfiguration-broken: a configuration file is broken: conf.d/www.yaml, line 7\n"+failing)
	s := server(f)
	if _, page := get(t, s, "/"); strings.Contains(page, "root:x") {
		t.Error("the page quotes a configuration file")
	}
	if code, page := get(t, s, "/errors/clock-wrong"); code != http.StatusOK || !strings.HasPrefix(page, "# clock-wrong\n") {
		t.Error(code, page)
	}
	if code, _ := get(t, s, "/errors/README"); code != http.StatusNotFound {
		t.Error(code)
	}
	f.conditions, f.list = nil, many(40_000)
	if _, text := get(t, server(f), "/healthz"); strings.Count(text, "\n") != healthMost+1 || !strings.HasSuffix(text, " of 40,000 certificates need attention; 'acmed status --failing' lists them\n") {
		t.Error(text)
	}
	f.err = errors.New("disk on fire: secret path")
	for _, address := range []string{"/", "/metrics", "/healthz"} {
		if code, text := get(t, server(f), address); code != http.StatusServiceUnavailable || strings.Contains(text, "secret") {
			t.Error(address, code, text)
		}
	}
}

// TestCache: many visitors cost one look at the certificates, and a slow look is used longer.
func TestCache(t *testing.T) {
	f := &fake{list: few()}
	now := noon
	c := newCache(f, func() time.Time { return now })
	ask := func(want int64) {
		t.Helper()
		if _, err := c.get(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := f.asked.Load(); got != want {
			t.Errorf("asked %d times, want %d", got, want)
		}
	}
	ask(1)
	now = now.Add(freshFor - 1)
	ask(1)
	now = now.Add(1)
	ask(2)
	c.last.took = time.Second
	now = now.Add(restFactor*time.Second - 1)
	ask(2)
	now = now.Add(1)
	ask(3)
	now = now.Add(-time.Hour) // the clock was set back
	ask(4)
}

// TestFleet: with 10,000 certificates a page is small, and so are the metrics; bench measures how long they take.
func TestFleet(t *testing.T) {
	s := server(&fake{list: many(10_000)})
	for _, tt := range []struct {
		address string
		bytes   int
	}{
		{"/", 200 << 10}, {"/?sort=name&page=50", 200 << 10}, {"/?q=site-0", 200 << 10}, {"/metrics", 8 << 20}, {"/certificate/site-04711", 30 << 10},
	} {
		if code, page := get(t, s, tt.address); code != http.StatusOK || len(page) > tt.bytes {
			t.Errorf("%s: status %d, %d bytes; at most %d", tt.address, code, len(page), tt.bytes)
		}
	}
}
