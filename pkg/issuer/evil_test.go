package issuer_test

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

// kind is the type of an error as the caller sees it.
func kind(err error) string {
	var limit *certs.RateLimitError
	var unavailable *certs.UnavailableError
	var permanent *certs.PermanentError
	var vet *certs.VetError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &vet):
		return "vet"
	case errors.As(err, &limit):
		return "limit"
	case errors.As(err, &permanent):
		return "permanent"
	case len(certs.Validations(err)) > 0:
		return "validation"
	case errors.As(err, &unavailable):
		return "unavailable"
	}
	return "plain"
}

// every endpoint that an order meets.
func orderEndpoints() []acmetest.Endpoint {
	return []acmetest.Endpoint{acmetest.Directory, acmetest.NewNonce, acmetest.NewAccount, acmetest.NewOrder, acmetest.Authorization,
		acmetest.Challenge, acmetest.Order, acmetest.Finalize, acmetest.Certificate}
}

// memoryLimit is what one order may allocate in all whatever the CA sends, and a quarter of it is what may stay. The CA is
// in the same process and counts as well.
const memoryLimit = 64 << 20

// bounded runs f and checks what it cost. It must not run beside other tests.
func bounded(t *testing.T, f func()) {
	t.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	start := time.Now()
	f()
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("took %s", took)
	}
	runtime.ReadMemStats(&after)
	if used := after.TotalAlloc - before.TotalAlloc; used > memoryLimit {
		t.Errorf("allocated %d MiB", used>>20)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > memoryLimit/4 {
		t.Errorf("%d MiB stay on the heap", used>>20)
	}
}

// A failure of any endpoint, for a while or for good.
func TestFailingEndpoints(t *testing.T) {
	for _, fault := range []struct {
		name  string
		fault acmetest.Fault
		want  string
	}{
		{"500", acmetest.Problem(500, "serverInternal", "oops", ""), "unavailable"},
		{"502 html", acmetest.Answer(502, http.Header{"Content-Type": {"text/html"}}, "<html><title>Bad\x1b[31m Gateway</title>"), "unavailable"},
		{"503", acmetest.Unavailable(""), "unavailable"},
		{"503 with date", acmetest.Unavailable(time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)), "limit"},
		{"503 with seconds", acmetest.Unavailable("7200"), "limit"},
		{"429", acmetest.RateLimited("7200"), "limit"},
		{"reset", acmetest.Reset(), "unavailable"},
		{"cut", acmetest.Cut(5), "unavailable"},
		{"empty", acmetest.Answer(200, nil, ""), "unavailable"},
		{"not json", acmetest.Answer(200, nil, "\x1b]0;hello\x07"), "unavailable"},
	} {
		for _, endpoint := range orderEndpoints() {
			t.Run(fault.name+" "+string(endpoint), func(t *testing.T) {
				t.Parallel()
				if endpoint == acmetest.NewNonce && fault.name == "cut" {
					t.Skip("a HEAD answer has no body to cut")
				}
				w := newWorld(t, acmetest.WithMiddleware(acmetest.At(fault.fault, endpoint)))
				w.remake(func(c *issuer.Config) { c.OrderTimeout = 2 * time.Second })
				_, err := w.obtain("example.com")
				want := fault.want
				switch name := fault.name; {
				case endpoint == acmetest.Certificate && (name == "not json" || name == "empty"):
					want = "vet"
				case name == "cut" && (endpoint == acmetest.Finalize || endpoint == acmetest.Challenge):
					want = "ok" // the order says that it arrived
				}
				if got := kind(err); got != want {
					t.Errorf("got %s: %v, want %s", got, err, want)
				}
				checkText(t, err)
				if left := w.solver.left(); left != 0 {
					t.Errorf("%d answers left", left)
				}
				if n := w.ca.Requests(endpoint); n > 8 {
					t.Errorf("%d requests", n)
				}
			})
		}
	}
}

