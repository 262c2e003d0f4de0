package issuer_test

import (
	"crypto/x509"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// Whatever hits the order after its names were proved, the next run goes on with it.
func TestResume(t *testing.T) {
	for _, tc := range []struct {
		name      string
		fault     acmetest.Middleware
		finalizes int           // in all
		within    time.Duration // after which a CA that does not get on is given up; a minute where it says so itself
	}{
		{"finalize never arrives", acmetest.At(acmetest.Reset(), acmetest.Finalize), 4, time.Minute},
		{"finalize fails", acmetest.At(acmetest.Answer(500, nil, ""), acmetest.Finalize), 4, time.Minute},
		{"finalize limited", acmetest.At(acmetest.RateLimited("60"), acmetest.Finalize), 2, time.Minute},
		{"download fails", acmetest.At(acmetest.Answer(500, nil, ""), acmetest.Certificate), 1, time.Minute},
		{"download cut", acmetest.At(acmetest.Cut(100), acmetest.Certificate), 1, time.Minute},
		{"stuck in processing", acmetest.At(acmetest.OrderStatus("processing"), acmetest.Order, acmetest.Finalize), 1, 5 * time.Second},
	} {
		t.Run(tc.name, func(t *testing.T) {
			w := newWorld(t)
			clock := time.Now()
			w.remake(func(c *issuer.Config) {
				c.OrderTimeout, c.Clock = tc.within, func() time.Time { return clock }
			})
			w.ca.Use(tc.fault)
			if _, err := w.obtain("example.com"); err == nil {
				t.Fatal("the certificate was obtained")
			}
			if left := w.solver.left(); left != 0 {
				t.Errorf("%d answers left", left)
			}
			w.ca.Use()
			clock = clock.Add(2 * time.Minute)
			w.remake(nil)
			w.mustObtain(w.request("example.com"))
			if n := w.ca.Requests(acmetest.NewOrder); n != 1 {
				t.Errorf("%d orders", n)
			}
			if n := w.ca.Requests(acmetest.Finalize); n != tc.finalizes {
				t.Errorf("%d finalize requests, want %d", n, tc.finalizes)
			}
		})
	}
}

// An answer to finalize that is lost costs nothing at all: the order says what became of it.
func finalizeWithALostAnswer(t *testing.T) {
	w := newWorld(t)
	w.ca.Use(acmetest.At(acmetest.ResetAfter(), acmetest.Finalize))
	w.mustObtain(w.request("example.com"))
	if n := w.ca.Requests(acmetest.Finalize); n != 1 {
		t.Errorf("%d finalize requests", n)
	}
}

// Stored orders that do not lead to the wanted certificate are dropped for a new one.
func TestResumeDrops(t *testing.T) {
	fail := acmetest.At(acmetest.Answer(500, nil, ""), acmetest.Certificate)
	for name, change := range map[string]func(w *world, req *certs.Request){
		"other names":   func(w *world, req *certs.Request) { req.Spec.Identifiers = identifiers(w.t, "other.example.com") },
		"other profile": func(_ *world, req *certs.Request) { req.Spec.Profile = "shortlived" },
		"other key":     func(_ *world, req *certs.Request) { req.Spec.KeyTypes = []certs.KeyType{certs.EC384} },
		"compromised": func(w *world, req *certs.Request) {
			req.NewKey, req.Replaces = true, w.mustObtain(w.named("old", "example.com"))
		},
		"gone at the CA": func(w *world, _ *certs.Request) {
			if err := w.ca.Forget(); err != nil {
				w.t.Fatal(err)
			}
		},
		"invalid": func(w *world, _ *certs.Request) {
			w.ca.Use(acmetest.At(acmetest.Times(1, acmetest.OrderStatus("invalid")), acmetest.Order))
		},
		"forged": func(w *world, _ *certs.Request) {
			forger, err := acmetest.NewForger()
			if err != nil {
				w.t.Fatal(err)
			}
			w.ca.Use(acmetest.At(acmetest.Times(1, forger.Forge(acmetest.WrongKey)), acmetest.Certificate))
		},
		"damaged": func(w *world, _ *certs.Request) {
			order, err := w.store.Order("www", store.SlotEC)
			if err != nil {
				w.t.Fatal(err)
			}
			order.KeyPEM = nil
			if err := w.store.SaveOrder("www", store.SlotEC, order); err != nil {
				w.t.Fatal(err)
			}
		},
		"elsewhere": func(w *world, _ *certs.Request) {
			order, err := w.store.Order("www", store.SlotEC)
			if err != nil {
				w.t.Fatal(err)
			}
			order.Directory = "https://other.example.com/dir"
			if err := w.store.SaveOrder("www", store.SlotEC, order); err != nil {
				w.t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.ca.Use(fail)
			if _, err := w.obtain("example.com"); !isUnavailable(err) {
				t.Fatalf("got %v", err)
			}
			w.ca.Use()
			req := w.request("example.com")
			change(w, &req)
			before := w.ca.Requests(acmetest.NewOrder)
			w.mustObtain(req)
			if n := w.ca.Requests(acmetest.NewOrder) - before; n < 1 || n > 2 { // two where the account was lost as well
				t.Errorf("%d new orders", n)
			}
		})
	}
}

// An order that was stored long ago for the very certificate that is to be replaced leads nowhere.
func TestResumeDoesNotRenewWithTheSameCertificate(t *testing.T) {
	w := newWorld(t)
	first, err := w.obtain("example.com") // and nobody stores it
	if err != nil {
		t.Fatal(err)
	}
	req := w.request("example.com")
	req.Replaces = first
	if second := w.mustObtain(req); second.Leaf.Equal(first.Leaf) {
		t.Error("the same certificate again")
	}
}

// A process killed after finalize costs no second issuance.
func TestKillAfterFinalize(t *testing.T) {
	w := newWorld(t)
	dir := w.store.Dir()
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
	child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestHelperObtain$")
	child.Env = append(os.Environ(), "ACMED_TEST_DIR="+dir, "ACMED_TEST_CA="+w.ca.Directory, "ACMED_TEST_ROOT="+string(w.ca.RootPEM),
		fmt.Sprintf("ACMED_TEST_PORT=%d", w.ca.HTTPPort))
	finalized := make(chan struct{})
	var once atomic.Bool
	w.ca.Use(func(e acmetest.Endpoint, next http.Handler) http.Handler {
		if e == acmetest.Certificate && once.CompareAndSwap(false, true) {
			close(finalized)
			return acmetest.Delay(time.Hour)(next)
		}
		return next
	})
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-finalized:
	case <-time.After(2 * time.Minute):
		t.Error("the child did not get as far as the download")
	}
	_ = child.Process.Kill()
	_ = child.Wait()
	w.ca.Use()
	w.store = openStore(t, dir)
	w.remake(func(c *issuer.Config) { c.Store = w.store })
	w.mustObtain(w.request("example.com"))
	if orders, issued := w.ca.Requests(acmetest.NewOrder), w.ca.Issued(); orders != 1 || issued != 1 {
		t.Errorf("%d orders, %d issued", orders, issued)
	}
}

