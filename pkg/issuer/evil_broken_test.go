package issuer_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

// every endpoint that an order meets.
func orderEndpoints() []acmetest.Endpoint {
	return []acmetest.Endpoint{acmetest.Directory, acmetest.NewNonce, acmetest.NewAccount, acmetest.NewOrder, acmetest.Authorization,
		acmetest.Challenge, acmetest.Order, acmetest.Finalize, acmetest.Certificate}
}

// A failure of any endpoint, for a while or for good.
func failingEndpoints(t *testing.T) {
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
func passingFailures(t *testing.T) {
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

func retryAfterHeaders(t *testing.T) {
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
			if limit.Unavailable {
				t.Error("a limit of the account is taken for one of the CA")
			}
			if wait := limit.At.Sub(now); wait < tc.min || wait > tc.max {
				t.Errorf("wait %s, want %s to %s", wait, tc.min, tc.max)
			}
			if n := w.ca.Requests(acmetest.NewOrder); n != 1 {
				t.Errorf("%d orders", n)
			}
			w.ca.ResetRequests()
			w.remake(nil) // the whole account pauses, also after a restart
			if _, err := w.Obtain(t.Context(), w.named("other", "other.example.com")); !errors.As(err, &limit) {
				t.Errorf("the account does not pause: %v", err)
			}
			if n := len(w.ca.AllRequests()); n != 0 {
				t.Errorf("the pause costs requests to %d endpoints", n)
			}
			w.ca.Use() // but other names need not wait longer than a minute
			clock = clock.Add(time.Minute)
			w.mustObtain(w.request("other.example.com"))
		})
	}
}

// No pause outlasts the certificate that is to be replaced.
func retryAfterNearTheEnd(t *testing.T) {
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

// Maintenance stops the account, and with it every certificate, for as long as the CA says.
func maintenance(t *testing.T) {
	for header, wait := range map[string]time.Duration{"7200": 2 * time.Hour, "120": 2 * time.Minute} {
		t.Run(header, func(t *testing.T) {
			w := newWorld(t)
			begun := time.Now()
			clock := begun
			w.remake(func(c *issuer.Config) { c.Clock = func() time.Time { return clock } })
			w.mustObtain(w.request("example.com"))
			w.ca.Use(acmetest.At(acmetest.Unavailable(header), acmetest.NewOrder))
			w.ca.ResetRequests()
			for n := range 4 {
				w.remake(nil) // what kind of pause it is survives a restart
				var limit *certs.RateLimitError
				_, err := w.Obtain(t.Context(), w.named(fmt.Sprint("c", n), fmt.Sprintf("n%d.example.com", n)))
				if !errors.As(err, &limit) || !limit.Unavailable || !limit.At.Equal(begun.Add(wait)) {
					t.Fatalf("got %v", err)
				}
				if seen := w.ca.Requests(acmetest.NewOrder); seen != 1 {
					t.Errorf("%d orders", seen)
				}
				clock = clock.Add(wait / 4)
			}
			w.ca.Use()
			w.mustObtain(w.request("example.com"))
		})
	}
}

func badNonces(t *testing.T) {
	t.Run("half", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, acmetest.WithNonceReject(50))
		w.mustObtain(w.request("a.example.com", "b.example.com", "c.example.com"))
	})
	t.Run("nearly all", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, acmetest.WithNonceReject(95))
		var failed atomic.Int64
		req := w.request("a.example.com", "b.example.com", "c.example.com")
		req.Failed = func(*certs.ValidationError) { failed.Add(1) }
		b, err := w.Obtain(t.Context(), req)
		if got := kind(err); got != "unavailable" && b == nil || failed.Load() != 0 {
			t.Errorf("got %v, %d names counted as failed", err, failed.Load())
		}
		for endpoint, n := range w.ca.AllRequests() {
			if most := 20 * 3 * 40; n > most {
				t.Errorf("%d requests to %s", n, endpoint)
			}
		}
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

// A directory at one byte a second ends at the deadline of the request.
func slowBody(t *testing.T) {
	w := newWorld(t, acmetest.WithMiddleware(acmetest.At(acmetest.Throttle(1), acmetest.Directory)))
	w.remake(func(c *issuer.Config) { c.RequestTimeout = 100 * time.Millisecond })
	start := time.Now()
	if _, err := w.obtain("example.com"); kind(err) != "unavailable" {
		t.Errorf("got %v", err)
	}
	if took := time.Since(start); took > time.Minute {
		t.Errorf("took %s", took)
	}
}

