package issuer_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/issuer"
)

func redirects(t *testing.T) {
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
	for _, status := range []int{301, 302, 303, 307, 308} {
		for _, endpoint := range orderEndpoints() {
			check(status, stranger.Directory, endpoint)
		}
		redirectedManagement(t, status, stranger.Directory)
	}
	for _, endpoint := range []acmetest.Endpoint{acmetest.Directory, acmetest.NewOrder} {
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

// redirectedManagement redirects what is asked outside of orders.
func redirectedManagement(t *testing.T, status int, to string) {
	t.Run(fmt.Sprint(status, to, " outside of orders"), func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.remake(func(c *issuer.Config) { c.OrderTimeout = time.Second })
		leaf := w.mustObtain(w.request("example.com")).Leaf
		for endpoint, ask := range map[acmetest.Endpoint]func() error{
			acmetest.KeyChange:   func() error { return w.Rollover(t.Context()) },
			acmetest.Revoke:      func() error { return w.Revoke(t.Context(), leaf, issuer.Superseded, nil) },
			acmetest.RenewalInfo: func() error { _, err := w.RenewalInfo(t.Context(), leaf); return err },
		} {
			w.ca.Use(acmetest.At(acmetest.Redirect(status, to), endpoint))
			w.ca.ResetRequests()
			err := ask()
			if kind(err) != "unavailable" || !strings.Contains(err.Error(), "redirects") {
				t.Errorf("%s: got %v", endpoint, err)
			}
			checkText(t, err)
			if n := w.ca.Requests(endpoint); n != 1 {
				t.Errorf("%s: %d requests", endpoint, n)
			}
		}
	})
}

func directoryRedirects(t *testing.T) {
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

func directoryURLs(t *testing.T) {
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

func directoryHosts(t *testing.T) {
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
func privateAddresses(t *testing.T) {
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

// A URL that people are shown is https and prints; anything else is left out. None is ever opened.
func urlsForPeople(t *testing.T) {
	for name, tc := range map[string]struct {
		url   string
		shown bool
	}{
		"sound": {"https://ca.example.com/terms", true}, "script": {"javascript:alert(1)", false}, "plain": {"http://ca.example.com/terms", false},
		"escapes": {"https://ca.example.com/\x1b[31m", false}, "newline": {"https://ca.example.com/\nterms", false},
		"password": {"https://a:hunter2@ca.example.com/", false}, "long": {"https://ca.example.com/" + strings.Repeat("a", 5000), false},
		"file": {"file:///etc/passwd", false},
	} {
		w := newWorld(t)
		w.remake(func(c *issuer.Config) { c.AgreeTOS = false })
		w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
			meta, _ := doc["meta"].(map[string]any)
			meta["termsOfService"] = tc.url
		}), acmetest.Directory))
		_, err := w.obtain("example.com")
		if kind(err) != "permanent" || strings.Contains(err.Error(), tc.url) != tc.shown {
			t.Errorf("%s as terms of service: %v", name, err)
		}
		checkText(t, err)

		w.remake(func(c *issuer.Config) { c.AgreeTOS = true })
		w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["explanationURL"] = tc.url }), acmetest.RenewalInfo))
		window, err := w.RenewalInfo(t.Context(), w.mustObtain(w.request("example.com")).Leaf)
		if err != nil || (window.ExplanationURL == tc.url) != tc.shown || !tc.shown && window.ExplanationURL != "" {
			t.Errorf("%s as explanation: %q, %v", name, window.ExplanationURL, err)
		}

		instance := acmetest.ChangeJSON(func(doc map[string]any) { doc["instance"] = tc.url })
		w.ca.Use(acmetest.At(func(next http.Handler) http.Handler {
			return instance(acmetest.Problem(403, "userActionRequired", "look", "")(next))
		}, acmetest.NewOrder))
		_, err = w.obtain("example.com")
		if kind(err) != "permanent" || strings.Contains(err.Error(), tc.url) {
			t.Errorf("%s as instance: %v", name, err)
		}
		checkText(t, err)
	}
}
