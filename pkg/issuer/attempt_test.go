package issuer_test

import (
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/letsencrypt/challtestsrv"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/preflight"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
	"github.com/acmed/acmed/pkg/issuer"
)

// The budget of a name holds within one run of a long ladder and over several runs, also for a backup of the same name.
func TestBudget(t *testing.T) {
	w := newWorld(t)
	withLadder(w)
	w.remake(func(c *issuer.Config) {
		for n := range 5 {
			name := fmt.Sprint("mute", n)
			c.Solvers[name] = challenges.Rung{Name: name, Solver: mute(challenges.HTTP01)}
		}
	})
	req := w.request("example.com", "www.example.com")
	req.Spec.Solvers = []string{"mute0", "mute1", "mute2", "mute3", "http"}
	var told []string
	req.Failed = func(v *certs.ValidationError) { told = append(told, v.Identifier.Value+"/"+v.Solver) }
	begun := time.Now()
	_, err := w.Obtain(t.Context(), req)
	var budget *certs.BudgetError
	if !errors.As(err, &budget) {
		t.Fatalf("got %v, want a BudgetError", err)
	}
	if budget.Failed != 3 || budget.At.Before(begun.Add(time.Hour)) || budget.At.After(time.Now().Add(time.Hour)) {
		t.Errorf("got %+v", budget)
	}
	if n := w.ca.Requests(acmetest.NewOrder); n > 4 { // Pebble may give an order up before it looked at both names
		t.Errorf("%d orders", n)
	}
	if len(certs.Validations(err)) == 0 {
		t.Errorf("the failures themselves are missing: %v", err)
	}
	if len(told) < 3 {
		t.Errorf("told about %q", told)
	}

	now := time.Now()
	for _, tc := range []struct {
		ago  []time.Duration
		free bool
	}{
		{ago: []time.Duration{0, 0, 0}},
		{ago: []time.Duration{59 * time.Minute, 2 * time.Minute, time.Minute}},
		{ago: []time.Duration{61 * time.Minute, 2 * time.Minute, time.Minute}, free: true},
		{ago: []time.Duration{0, 0}, free: true},
	} {
		w.ca.ResetRequests()
		req := w.named("free", "free.example.com")
		req.Invalid = map[string][]time.Time{}
		for _, ago := range tc.ago {
			req.Invalid["free.example.com"] = append(req.Invalid["free.example.com"], now.Add(-ago))
		}
		_, err := w.Obtain(t.Context(), req)
		if tc.free != (err == nil) || !tc.free && !errors.As(err, &budget) {
			t.Errorf("%v: %v", tc.ago, err)
		}
		if !tc.free && w.ca.Requests(acmetest.NewOrder) != 0 {
			t.Errorf("%v: an order was placed", tc.ago)
		}
	}
}

// What the CA was never asked about costs nothing.
func TestPresentFailureIsNotCounted(t *testing.T) {
	w := newWorld(t)
	withLadder(w)
	closed := tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: "127.0.0.1:1"})
	_ = closed.Close()
	w.remake(func(c *issuer.Config) { c.Solvers["closed"] = challenges.Rung{Name: "closed", Solver: closed} })
	req := w.request("example.com")
	req.Spec.Solvers = []string{"closed", "http"}
	req.Failed = func(v *certs.ValidationError) { t.Errorf("counted: %v", v) }
	b := w.mustObtain(req)
	if got := b.Validations[0]; got.Solver != "http" || !strings.HasPrefix(got.Reason, "closed failed: present the answer: ") {
		t.Errorf("got %+v", got)
	}
}

func TestReasons(t *testing.T) {
	w := newWorld(t)
	withLadder(w)
	obtain := func(solvers []string, replaces *certs.Bundle, solved map[string]string, name string) (*certs.Bundle, string) {
		req := w.named(strings.NewReplacer("*", "w", ".", "-").Replace(name), name)
		req.Spec.Solvers, req.Replaces, req.Solved = solvers, replaces, solved
		b := w.mustObtain(req)
		for range 3 { // Pebble reuses one authorization in a hundred, however it is set
			if b.Validations[0].Type != "" {
				break
			}
			b = w.mustObtain(req)
		}
		return b, b.Validations[0].Solver + ": " + b.Validations[0].Reason
	}
	if _, got := obtain([]string{"http", "mute"}, nil, nil, "a.example.com"); got != "http: the first of its solvers" {
		t.Error(got)
	}
	if _, got := obtain([]string{"http", "dns"}, nil, nil, "*.b.example.com"); got != "dns: the first of its solvers that is fit for the name" {
		t.Error(got)
	}
	b, got := obtain([]string{"mute", "http"}, nil, nil, "c.example.com")
	if !strings.HasPrefix(got, "http: mute failed: ") {
		t.Error(got)
	}
	solved := map[string]string{"c.example.com": "http"}
	if _, again := obtain([]string{"mute", "http"}, b, solved, "c.example.com"); again != got {
		t.Errorf("the reason became %q", again)
	}
	if _, got := obtain([]string{"mute", "http"}, nil, solved, "c.example.com"); got != "http: it worked before" {
		t.Error(got)
	}
}