func invalidOrder(t *testing.T) {
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

// A CA that is down, and comes back.
func caDown(t *testing.T) {
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

// A CA whose name does not resolve is away like any other, and is found again when it does.
func nameLost(t *testing.T) {
	const host = "ca.acmed.example"
	w := newWorld(t, acmetest.WithHost(host))
	var silent atomic.Bool
	found := make(chan struct{})
	usual := net.DefaultResolver
	defer func() { net.DefaultResolver = usual }()
	net.DefaultResolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		if silent.Load() {
			select {
			case <-found:
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		return new(net.Dialer).DialContext(ctx, "udp", w.ca.DNS.Addr)
	}}
	// With a dot at its end the name is never asked for below the search domains that this machine may have.
	w.remake(func(c *issuer.Config) { c.Directory = strings.Replace(c.Directory, "127.0.0.1", host+".", 1) })
	w.mustObtain(w.request("example.com"))
	lost := func(want string) {
		t.Helper()
		w.ca.ResetRequests()
		w.remake(func(c *issuer.Config) { c.RequestTimeout = time.Second })
		_, err := w.obtain("example.com")
		if kind(err) != "unavailable" || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		checkText(t, err)
		if n := len(w.ca.AllRequests()); n != 0 {
			t.Errorf("requests to %d endpoints", n)
		}
	}
	w.ca.DNS.AddDNSServFailRecord(host + ".")
	lost("server misbehaving")
	w.ca.DNS.DeleteDNSServFailRecord(host + ".")
	silent.Store(true)
	lost("deadline exceeded")
	close(found)
	w.remake(func(c *issuer.Config) { c.RequestTimeout = 0 })
	w.mustObtain(w.request("example.com"))
}

// No order is sent to a stranger, and none over plain HTTP.
func directoryTLS(t *testing.T) {
	for name, tc := range map[string]struct {
		fault acmetest.ServerFault
		cause any
		hint  string
	}{
		"wrong name":   {acmetest.ServerWrongName, new(x509.HostnameError), "not"},
		"expired":      {acmetest.ServerExpired, new(x509.CertificateInvalidError), "clock"},
		"unknown root": {acmetest.ServerUnknownRoot, new(x509.UnknownAuthorityError), "ca_file"},
	} {
		w := newWorld(t, acmetest.WithServerFault(tc.fault))
		_, err := w.obtain("example.com")
		if kind(err) != "unavailable" || !errors.As(err, tc.cause) || !strings.Contains(err.Error(), tc.hint) {
			t.Errorf("%s: got %v", name, err)
		}
		if n := len(w.ca.AllRequests()); n != 0 {
			t.Errorf("%s: requests to %d endpoints", name, n)
		}
	}
}

// A slow CA is waited for.
func slow(t *testing.T) {
	late := acmetest.At(acmetest.Delay(50 * time.Millisecond))
	w := newWorld(t, acmetest.WithMiddleware(late, acmetest.At(acmetest.Throttle(1000), acmetest.Order, acmetest.Authorization)))
	w.mustObtain(w.request("example.com"))
}

// An order without an answer ends at its deadline, and holds up no other.
func slowForOne(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.named("first", "first.example.com"))
	w.remake(func(c *issuer.Config) { c.OrderTimeout = 2 * time.Second })
	asked := make(chan struct{})
	w.ca.Use(acmetest.At(acmetest.Times(1, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			close(asked)
			acmetest.Delay(time.Hour)(next).ServeHTTP(rw, r)
		})
	}), acmetest.NewOrder))
	ended := make(chan error, 1)
	go func() {
		_, err := w.Obtain(t.Context(), w.named("stuck", "stuck.example.com"))
		ended <- err
	}()
	<-asked
	w.mustObtain(w.named("other", "other.example.com"))
	select {
	case err := <-ended:
		t.Errorf("the stuck order ended before the other one: %v", err)
	default:
	}
	if err := <-ended; kind(err) != "unavailable" {
		t.Errorf("got %v", err)
	}
}

// resumes is a fault at the end of an order: nothing is stored but the order, which a restart takes up.
func resumes(fault acmetest.Middleware, finalizes int) func(t *testing.T) {
	return func(t *testing.T) {
		w := newWorld(t)
		clock := time.Now()
		w.remake(func(c *issuer.Config) {
			c.OrderTimeout, c.Clock = 700*time.Millisecond, func() time.Time { return clock }
		})
		w.ca.Use(fault)
		if _, err := w.obtain("example.com"); err == nil || kind(err) == "validation" {
			t.Fatalf("got %v", err)
		}
		if left := w.solver.left(); left != 0 {
			t.Errorf("%d answers left", left)
		}
		files, err := filepath.Glob(filepath.Join(w.store.Dir(), "certs", "www", "*"))
		if err != nil || len(files) != 1 || filepath.Base(files[0]) != "order-ec.json" {
			t.Errorf("stored are %q, %v", files, err)
		}
		w.ca.Use()
		clock = clock.Add(2 * time.Minute)
		w.remake(nil)
		w.mustObtain(w.request("example.com"))
		if n := w.ca.Requests(acmetest.NewOrder); n != 1 {
			t.Errorf("%d orders", n)
		}
		if n := w.ca.Requests(acmetest.Finalize); n != finalizes {
			t.Errorf("%d finalize requests, want %d", n, finalizes)
		}
	}
}
