package challenges_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/challenges/tlsalpn01"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// newIssuer makes an issuer at a CA of this process with one ladder.
func newIssuer(t *testing.T, ca *acmetest.CA, ladder ...challenges.Rung) *issuer.Issuer {
	t.Helper()
	st, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	solvers := map[string]challenges.Rung{}
	for _, r := range ladder {
		solvers[r.Name] = r
	}
	i, err := issuer.New(issuer.Config{
		Name: "test", Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: st, Solvers: solvers,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	return i
}

func obtain(ctx context.Context, i *issuer.Issuer, name string, solvers []string, names ...string) (*certs.Bundle, error) {
	spec := certs.Spec{Name: name, Profile: "default", Solvers: solvers}
	for _, n := range names {
		id, _, err := certs.ParseIdentifier(n)
		if err != nil {
			return nil, err
		}
		spec.Identifiers = append(spec.Identifiers, id)
	}
	b, err := i.Obtain(ctx, certs.Request{Spec: spec})
	if err == nil && !certs.SameNames(b.Leaf, spec.Identifiers) {
		err = errors.New("the certificate has other names")
	}
	return b, err
}

func local(port int) string { return fmt.Sprintf("127.0.0.1:%d", port) }

// serve runs a web server until the test ends.
func serve(t *testing.T, addr string, h http.Handler) {
	t.Helper()
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); _ = srv.Serve(ln) }()
	t.Cleanup(func() { _ = srv.Close(); <-done })
}

// proxy answers by itself for the account whose order it saw first, as one configured by its operator would.
type proxy struct {
	http01.Stateless
	mu         sync.Mutex
	thumbprint string
}

func (p *proxy) Present(ctx context.Context, c challenges.Challenge) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.thumbprint = c.Thumbprint
	return p.Stateless.Present(ctx, c)
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	token, _ := strings.CutPrefix(r.URL.Path, http01.PathPrefix)
	_, _ = fmt.Fprint(w, challenges.KeyAuthorization(token, p.thumbprint))
}

func TestEachSolverIssues(t *testing.T) {
	for name, solver := range map[string]func(t *testing.T, ca *acmetest.CA) challenges.Solver{
		"http-01": func(t *testing.T, ca *acmetest.CA) challenges.Solver {
			return http01.NewResponder(http01.ResponderConfig{Addr: local(ca.HTTPPort)})
		},
		"webroot": func(t *testing.T, ca *acmetest.CA) challenges.Solver {
			dir := t.TempDir()
			serve(t, local(ca.HTTPPort), http.FileServer(http.Dir(dir)))
			return http01.NewWebroot(http01.WebrootConfig{Dir: dir}, nil)
		},
		"stateless": func(t *testing.T, ca *acmetest.CA) challenges.Solver {
			p := &proxy{}
			serve(t, local(ca.HTTPPort), p)
			return p
		},
		"tls-alpn-01": func(t *testing.T, ca *acmetest.CA) challenges.Solver {
			return tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: local(ca.TLSPort)})
		},
	} {
		t.Run(name, func(t *testing.T) {
			ca := acmetest.Start(t)
			i := newIssuer(t, ca, challenges.Rung{Name: name, Solver: solver(t, ca)})
			b, err := obtain(t.Context(), i, "www", []string{name}, "example.com", "www.example.com", "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			for _, v := range b.Validations {
				if v.Solver != name {
					t.Errorf("%s was validated through %s", v.Identifier, v.Solver)
				}
			}
		})
	}
}

// A responder at ":port" proves names that have only an IPv4 and only an IPv6 address.
func TestEachResponderIssuesOnBothStacks(t *testing.T) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"four.example.com"}
	if slices.ContainsFunc(addrs, func(a net.Addr) bool { return a.String() == "::1/128" }) {
		names = append(names, "six.example.com")
	}
	ca := acmetest.Start(t)
	ca.DNS.SetDefaultDNSIPv4("")
	ca.DNS.AddDNSARecord("four.example.com.", []string{"127.0.0.1"})
	ca.DNS.AddDNSAAAARecord("six.example.com.", []string{"::1"})
	for name, solver := range map[string]challenges.Solver{
		"http-01":     http01.NewResponder(http01.ResponderConfig{Addr: fmt.Sprintf(":%d", ca.HTTPPort)}),
		"tls-alpn-01": tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: fmt.Sprintf(":%d", ca.TLSPort)}),
	} {
		i := newIssuer(t, ca, challenges.Rung{Name: name, Solver: solver})
		if _, err := obtain(t.Context(), i, "www", []string{name}, names...); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestTwentyOrdersShareTheResponders(t *testing.T) {
	ca := acmetest.Start(t)
	h := http01.NewResponder(http01.ResponderConfig{Addr: local(ca.HTTPPort)})
	a := tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: local(ca.TLSPort)})
	i := newIssuer(t, ca, challenges.Rung{Name: "http", Solver: h}, challenges.Rung{Name: "alpn", Solver: a})
	var wg sync.WaitGroup
	for n := range 20 {
		wg.Go(func() {
			solver := []string{"http", "alpn"}[n%2]
			name := fmt.Sprintf("c%d.example.com", n)
			if _, err := obtain(t.Context(), i, fmt.Sprintf("c%d", n), []string{solver}, name, "www."+name, "shared.example.com"); err != nil {
				t.Errorf("%s through %s: %v", name, solver, err)
			}
		})
	}
	wg.Wait()
	if h.Addr() != nil || a.Addr() != nil {
		t.Errorf("still listening: %v, %v", h.Addr(), a.Addr())
	}
}

func TestTheLadderGoesOnWhenThePortIsTaken(t *testing.T) {
	ca := acmetest.Start(t)
	serve(t, local(ca.TLSPort), http.NotFoundHandler())
	i := newIssuer(t, ca,
		challenges.Rung{Name: "alpn", Solver: tlsalpn01.NewResponder(tlsalpn01.ResponderConfig{Addr: local(ca.TLSPort)})},
		challenges.Rung{Name: "http", Solver: http01.NewResponder(http01.ResponderConfig{Addr: local(ca.HTTPPort)})},
	)
	b, err := obtain(t.Context(), i, "www", []string{"alpn", "http"}, "example.com")
	if err != nil {
		t.Fatal(err)
	}
	if got := b.Validations[0].Solver; got != "http" {
		t.Errorf("validated through %s", got)
	}
}
