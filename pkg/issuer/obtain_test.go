package issuer_test

import (
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/google/go-cmp/cmp"
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
