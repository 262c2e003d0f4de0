package issuer_test

import (
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

func TestObtain(t *testing.T) {
	w := newWorld(t)
	b := w.mustObtain(w.request("example.com", "www.example.com", "127.0.0.1"))
	if diff := cmp.Diff([]string{"example.com", "www.example.com"}, b.Leaf.DNSNames); diff != "" {
		t.Error(diff)
	}
	if b.Leaf.Subject.CommonName != "" || b.Issuer != "test" || b.Directory != w.ca.Directory || b.Profile != "default" || len(b.Validations) != 3 {
		t.Errorf("unexpected bundle: %q %q %q %v", b.Leaf.Subject.CommonName, b.Issuer, b.Profile, b.Validations)
	}
	if w.solver.left() != 0 || w.solver.presented != 3 {
		t.Errorf("%d presented, %d left", w.solver.presented, w.solver.left())
	}
}

// A common name has 64 characters at most (RFC 5280 appendix A.1), so none is asked for, and a longer first name is issued.
func TestLongFirstName(t *testing.T) {
	w := newWorld(t)
	var sent string
	w.ca.Use(onPayload(acmetest.Finalize, func(payload map[string]any) { sent = fmt.Sprint(payload["csr"]) }))
	names := []string{strings.Repeat("a", 60) + ".long.example.com", "example.com"}
	b := w.mustObtain(w.request(names...))
	csr, err := x509.ParseCertificateRequest(decode(t, sent))
	if err != nil {
		t.Fatal(err)
	}
	if csr.Subject.CommonName != "" || b.Leaf.Subject.CommonName != "" {
		t.Errorf("common names %q and %q", csr.Subject.CommonName, b.Leaf.Subject.CommonName)
	}
	if diff := cmp.Diff([][]string{names, names}, [][]string{csr.DNSNames, b.Leaf.DNSNames}); diff != "" {
		t.Error(diff)
	}
}

// A warm issuer needs as few requests as RFC 8555 allows.
func TestObtainRequests(t *testing.T) {
	w := newWorld(t)
	w.mustObtain(w.request("example.com"))
	w.ca.ResetRequests()
	w.mustObtain(w.named("other", "other.example.com"))
	got := w.ca.AllRequests()
	polls := got[acmetest.Order]
	delete(got, acmetest.Order)
	want := map[acmetest.Endpoint]int{acmetest.NewOrder: 1, acmetest.Authorization: 1, acmetest.Challenge: 1, acmetest.Finalize: 1, acmetest.Certificate: 1}
	if diff := cmp.Diff(want, got); diff != "" || polls > 6 {
		t.Errorf("requests: %s, %d polls", diff, polls)
	}
}

// Authorizations that the CA keeps need no answer and no look.
func TestReusedAuthorizations(t *testing.T) {
	w := newWorld(t, acmetest.WithAuthzReuse(100))
	w.mustObtain(w.request("example.com"))
	w.ca.ResetRequests()
	b := w.mustObtain(w.request("example.com"))
	if n := w.ca.Requests(acmetest.Challenge); n != 0 || w.solver.presented != 1 {
		t.Errorf("%d challenges, %d presented", n, w.solver.presented)
	}
	if diff := cmp.Diff([]certs.Validation{{Identifier: "example.com", Reason: "validated by an earlier order"}}, b.Validations); diff != "" {
		t.Error(diff)
	}
}

func TestProgress(t *testing.T) {
	w := newWorld(t)
	req := w.request("a.example.com", "b.example.com")
	var steps []string
	req.Progress = func(s certs.Step) { steps = append(steps, string(s.Phase)+" "+s.Detail) }
	w.mustObtain(req)
	slices.Sort(steps)
	want := []string{"finalize ", "order test", "validate a.example.com via http", "validate b.example.com via http"}
	if diff := cmp.Diff(want, steps); diff != "" {
		t.Error(diff)
	}
}

// The way to the CA is direct, whatever the environment says, unless a proxy is configured.
func TestProxy(t *testing.T) {
	w := newWorld(t)
	var connects atomic.Int64
	proxy := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		connects.Add(1)
		up, err := net.Dial("tcp", r.Host)
		if err != nil || r.Method != http.MethodConnect {
			http.Error(rw, "no", http.StatusBadGateway)
			return
		}
		rw.WriteHeader(http.StatusOK)
		down, buffered, _ := http.NewResponseController(rw).Hijack()
		go func() { _, _ = io.Copy(up, buffered); _ = up.Close() }()
		_, _ = io.Copy(down, up)
		_ = down.Close()
	}))
	t.Cleanup(proxy.Close)
	t.Setenv("HTTPS_PROXY", proxy.URL)
	w.mustObtain(w.request("example.com"))
	if n := connects.Load(); n != 0 {
		t.Errorf("%d connections through the environment's proxy", n)
	}
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.remake(func(c *issuer.Config) { c.Proxy = address })
	w.mustObtain(w.request("example.com"))
	if connects.Load() == 0 {
		t.Error("the configured proxy was not used")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}
