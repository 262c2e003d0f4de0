package e2e

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/challenges/snippet"
)

// TestLadderBehindHAProxy: certificates of several names behind an HAProxy that ends TLS. The first rung of the ladder fails
// for each name, and the verdicts come in any order; every first issuance succeeds nevertheless, after at most one order for each
// name and one more. ACMED_RUNS is how many there are.
func TestLadderBehindHAProxy(t *testing.T) {
	runs := 20
	if text := os.Getenv("ACMED_RUNS"); text != "" {
		var err error
		if runs, err = strconv.Atoi(text); err != nil {
			t.Fatal(err)
		}
	}
	b := newBox(t, acmetest.WithValidationSleep(2*time.Second))
	b.terminate(snippet.HAProxy)
	var list strings.Builder
	for i := range runs {
		fmt.Fprintf(&list, "  - { name: c%d, names: [c%d.example.com, www.c%d.example.com, api.c%d.example.com], solvers: [alpn, http] }\n", i, i, i, i)
	}
	b.configure("off", "", list.String())
	out, code := b.acmed("renew", "--all", "-o", "json")
	if code != 0 {
		t.Errorf("exit %d: %s", code, out)
	}
	failed := 0
	for i := range runs {
		if out, code := b.acmed("status", "-o", "json", fmt.Sprint("c", i)); code != 0 && code != 3 || !strings.Contains(out, `"health": "ok"`) {
			failed++
		}
	}
	orders := b.ca.Requests(acmetest.NewOrder)
	t.Logf("%d first issuances of three names, %d failed, %d orders", runs, failed, orders)
	if failed > 0 || orders > runs*4 {
		t.Errorf("%d of %d failed, after %d orders", failed, runs, orders)
	}
}
