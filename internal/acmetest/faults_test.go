package acmetest_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
)

// get fetches the directory over a new connection.
func get(t *testing.T, s acmetest.Server, limit time.Duration) (*http.Response, []byte, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, s.Directory, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("User-Agent", "test")
	transport := &http.Transport{TLSClientConfig: clientTLS(s), DisableKeepAlives: true}
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse
	}}
	answer, err := client.Do(r)
	if err != nil {
		return nil, nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(answer.Body, 4<<20))
	return answer, body, err
}

func TestFaultsThatAnswer(t *testing.T) {
	ca := acmetest.Start(t)
	_, honest, err := get(t, ca.Server, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	const limit = 4 << 20
	cases := map[string]struct {
		fault  acmetest.Fault
		status int
		header [2]string
		size   int
		body   string
	}{
		"unavailable":  {acmetest.Unavailable("120"), 503, [2]string{"Retry-After", "120"}, 0, "serverInternal"},
		"rate limited": {acmetest.RateLimited("-1"), 429, [2]string{"Retry-After", "-1"}, 0, "acme:error:rateLimited"},
		"no hint":      {acmetest.RateLimited(""), 429, [2]string{"Retry-After", ""}, 0, "rateLimited"},
		"redirect":     {acmetest.Redirect(307, "http://127.0.0.1:1/"), 307, [2]string{"Location", "http://127.0.0.1:1/"}, 0, ""},
		"header":       {acmetest.SetHeader("Replay-Nonce", "x"), 200, [2]string{"Replay-Nonce", "x"}, len(honest), ""},
		"edited": {acmetest.ChangeJSON(func(d map[string]any) { d["newOrder"] = "file:///etc/passwd" }), 200,
			[2]string{"Content-Type", "application/json; charset=utf-8"}, 0, "file:///etc/passwd"},
		"bomb":     {acmetest.GzipBomb(64 << 20), 200, [2]string{}, limit, ""},
		"endless":  {acmetest.EndlessBody(), 200, [2]string{}, limit, ""},
		"slow":     {acmetest.Throttle(1 << 20), 200, [2]string{}, len(honest), ""},
		"delayed":  {acmetest.Delay(time.Millisecond), 200, [2]string{}, len(honest), ""},
		"links":    {acmetest.Alternates(1000), 200, [2]string{}, len(honest), ""},
		"appended": {acmetest.AppendBody("tail"), 200, [2]string{}, len(honest) + 4, ""},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ca.Use(acmetest.At(c.fault, acmetest.Directory))
			answer, body, err := get(t, ca.Server, time.Minute)
			if err != nil {
				t.Fatal(err)
			}
			if answer.StatusCode != c.status {
				t.Errorf("status %d, want %d", answer.StatusCode, c.status)
			}
			if key := c.header[0]; key != "" && answer.Header.Get(key) != c.header[1] {
				t.Errorf("%s is %q, want %q", key, answer.Header.Get(key), c.header[1])
			}
			if c.size != 0 && len(body) != c.size {
				t.Errorf("body of %d bytes, want %d", len(body), c.size)
			}
			if !strings.Contains(string(body), c.body) {
				t.Errorf("body %q lacks %q", body, c.body)
			}
		})
	}
	ca.Use()
	if _, body, err := get(t, ca.Server, time.Minute); err != nil || len(body) != len(honest) {
		t.Errorf("not honest again: %d bytes, %v", len(body), err)
	}
}

func TestFaultsThatBreakTheConnection(t *testing.T) {
	ca := acmetest.Start(t)
	cases := map[string]struct {
		fault acmetest.Fault
		limit time.Duration
		want  error
	}{
		"reset":             {acmetest.Reset(), time.Minute, syscall.ECONNRESET},
		"reset after":       {acmetest.ResetAfter(), time.Minute, syscall.ECONNRESET},
		"cut":               {acmetest.Cut(10), time.Minute, nil},
		"endless headers":   {acmetest.EndlessHeaders(), time.Minute, nil},
		"one byte a second": {acmetest.Throttle(1), 50 * time.Millisecond, context.DeadlineExceeded},
		"delay":             {acmetest.Delay(time.Hour), 50 * time.Millisecond, context.DeadlineExceeded},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			ca.Use(acmetest.At(c.fault, acmetest.Directory))
			_, body, err := get(t, ca.Server, c.limit)
			if err == nil {
				t.Fatalf("no error, body %q", body)
			}
			if c.want != nil && !errors.Is(err, c.want) {
				t.Errorf("error %v, want %v", err, c.want)
			}
			if name == "cut" && len(body) > 10 {
				t.Errorf("%d bytes arrived, want at most 10", len(body))
			}
		})
	}
}

