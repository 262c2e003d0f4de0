package issuer_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/issuer"
)

// A second implementation of ACME: it validates inside of the challenge request, keeps orders pending after a failure,
// and has neither profiles nor renewal information.
func TestStepCA(t *testing.T) {
	if testing.Short() {
		t.Skip("builds step-ca the first time")
	}
	ca := acmetest.StartStepCA(t)
	responder := http01.NewResponder(http01.ResponderConfig{Addr: fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort)})
	t.Cleanup(func() { _ = responder.Close() })
	i, err := issuer.New(issuer.Config{
		Name: "step", Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: openStore(t, t.TempDir()),
		Policy: certs.Policy{MinLifetime: time.Minute, MaxLifetime: 48 * time.Hour},
		Solvers: map[string]challenges.Rung{
			"http": {Name: "http", Solver: responder}, "mute": {Name: "mute", Solver: mute(challenges.HTTP01)},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = i.Close() })
	req := certs.Request{Spec: certs.Spec{Name: "www", Identifiers: identifiers(t, "example.com", "www.example.com"), Solvers: []string{"http"}}}
	b, err := i.Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if window, err := i.RenewalInfo(t.Context(), b.Leaf); err != nil || !window.IsZero() {
		t.Errorf("renewal information: %+v, %v", window, err)
	}
	if err := i.Revoke(t.Context(), b.Leaf, issuer.Superseded, nil); err != nil {
		t.Errorf("revoke: %v", err)
	}
	req.Spec.Name, req.Spec.Identifiers = "odd", identifiers(t, "intranet", "a.b.c.d.e.f.g.h.i.j.k.l.example.com")
	if _, err := i.Obtain(t.Context(), req); err != nil {
		t.Errorf("names that no public CA certifies: %v", err)
	}
	req.Spec.Identifiers = identifiers(t, "example.com", "www.example.com")
	req.Spec.Name, req.Spec.Solvers = "muted", []string{"mute"}
	if _, err := i.Obtain(t.Context(), req); len(certs.Validations(err)) == 0 {
		t.Errorf("got %v, want validation errors", err)
	}
	req.Spec.Solvers = []string{"mute", "http"}
	if _, err := i.Obtain(t.Context(), req); err != nil {
		t.Errorf("the ladder: %v", err)
	}
	req.Spec.Name, req.Spec.Solvers, req.Spec.KeyTypes = "dual", []string{"http"}, []certs.KeyType{certs.EC256, certs.RSA2048}
	if b, err := i.Obtain(t.Context(), req); err != nil || b.RSA == nil {
		t.Errorf("a dual unit: %v", err)
	}
}
