package issuer_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap/zaptest"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// world is a CA, a state directory and an issuer between them.
type world struct {
	t      testing.TB
	ca     *acmetest.CA
	store  *store.Store
	solver *watched
	config issuer.Config
	*issuer.Issuer
}

func newWorld(t testing.TB, opts ...acmetest.Option) *world {
	t.Helper()
	ca := acmetest.Start(t, opts...)
	dir := t.TempDir()
	w := &world{t: t, ca: ca, store: openStore(t, dir)}
	responder := http01.NewResponder(http01.ResponderConfig{Addr: fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort)})
	t.Cleanup(func() { _ = responder.Close() })
	w.solver = &watched{Solver: responder}
	w.config = issuer.Config{
		Name: "test", Directory: ca.Directory, Contact: "ops@example.com", AgreeTOS: true, Private: true, Roots: ca.Roots,
		Store: w.store, Solvers: map[string]challenges.Rung{"http": {Name: "http", Solver: w.solver}},
		Log: zaptest.NewLogger(t), UserAgent: "acmed/test",
	}
	w.remake(nil)
	return w
}

func openStore(t testing.TB, dir string) *store.Store {
	t.Helper()
	s, err := store.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// remake replaces the issuer, as a restart would.
func (w *world) remake(change func(*issuer.Config)) {
	w.t.Helper()
	if change != nil {
		change(&w.config)
	}
	i, err := issuer.New(w.config)
	if err != nil {
		w.t.Fatal(err)
	}
	w.Issuer = i
	w.t.Cleanup(func() { _ = i.Close() })
}

func (w *world) obtain(names ...string) (*certs.Bundle, error) {
	return w.Obtain(w.t.Context(), w.request(names...))
}

func (w *world) mustObtain(req certs.Request) *certs.Bundle {
	w.t.Helper()
	b, err := w.Obtain(w.t.Context(), req)
	if err != nil {
		w.t.Fatalf("obtain: %v", err)
	}
	w.verify(b)
	if _, err := w.store.AddVersion(req.Spec.Name, b, time.Now()); err != nil { // as the caller does
		w.t.Fatal(err)
	}
	return b
}

func (w *world) request(names ...string) certs.Request {
	w.t.Helper()
	return certs.Request{Spec: certs.Spec{Name: "www", Identifiers: identifiers(w.t, names...), Solvers: []string{"http"}, Profile: "default"}}
}

func identifiers(t testing.TB, names ...string) []certs.Identifier {
	t.Helper()
	var ids []certs.Identifier
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// verify checks the bundle as a client would.
func (w *world) verify(b *certs.Bundle) {
	w.t.Helper()
	intermediates := x509.NewCertPool()
	intermediates.AppendCertsFromPEM(b.ChainPEM)
	if _, err := b.Leaf.Verify(x509.VerifyOptions{Roots: w.ca.IssuingRoots(), Intermediates: intermediates}); err != nil {
		w.t.Errorf("the certificate does not verify: %v", err)
	}
}

// watched is a solver that keeps count of what is presented and can be made to fail.
type watched struct {
	challenges.Solver
	mu        sync.Mutex
	visible   map[string]bool
	presented int
	cleaned   int
	onPresent func(ctx context.Context, c challenges.Challenge) error
	onCleanUp func(ctx context.Context)
}

func (s *watched) Present(ctx context.Context, c challenges.Challenge) error {
	s.mu.Lock()
	s.presented++
	if s.visible == nil {
		s.visible = map[string]bool{}
	}
	s.visible[c.Token] = true
	hook := s.onPresent
	s.mu.Unlock()
	if hook != nil {
		if err := hook(ctx, c); err != nil {
			return err
		}
	}
	return s.Solver.Present(ctx, c)
}

func (s *watched) CleanUp(ctx context.Context, c challenges.Challenge) error {
	s.mu.Lock()
	hook := s.onCleanUp
	s.mu.Unlock()
	if hook != nil {
		hook(ctx)
	}
	err := s.Solver.CleanUp(ctx, c)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cleaned++
	delete(s.visible, c.Token)
	return err
}

func (s *watched) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.visible)
}

// named is a request for another certificate.
func (w *world) named(name string, names ...string) certs.Request {
	w.t.Helper()
	req := w.request(names...)
	req.Spec.Name = name
	return req
}

// dnsValue is the TXT record for a key authorization (RFC 8555 section 8.4).
func dnsValue(keyAuth string) string {
	sum := sha256.Sum256([]byte(keyAuth))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// onPayload shows the payload of each signed request to an endpoint.
func onPayload(endpoint acmetest.Endpoint, see func(payload map[string]any)) acmetest.Middleware {
	return func(e acmetest.Endpoint, next http.Handler) http.Handler {
		if e != endpoint {
			return next
		}
		return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			r.Body = io.NopCloser(bytes.NewReader(body))
			var jws struct{ Payload string }
			_ = json.Unmarshal(body, &jws)
			text, _ := base64.RawURLEncoding.DecodeString(jws.Payload)
			var payload map[string]any
			_ = json.Unmarshal(text, &payload)
			see(payload)
			next.ServeHTTP(rw, r)
		})
	}
}

func decode(t testing.TB, text string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	return data
}