// A failure that passes is not even noticed.
func TestPassingFailures(t *testing.T) {
	for name, fault := range map[string]acmetest.Fault{
		"500": acmetest.Problem(500, "serverInternal", "oops", ""), "reset": acmetest.Reset(), "cut": acmetest.Cut(5), "lost": acmetest.ResetAfter(),
	} {
		for _, endpoint := range orderEndpoints() {
			t.Run(name+" "+string(endpoint), func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.Times(1, fault), endpoint)))
				w.mustObtain(w.request("example.com"))
				if n := w.ca.Issued(); n != 1 {
					t.Errorf("%d certificates issued", n)
				}
			})
		}
	}
}

func checkText(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if len(text) > 2600 {
		t.Errorf("an error text of %d bytes", len(text))
	}
	if strings.ContainsFunc(text, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
		t.Errorf("control characters in %q", text)
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Now()
	date := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
	for _, tc := range []struct {
		header   string
		min, max time.Duration
	}{
		{"120", 2 * time.Minute, 2 * time.Minute},
		{date(2 * time.Hour), 119 * time.Minute, 121 * time.Minute},
		{"", time.Minute, time.Minute},
		{"0", time.Minute, time.Minute},
		{"-5", time.Minute, time.Minute},
		{"soon", time.Minute, time.Minute},
		{date(-time.Hour), time.Minute, time.Minute},
		{"315360000", 24 * time.Hour, 24 * time.Hour},
		{"9223372036854775807", 24 * time.Hour, 24 * time.Hour},
		{"99999999999999999999", time.Minute, time.Minute},
		{date(87600 * time.Hour), 24 * time.Hour, 24 * time.Hour},
	} {
		t.Run(tc.header, func(t *testing.T) {
			w := newWorld(t)
			clock := now
			w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return clock } })
			w.mustObtain(w.request("example.com"))
			w.ca.Use(acmetest.At(acmetest.RateLimited(tc.header), acmetest.NewOrder))
			w.ca.ResetRequests()
			_, err := w.obtain("example.com")
			var limit *certs.RateLimitError
			if !errors.As(err, &limit) {
				t.Fatalf("got %v", err)
			}
			if wait := limit.At.Sub(now); wait < tc.min || wait > tc.max {
				t.Errorf("wait %s, want %s to %s", wait, tc.min, tc.max)
			}
			w.remake(nil) // the whole account pauses, also after a restart
			if _, err := w.obtain("other.example.com"); !errors.As(err, &limit) {
				t.Errorf("the account does not pause: %v", err)
			}
			if n := w.ca.Requests(acmetest.NewOrder); n != 1 {
				t.Errorf("%d orders", n)
			}
			w.ca.Use() // but other names need not wait longer than a minute
			clock = clock.Add(time.Minute)
			w.mustObtain(w.request("other.example.com"))
		})
	}
}

// No pause outlasts the certificate that is to be replaced.
func TestRetryAfterNearTheEnd(t *testing.T) {
	w := newWorld(t)
	req := w.request("example.com")
	req.Replaces = w.mustObtain(req)
	clock := req.Replaces.Leaf.NotAfter.Add(-4 * time.Hour)
	w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return clock } })
	w.ca.Use(acmetest.At(acmetest.RateLimited("86400"), acmetest.NewOrder))
	_, err := w.Obtain(t.Context(), req)
	var limit *certs.RateLimitError
	if !errors.As(err, &limit) || !limit.At.Equal(clock.Add(2*time.Hour)) {
		t.Errorf("got %v", err)
	}
}