func TestFaultsByCount(t *testing.T) {
	down := acmetest.Unavailable("1")
	ca := acmetest.Start(t, acmetest.WithMiddleware(
		acmetest.At(acmetest.Times(2, down), acmetest.Directory),
		acmetest.At(acmetest.After(1, acmetest.RateLimited("5"))), // it sees only what the first lets through
	))
	for i, want := range []int{503, 503, 200, 429, 429} {
		answer, _, err := get(t, ca.Server, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		if answer.StatusCode != want {
			t.Errorf("request %d: status %d, want %d", i+1, answer.StatusCode, want)
		}
	}
	if n := ca.Requests(acmetest.Directory); n != 5 {
		t.Errorf("%d requests counted, want 5", n)
	}
}

func TestResetAfterFinalizeStillIssues(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithMiddleware(acmetest.At(acmetest.ResetAfter(), acmetest.Finalize)))
	_, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com")
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("error %v, want a connection reset", err)
	}
	if ca.Issued() != 1 {
		t.Errorf("%d certificates issued, want 1", ca.Issued())
	}
}

func TestOrdersThatNeverFinish(t *testing.T) {
	ca := acmetest.Start(t)
	for _, status := range []string{"processing", "invalid"} {
		ctx, cancel := context.WithCancel(t.Context())
		var polls atomic.Int32
		patience := func(e acmetest.Endpoint, next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if e == acmetest.Order && polls.Add(1) > 3 {
					cancel()
				}
				next.ServeHTTP(w, r)
			})
		}
		ca.Use(patience, acmetest.At(acmetest.OrderStatus(status), acmetest.Order, acmetest.Finalize))
		_, _, err := acmetest.BareOrder(ctx, ca.Server, "a.example.com")
		cancel()
		if err == nil || !strings.Contains(err.Error(), status) {
			t.Errorf("error %v, want one about an order that is %s", err, status)
		}
	}
}

func TestTokenFault(t *testing.T) {
	ca := acmetest.Start(t, acmetest.WithMiddleware(acmetest.At(acmetest.Token("../x"), acmetest.Authorization)))
	if _, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com"); err == nil {
		t.Error("the CA validated a token which it did not make")
	}
}

func TestServerFaults(t *testing.T) {
	for fault, want := range map[acmetest.ServerFault]string{
		acmetest.ServerWrongName:   "elsewhere.example",
		acmetest.ServerExpired:     "expired",
		acmetest.ServerUnknownRoot: "unknown authority",
	} {
		ca := acmetest.Start(t, acmetest.WithServerFault(fault))
		_, _, err := get(t, ca.Server, time.Minute)
		if verification := new(tls.CertificateVerificationError); !errors.As(err, &verification) {
			t.Errorf("fault %d: error %v, want a failed verification", fault, err)
		}
		if err != nil && !strings.Contains(err.Error(), want) && fault != acmetest.ServerWrongName {
			t.Errorf("fault %d: error %v, want %q", fault, err, want)
		}
	}
}

func TestStopResumeForget(t *testing.T) {
	ca := acmetest.Start(t)
	bare, err := acmetest.NewBare(ca.Server)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bare.Close() })
	if err := ca.Stop(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := get(t, ca.Server, time.Minute); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("stopped CA: error %v, want connection refused", err)
	}
	if err := ca.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := get(t, ca.Server, time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, _, err := bare.Order(t.Context(), "default", "a.example.com"); err != nil {
		t.Errorf("resumed CA: %v", err)
	}
	old := string(ca.IssuingRootPEM(0))
	if err := ca.Forget(); err != nil {
		t.Fatal(err)
	}
	if _, _, err := bare.Order(t.Context(), "default", "a.example.com"); err == nil || !strings.Contains(err.Error(), "accountDoesNotExist") {
		t.Errorf("forgetful CA: error %v, want accountDoesNotExist", err)
	}
	if string(ca.IssuingRootPEM(0)) == old {
		t.Error("the issuing root survived")
	}
}

func TestReceivedRequests(t *testing.T) {
	ca := acmetest.Start(t)
	if _, _, err := acmetest.BareOrder(t.Context(), ca.Server, "a.example.com"); err != nil {
		t.Fatal(err)
	}
	orders := ca.Received(acmetest.NewOrder)
	if len(orders) != 1 {
		t.Fatalf("%d new orders, want 1", len(orders))
	}
	var order struct{ Profile string }
	if err := json.Unmarshal(orders[0].Payload, &order); err != nil || order.Profile != "default" {
		t.Errorf("payload %s: %v", orders[0].Payload, err)
	}
	if agent := orders[0].Header.Get("User-Agent"); !strings.Contains(agent, "acmetest-bare") {
		t.Errorf("user agent %q", agent)
	}
	if polls := ca.Received(acmetest.Order); len(polls) == 0 || len(polls[0].Payload) != 0 {
		t.Errorf("polls of the order: %v, want empty payloads", polls)
	}
}
