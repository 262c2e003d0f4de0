package issuer_test

import (
	"net/http"
	"sync"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// TestVerdictsOfAllNames: the order turns invalid with the first name while the others are still being validated. Each name
// uses each rung of its own ladder once, and the bound on the orders is no longer that of one name.
func TestVerdictsOfAllNames(t *testing.T) {
	for _, late := range []int{0, 3, 8} {
		w := newWorld(t)
		withLadder(w)
		var mu sync.Mutex
		reads := map[string]int{}
		w.ca.Use(acmetest.At(func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				mu.Lock()
				reads[r.URL.Path]++
				n := reads[r.URL.Path]
				mu.Unlock()
				pending := acmetest.ChangeJSON(func(doc map[string]any) {
					id, _ := doc["identifier"].(map[string]any)
					if id["value"] != "a.example.com" && doc["status"] == "invalid" && n > 1 && n <= late+1 { // the first read is before the validation
						doc["status"] = "pending"
						list, _ := doc["challenges"].([]any)
						for _, c := range list {
							if c, ok := c.(map[string]any); ok {
								c["status"] = "processing"
								delete(c, "error")
							}
						}
					}
				})
				pending(next).ServeHTTP(rw, r)
			})
		}, acmetest.Authorization))
		req := w.request("a.example.com", "b.example.com", "c.example.com")
		req.Spec.Solvers = []string{"mute", "dumb", "http"}
		b := w.mustObtain(req)
		if n := w.ca.Requests(acmetest.NewOrder); n != 3 {
			t.Errorf("late by %d: %d orders, want one for each rung", late, n)
		}
		for _, v := range b.Validations {
			if v.Solver != "http" {
				t.Errorf("%s was validated by %s", v.Identifier, v.Solver)
			}
		}
	}
}

// TestNamesFailAtDifferentRungs: a name that needs the last rung gets it although others were done earlier, and one that
// fails late does not end what another needs.
func TestNamesFailAtDifferentRungs(t *testing.T) {
	w := newWorld(t)
	withLadder(w)
	// a fails with the first rung in the first order; b, valid at first, has to be validated again in the second and fails there.
	first := true
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
		id, _ := doc["identifier"].(map[string]any)
		if id["value"] == "b.example.com" && first && doc["status"] == "invalid" {
			doc["status"] = "valid"
			list, _ := doc["challenges"].([]any)
			for _, c := range list {
				if c, ok := c.(map[string]any); ok {
					delete(c, "error")
				}
			}
			first = false
		}
	}), acmetest.Authorization))
	req := w.request("a.example.com", "b.example.com")
	req.Spec.Solvers = []string{"mute", "dns"}
	w.mustObtain(req)
	if n := w.ca.Requests(acmetest.NewOrder); n != 3 {
		t.Errorf("%d orders, want 3", n)
	}
}