// Maintenance stops the account for as long as the CA says.
func TestMaintenance(t *testing.T) {
	w := newWorld(t)
	clock := time.Now()
	w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return clock } })
	w.mustObtain(w.request("example.com"))
	w.ca.Use(acmetest.At(acmetest.Unavailable("7200"), acmetest.NewOrder))
	w.ca.ResetRequests()
	for range 3 {
		if _, err := w.obtain("example.com"); kind(err) != "limit" {
			t.Fatalf("got %v", err)
		}
		clock = clock.Add(30 * time.Minute)
	}
	if n := w.ca.Requests(acmetest.NewOrder); n != 1 {
		t.Errorf("%d orders", n)
	}
	w.ca.Use()
	clock = clock.Add(time.Hour)
	w.mustObtain(w.request("example.com"))
}

func TestBadNonces(t *testing.T) {
	t.Run("half", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, acmetest.WithNonceReject(50))
		w.mustObtain(w.request("a.example.com", "b.example.com", "c.example.com"))
	})
	t.Run("all", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.mustObtain(w.request("example.com"))
		w.ca.ResetRequests()
		w.ca.Use(acmetest.At(acmetest.Problem(400, "badNonce", "again", ""), acmetest.NewOrder))
		if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
			t.Errorf("got %v", err)
		}
		if n := w.ca.Requests(acmetest.NewOrder); n != 20 {
			t.Errorf("%d orders", n)
		}
	})
}

// What a hostile CA can send is bounded in memory and time, whatever it is and wherever.
func TestHostileBodies(t *testing.T) {
	for _, fault := range []struct {
		name  string
		fault acmetest.Fault
	}{
		{"endless body", acmetest.EndlessBody()},
		{"endless headers", acmetest.EndlessHeaders()},
		{"gzip bomb", acmetest.GzipBomb(32 << 20)},
		{"huge problem", acmetest.Answer(400, nil, `{"type":"urn:ietf:params:acme:error:malformed","detail":"`+strings.Repeat("\\u001b[31m", 1<<17)+`"}`)},
		{"huge html", acmetest.Answer(500, nil, strings.Repeat("<b>\x1b", 1<<18))},
		{"deep json", acmetest.Answer(200, nil, strings.Repeat(`{"a":`, 50_000))},
	} {
		for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewOrder, acmetest.Certificate} {
			t.Run(fault.name+" "+string(endpoint), func(t *testing.T) {
				w := newWorld(t, acmetest.WithMiddleware(acmetest.At(fault.fault, endpoint)))
				w.remake(func(c *issuer.Config) { c.OrderTimeout = time.Second })
				bounded(t, func() {
					_, err := w.obtain("example.com")
					if err == nil {
						t.Error("a certificate was obtained")
					}
					checkText(t, err)
				})
			})
		}
	}
}

// A directory at one byte a second ends at the deadline of the request.
func TestSlowBody(t *testing.T) {
	w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.Throttle(1), acmetest.Directory)))
	w.remake(func(c *issuer.Config) { c.RequestTimeout = 100 * time.Millisecond })
	start := time.Now()
	if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestRedirects(t *testing.T) {
	var other atomic.Int64
	stranger := acmetest.Start(t, acmetest.WithMiddleware(func(_ acmetest.Endpoint, next http.Handler) http.Handler {
		other.Add(1)
		return next
	}))
	check := func(status int, to string, endpoint acmetest.Endpoint) {
		t.Run(fmt.Sprint(status, to, endpoint), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.Redirect(status, to), endpoint)))
			w.remake(func(c *issuer.Config) { c.OrderTimeout = time.Second })
			_, err := w.obtain("example.com")
			if kind(err) != "unavailable" {
				t.Errorf("got %v", err)
			}
			checkText(t, err)
		})
	}
	for _, endpoint := range orderEndpoints() {
		check(http.StatusTemporaryRedirect, stranger.Directory, endpoint)
	}
	for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewOrder} {
		for _, status := range []int{301, 302, 303, 308} {
			check(status, stranger.Directory, endpoint)
		}
		for _, to := range []string{"http://127.0.0.1:1/", "https://169.254.169.254/latest", "file:///etc/passwd", "https://a:b@127.0.0.1/", "::", ""} {
			check(http.StatusTemporaryRedirect, to, endpoint)
		}
	}
	t.Cleanup(func() {
		if n := other.Load(); n != 0 {
			t.Errorf("a stranger got %d requests", n)
		}
	})
}

