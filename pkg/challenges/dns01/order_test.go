package dns01

import (
	"slices"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// TestOrder issues a certificate for a wildcard, its apex and a delegated name, with Pebble asking the same BIND.
func TestOrder(t *testing.T) {
	n := startNamed(t, freePort(t),
		zone{"example.com", updatable, oneServer + "_acme-challenge.www CNAME www.challenges.example.net.\n"},
		zone{"challenges.example.net", updatable, "@ NS ns1.example.com.\n"})
	ca := acmetest.Start(t)
	ca.DNS.Addr = n.addr
	if err := ca.Forget(); err != nil { // the new CA asks there
		t.Fatal(err)
	}
	state, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer state.Close()
	s := solverFor(t, n.config(t), Options{})
	i, err := issuer.New(issuer.Config{
		Name: "test", Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: state, UserAgent: "acmed/test",
		Solvers: map[string]challenges.Rung{"dns": {Name: "dns", Solver: s}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer i.Close()
	names := []string{"*.example.com", "example.com", "www.example.com"}
	req := certs.Request{Spec: certs.Spec{Name: "www", Solvers: []string{"dns"}, Profile: "default"}}
	for _, name := range names {
		req.Spec.Identifiers = append(req.Spec.Identifiers, identify(t, name))
	}
	b, err := i.Obtain(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	got := slices.Sorted(slices.Values(b.Leaf.DNSNames))
	if !slices.Equal(got, names) {
		t.Errorf("names %q, want %q", got, names)
	}
	for _, name := range []string{"_acme-challenge.example.com", "www.challenges.example.net"} {
		if left := n.txt(name); len(left) != 0 {
			t.Errorf("records %q are left at %s", left, name)
		}
	}
	if left := entries(t, s.journal); len(left) != 0 {
		t.Errorf("journal: %v", left)
	}
}