// terminated is a world with a TLS server of somebody else where the CA validates tls-alpn-01.
func terminated(t *testing.T, enforce bool) *world {
	t.Helper()
	w := newWorld(t)
	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", w.ca.TLSPort))
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewUnstartedServer(nil)
	_ = front.Listener.Close()
	front.Listener = ln
	front.Config.ErrorLog = log.New(io.Discard, "", 0)
	front.StartTLS()
	t.Cleanup(front.Close)
	inner := tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t))})
	t.Cleanup(func() { _ = inner.Close() })
	w.remake(func(c *issuer.Config) {
		c.Solvers["alpn"] = challenges.Rung{Name: "alpn", Solver: inner}
		c.Preflight = &issuer.Preflight{Enforce: enforce, Probe: preflight.Config{
			Resolver: w.ca.DNS.Addr, HTTPPort: w.ca.HTTPPort, TLSPort: w.ca.TLSPort, Timeout: 2 * time.Second,
		}}
	})
	return w
}

func TestPreflightSortsTheLadder(t *testing.T) {
	w := terminated(t, false)
	req := w.request("example.com", "www.example.com")
	req.Spec.Solvers = []string{"alpn", "http"}
	b := w.mustObtain(req)
	if n := w.ca.Requests(acmetest.Challenge); n != 2 {
		t.Errorf("%d validations for 2 names", n)
	}
	for _, v := range b.Validations {
		if v.Solver != "http" || v.Reason != "preflight: TLS is terminated in front by another server" {
			t.Errorf("got %+v", v)
		}
	}
	// A name that was validated before is not probed again.
	var phases []certs.Phase
	req.Solved = map[string]string{"example.com": "http", "www.example.com": "http"}
	req.Replaces, req.Progress = b, func(s certs.Step) { phases = append(phases, s.Phase) }
	w.ca.ResetRequests()
	again := w.mustObtain(req)
	if n := w.ca.Requests(acmetest.Challenge); n != 2 || len(phases) == 0 || strings.Contains(fmt.Sprint(phases), "preflight") {
		t.Errorf("%d validations, phases %v", n, phases)
	}
	if again.Validations[0].Reason != b.Validations[0].Reason {
		t.Errorf("the reason is lost: %+v", again.Validations[0])
	}
}

func TestPreflightEnforced(t *testing.T) {
	w := terminated(t, true)
	req := w.request("example.com")
	req.Spec.Solvers = []string{"alpn"}
	_, err := w.Obtain(t.Context(), req)
	var foreseen *certs.PreflightError
	if !errors.As(err, &foreseen) || foreseen.Identifier.Value != "example.com" || !strings.Contains(err.Error(), "another TLS server answered") {
		t.Errorf("got %v", err)
	}
	if n := w.ca.Requests(acmetest.NewOrder); n != 0 {
		t.Errorf("%d orders", n)
	}
	req.Spec.Solvers = []string{"alpn", "http"}
	w.mustObtain(req)

	// CAA records that leave the CA out.
	w.ca.DNS.AddDNSCAARecord("closed.example.org.", []challtestsrv.CAAPolicy{{Tag: "issue", Value: "other-ca.example"}})
	req = w.named("closed", "closed.example.org")
	if _, err := w.Obtain(t.Context(), req); !errors.As(err, &foreseen) || !strings.Contains(err.Error(), "CAA records of closed.example.org do not allow this CA") {
		t.Errorf("got %v", err)
	}
	// Advice only: the CA is asked, and both are told.
	w.remake(func(c *issuer.Config) { c.Preflight.Enforce = false })
	req = w.named("other", "other.example.org")
	req.Spec.Solvers = []string{"alpn"}
	_, err = w.Obtain(t.Context(), req)
	if len(certs.Validations(err)) != 1 || !strings.Contains(err.Error(), "the preflight of other.example.org had found: tls-alpn-01 at 127.0.0.1: another") {
		t.Errorf("got %v", err)
	}
}