func TestDirectoryRedirect(t *testing.T) {
	for _, tc := range []struct {
		hops int
		want string
	}{{1, "ok"}, {3, "ok"}, {4, "unavailable"}} {
		w := newWorld(t)
		var seen atomic.Int64
		w.ca.Use(func(e acmetest.Endpoint, next http.Handler) http.Handler {
			if e == acmetest.Directory && int(seen.Add(1)) <= tc.hops {
				return acmetest.Redirect(http.StatusFound, "/dir")(next)
			}
			return next
		})
		if _, err := w.obtain("example.com"); kind(err) != tc.want {
			t.Errorf("%d hops: got %v", tc.hops, err)
		}
	}
}

func TestDirectoryURLs(t *testing.T) {
	for name, address := range map[string]string{
		"other host": "https://127.0.0.2/order", "plain": "http://127.0.0.1/order", "file": "file:///etc/passwd", "user": "https://a:hunter2@127.0.0.1/order",
		"port 25": "https://127.0.0.1:25/order", "zone": "https://[fe80::1%25eth0]/order", "long": "https://127.0.0.1/" + strings.Repeat("a", 10_000),
		"relative": "/order", "garbage": "\x01", "script": "javascript:alert(1)",
	} {
		for _, key := range []string{"newNonce", "newAccount", "newOrder", "revokeCert", "keyChange", "renewalInfo"} {
			if key != "newOrder" && name != "other host" {
				continue
			}
			t.Run(name+" "+key, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc[key] = address }), acmetest.Directory)))
				_, err := w.obtain("example.com")
				if kind(err) != "unavailable" || strings.Contains(err.Error(), "hunter2") {
					t.Errorf("got %v", err)
				}
				checkText(t, err)
				if n := w.ca.Requests(acmetest.Directory); n != 1 {
					t.Errorf("the directory was fetched %d times", n)
				}
			})
		}
	}
}

func TestDirectoryHosts(t *testing.T) {
	w := newWorld(t)
	other := strings.Replace(w.ca.Directory, "127.0.0.1", "localhost", 1)
	host := strings.TrimSuffix(strings.TrimPrefix(other, "https://"), "/dir")
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["newNonce"] = "https://" + host + "/nonce-plz" }), acmetest.Directory))
	if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
		t.Errorf("got %v", err)
	}
	w.remake(func(c *issuer.Config) { c.Hosts = []string{host} })
	if _, err := w.obtain("example.com"); err != nil {
		t.Errorf("a configured host: %v", err)
	}
}

// A public CA has no private address, whatever its name says.
func TestPrivateAddressOfPublicCA(t *testing.T) {
	w := newWorld(t)
	w.remake(func(c *issuer.Config) { c.Private = false })
	_, err := w.obtain("www.acmed.dev")
	if kind(err) != "unavailable" || !strings.Contains(err.Error(), "not a public address") {
		t.Errorf("got %v", err)
	}
	if n := len(w.ca.AllRequests()); n != 0 {
		t.Errorf("requests to %d endpoints", n)
	}
	if _, err := w.obtain("www.internal"); kind(err) != "permanent" {
		t.Errorf("a private name: got %v", err)
	}
}