// TestHelperObtain is the process that TestKillAfterFinalize kills.
func TestHelperObtain(t *testing.T) {
	dir := os.Getenv("ACMED_TEST_DIR")
	if dir == "" {
		t.Skip("a helper of TestKillAfterFinalize")
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(os.Getenv("ACMED_TEST_ROOT")))
	responder := http01.NewResponder(http01.ResponderConfig{Addr: "127.0.0.1:" + os.Getenv("ACMED_TEST_PORT")})
	i, err := issuer.New(issuer.Config{
		Name: "test", Directory: os.Getenv("ACMED_TEST_CA"), Contact: "ops@example.com", AgreeTOS: true, Private: true, Roots: roots,
		Store: openStore(t, dir), Solvers: map[string]challenges.Rung{"http": {Name: "http", Solver: responder}},
	})
	if err != nil {
		t.Fatal(err)
	}
	_, err = i.Obtain(t.Context(), certs.Request{Spec: certs.Spec{
		Name: "www", Identifiers: identifiers(t, "example.com"), Solvers: []string{"http"}, Profile: "default",
	}})
	t.Fatalf("not killed: %v", err)
}

// A CA that keeps the order pending although an authorization failed is found out.
func orderStaysPending(t *testing.T) {
	w := newWorld(t, acmetest.WithRetryAfter(0, 0))
	var seconds atomic.Int64
	start := time.Now()
	w.remake(func(c *issuer.Config) {
		c.Clock = func() time.Time { return start.Add(time.Duration(seconds.Add(1)) * time.Second) }
		c.Solvers["mute"] = challenges.Rung{Name: "mute", Solver: mute(challenges.HTTP01)}
	})
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) { doc["status"] = "pending" }), acmetest.Order))
	req := w.request("example.com")
	req.Spec.Solvers = []string{"mute"}
	_, err := w.Obtain(t.Context(), req)
	checkFailed(t, err, []string{"example.com/mute"})
}
