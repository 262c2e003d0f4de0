package issuer_test

import (
	"sync"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/issuer"
)

// TestObserve: every request is told once, under the name that the directory has for it.
func TestObserve(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	seen, failed, sum := map[string]int{}, 0, 0
	w.remake(func(c *issuer.Config) {
		c.Observe = func(endpoint string, took time.Duration, err error) {
			mu.Lock()
			defer mu.Unlock()
			seen[endpoint]++
			sum++
			if err != nil || took <= 0 {
				failed++
			}
		}
	})
	w.ca.ResetRequests()
	w.mustObtain(w.request("example.com"))
	want := 0
	for _, n := range w.ca.AllRequests() {
		want += n
	}
	mu.Lock()
	defer mu.Unlock()
	if seen["directory"] != 1 || seen["new-account"] != 1 || seen["new-order"] != w.ca.Requests(acmetest.NewOrder) || seen["resource"] < 4 || sum != want || failed > 0 {
		t.Errorf("seen %v, %d failed; the CA saw %v", seen, failed, w.ca.AllRequests())
	}
}