func TestDirectoryTLS(t *testing.T) {
	for name, tc := range map[string]struct {
		fault acmetest.ServerFault
		hint  string
	}{
		"wrong name": {acmetest.ServerWrongName, "not"}, "expired": {acmetest.ServerExpired, "clock"}, "unknown root": {acmetest.ServerUnknownRoot, "ca_file"},
	} {
		w := newWorld(t, acmetest.WithServerFault(tc.fault))
		_, err := w.obtain("example.com")
		if kind(err) != "unavailable" || !strings.Contains(err.Error(), tc.hint) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

func TestNonces(t *testing.T) {
	for name, value := range map[string]string{"empty": "", "spaces": "a b", "padding": "abc=", "long": strings.Repeat("a", 1000), "quotes": `a"b`} {
		w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.SetHeader("Replay-Nonce", value), acmetest.NewNonce)))
		if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
			t.Errorf("%s: got %v", name, err)
		}
		w.ca.Use(acmetest.At(acmetest.SetHeader("Replay-Nonce", value), acmetest.NewOrder)) // there it is merely ignored
		if _, err := w.obtain("example.com"); err != nil {
			t.Errorf("%s at another endpoint: %v", name, err)
		}
	}
	w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.SetHeader("Replay-Nonce", strings.Repeat("a", 1<<20)), acmetest.NewNonce)))
	bounded(t, func() {
		if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
			t.Errorf("a nonce of a megabyte: %v", err)
		}
	})
}

func TestTokens(t *testing.T) {
	pad := strings.Repeat("a", 30)
	for name, token := range map[string]string{
		"slash": pad + "/", "dots": "../../../" + pad, "nul": pad + "\x00", "padding": pad + "=", "megabyte": strings.Repeat("a", 900_000), "empty": "", "short": "abc",
	} {
		w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.Token(token), acmetest.Authorization)))
		_, err := w.obtain("example.com")
		if kind(err) != "unavailable" || w.solver.presented != 0 || w.ca.Requests(acmetest.Challenge) != 0 {
			t.Errorf("%s: got %v, %d presented", name, err, w.solver.presented)
		}
		checkText(t, err)
	}
}

func TestForeignAuthorizations(t *testing.T) {
	order := func(change func(doc map[string]any)) acmetest.Middleware {
		return acmetest.At(acmetest.ChangeJSON(change), acmetest.NewOrder)
	}
	for name, fault := range map[string]acmetest.Middleware{
		"other name": acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
			doc["identifier"] = map[string]any{"type": "dns", "value": "bank.example.net"}
		}), acmetest.Authorization),
		"wildcard": acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["wildcard"] = true }), acmetest.Authorization),
		"invalid":  acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["status"] = "invalid" }), acmetest.Authorization),
		"too many": order(func(doc map[string]any) {
			list := make([]any, 10_000)
			for i := range list {
				list[i] = fmt.Sprintf("https://127.0.0.1/authz/%d", i)
			}
			doc["authorizations"] = list
		}),
		"none":      order(func(doc map[string]any) { doc["authorizations"] = []any{} }),
		"elsewhere": order(func(doc map[string]any) { doc["authorizations"] = []any{"https://127.0.0.2/authz"} }),
		"finalize":  order(func(doc map[string]any) { doc["finalize"] = "https://169.254.169.254/" }),
		"other order": order(func(doc map[string]any) {
			doc["identifiers"] = []any{map[string]any{"type": "dns", "value": "x.example"}}
		}),
		"location":       acmetest.At(acmetest.SetHeader("Location", "https://127.0.0.2/order"), acmetest.NewOrder),
		"no location":    acmetest.At(acmetest.SetHeader("Location", ""), acmetest.NewOrder),
		"account":        acmetest.At(acmetest.SetHeader("Location", "https://127.0.0.2/account"), acmetest.NewAccount),
		"certificate":    acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["certificate"] = "https://127.0.0.2/cert" }), acmetest.Order),
		"challenge":      challengeURL("https://127.0.0.2/chall"),
		"challenge file": challengeURL("file:///etc/passwd"),
	} {
		w := newWorld(t, acmetest.WithMiddleware(fault))
		bounded(t, func() {
			_, err := w.obtain("example.com")
			if kind(err) != "unavailable" {
				t.Errorf("%s: got %s: %v", name, kind(err), err)
			}
			checkText(t, err)
		})
		if left := w.solver.left(); left != 0 {
			t.Errorf("%s: %d answers left", name, left)
		}
	}
}

func challengeURL(address string) acmetest.Middleware {
	return acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
		list, _ := doc["challenges"].([]any)
		for _, c := range list {
			if c, ok := c.(map[string]any); ok {
				c["url"] = address
			}
		}
	}), acmetest.Authorization)
}

// What a CA returns that must not be installed.
func TestForgedCertificates(t *testing.T) {
	forger, err := acmetest.NewForger()
	if err != nil {
		t.Fatal(err)
	}
	day := 24 * time.Hour
	for name, fault := range map[string]acmetest.Fault{
		"wrong key": forger.Forge(acmetest.WrongKey), "weak key": forger.Forge(acmetest.WeakKey),
		"missing name": forger.Forge(acmetest.Names("a.example.com")), "extra name": forger.Forge(acmetest.Names("a.example.com", "b.example.com", "c.example.com")),
		"common name": forger.Forge(acmetest.OnlyCommonName),
		"expired":     forger.Forge(acmetest.Validity(-2*day, -day)), "not yet": forger.Forge(acmetest.Validity(2*time.Hour, 90*day)),
		"10 years": forger.Forge(acmetest.Validity(0, 3660*day)), "5 minutes": forger.Forge(acmetest.Validity(0, 5*time.Minute)),
		"authority": forger.Forge(acmetest.Authority), "sha-1": forger.Forge(acmetest.SHA1), "clients": forger.Forge(acmetest.ClientOnly),
		"critical": forger.Forge(acmetest.CriticalExtension), "root first": forger.Forge(acmetest.RootFirst),
		"1000 certificates": forger.Forge(acmetest.LongChain(1000)), "foreign intermediate": forger.Forge(acmetest.ForeignIntermediate),
		"private key": acmetest.AppendBody(acmetest.PrivateKeyBlock()), "trailing garbage": acmetest.AppendBody("hello"),
		"400 kB of PEM": acmetest.AppendBody(strings.Repeat("-----BEGIN CERTIFICATE-----\n", 15_000)),
		"not a chain":   acmetest.Answer(200, nil, "\x1b[2J"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ca.Use(acmetest.At(fault, acmetest.Certificate))
			bounded(t, func() {
				b, err := w.obtain("a.example.com", "b.example.com")
				if kind(err) != "vet" || b != nil {
					t.Errorf("got %v", err)
				}
				checkText(t, err)
			})
			w.ca.Use()
			w.mustObtain(w.request("a.example.com", "b.example.com")) // and it is not resumed for ever
			if n := w.ca.Requests(acmetest.NewOrder); n != 2 {
				t.Errorf("%d orders", n)
			}
		})
	}
	w := newWorld(t)
	w.ca.Use(acmetest.At(forger.Forge(acmetest.WithRoot), acmetest.Certificate))
	if _, err := w.obtain("a.example.com"); err != nil {
		t.Errorf("a sound chain with its root: %v", err)
	}
}

func TestShortLifetimeByPolicy(t *testing.T) {
	w := newWorld(t, acmetest.WithProfile("minutes", 5*time.Minute))
	req := w.request("example.com")
	req.Spec.Profile = "minutes"
	if _, err := w.Obtain(t.Context(), req); kind(err) != "vet" {
		t.Errorf("got %v", err)
	}
	w.remake(func(c *issuer.Config) { c.Policy = certs.Policy{MinLifetime: time.Minute, MaxLifetime: time.Hour} })
	w.mustObtain(req)
}

// Elements are cheap to send and costly to keep. All authorizations of a large order come back like that at once.
func TestManyElements(t *testing.T) {
	var names []string
	for n := range 25 {
		names = append(names, fmt.Sprintf("n%d.example.com", n))
	}
	for name, body := range map[string]string{
		"challenges":  `{"status":"pending","challenges":[` + strings.Repeat("null,", 200_000) + `null]}`,
		"one string":  `{"status":"` + strings.Repeat("a", 1_000_000) + `"}`,
		"objects":     `{"challenges":[{"error":{"subproblems":[` + strings.Repeat("{},", 300_000) + `{}]}}]}`,
		"identifiers": `{"identifiers":[` + strings.Repeat("{},", 300_000) + `{}]}`,
	} {
		w := newWorld(t)
		w.ca.Use(acmetest.At(acmetest.Answer(200, nil, body), acmetest.Authorization))
		stop, peak := make(chan struct{}), make(chan uint64)
		go func() { peak <- peakHeap(stop) }()
		_, err := w.obtain(names...)
		close(stop)
		if got := <-peak; kind(err) != "unavailable" || got > memoryLimit {
			t.Errorf("%s: %v, %d MiB", name, err, got>>20)
		}
		checkText(t, err)
	}
}

func peakHeap(stop chan struct{}) (peak uint64) {
	var m runtime.MemStats
	for {
		runtime.ReadMemStats(&m)
		peak = max(peak, m.HeapAlloc)
		select {
		case <-stop:
			return peak
		case <-time.After(time.Millisecond):
		}
	}
}

func TestManyAlternates(t *testing.T) {
	w := newWorld(t, acmetest.WithAlternateRoots(12))
	b, err := w.obtain("example.com")
	if err != nil {
		t.Fatal(err)
	}
	if n := w.ca.Requests(acmetest.Certificate); n != 11 || len(b.Alternates) != 10 {
		t.Errorf("%d requests, %d alternates", n, len(b.Alternates))
	}
	w = newWorld(t)
	w.ca.Use(acmetest.At(acmetest.Alternates(10_000), acmetest.Certificate))
	bounded(t, func() {
		if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
			t.Errorf("10,000 links: %v", err)
		}
	})
}

func TestInvalidOrder(t *testing.T) {
	w := newWorld(t)
	w.ca.Use(acmetest.At(acmetest.OrderStatus("invalid"), acmetest.Order, acmetest.Finalize))
	_, err := w.obtain("example.com")
	if err == nil || !strings.Contains(err.Error(), "gave up on this order") {
		t.Errorf("got %v", err)
	}
	w.ca.Use()
	w.mustObtain(w.request("example.com"))
	if n := w.ca.Requests(acmetest.NewOrder); n != 2 {
		t.Errorf("%d orders", n)
	}
}

func TestProblems(t *testing.T) {
	for kindOf, want := range map[string]string{
		"rejectedIdentifier": "permanent", "unsupportedIdentifier": "permanent", "malformed": "permanent", "invalidProfile": "permanent",
		"userActionRequired": "permanent", "externalAccountRequired": "permanent", "caa": "plain", "dns": "plain", "compound": "plain",
	} {
		w := newWorld(t)
		w.ca.Use(acmetest.At(acmetest.Problem(400, kindOf, "no \x1b[31m\u202ethanks\r\n", ""), acmetest.NewOrder))
		_, err := w.obtain("example.com")
		if kind(err) != want {
			t.Errorf("%s: got %s: %v", kindOf, kind(err), err)
		}
		checkText(t, err)
	}
	w := newWorld(t, acmetest.WithBlocklist("blocked.example.com"))
	if _, err := w.obtain("www.blocked.example.com"); kind(err) != "permanent" {
		t.Errorf("got %v", err)
	}
}

// A CA that is down, and comes back.
func TestCADown(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.request("example.com"))
	if err := w.ca.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.obtain("example.com"); kind(err) != "unavailable" || !strings.Contains(err.Error(), "refused") {
		t.Errorf("got %v", err)
	}
	if err := w.ca.Resume(); err != nil {
		t.Fatal(err)
	}
	w.mustObtain(w.request("example.com"))
}
