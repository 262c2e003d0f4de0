package issuer_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/issuer"
)

// mute answers nothing, so the CA's validation fails.
type mute challenges.Type

func (m mute) Type() challenges.Type                             { return challenges.Type(m) }
func (mute) Present(context.Context, challenges.Challenge) error { return nil }
func (mute) CleanUp(context.Context, challenges.Challenge) error { return nil }

// txt answers dns-01 in the CA's name server.
type txt struct{ dns *acmetest.DNS }

func (txt) Type() challenges.Type { return challenges.DNS01 }

func (s txt) Present(_ context.Context, c challenges.Challenge) error {
	s.dns.AddDNSTXTRecord("_acme-challenge."+c.Identifier.Base()+".", dnsValue(c.KeyAuth))
	return nil
}

func (s txt) CleanUp(_ context.Context, c challenges.Challenge) error {
	s.dns.DeleteDNSTXTRecord("_acme-challenge." + c.Identifier.Base() + ".")
	return nil
}

func withLadder(w *world) {
	w.remake(func(c *issuer.Config) {
		c.Solvers["mute"] = challenges.Rung{Name: "mute", Solver: mute(challenges.HTTP01)}
		c.Solvers["dumb"] = challenges.Rung{Name: "dumb", Solver: mute(challenges.TLSALPN01)}
		c.Solvers["dns"] = challenges.Rung{Name: "dns", Solver: txt{w.ca.DNS}}
		c.Solvers["elsewhere"] = challenges.Rung{Name: "elsewhere", Solver: txt{w.ca.DNS}, Zones: []string{"example.org"}}
	})
}

func TestLadder(t *testing.T) {
	for _, tc := range []struct {
		name    string
		names   []string
		solvers []string
		solved  map[string]string
		orders  int
		via     map[string]string // identifier to solver
		failed  []string          // identifier/solver
	}{
		{name: "first works", names: []string{"example.com"}, solvers: []string{"http", "mute"}, orders: 1, via: map[string]string{"example.com": "http"}},
		{name: "second works", names: []string{"example.com"}, solvers: []string{"mute", "http"}, orders: 2, via: map[string]string{"example.com": "http"}},
		{name: "third works", names: []string{"example.com"}, solvers: []string{"mute", "dumb", "http"}, orders: 3, via: map[string]string{"example.com": "http"}},
		{name: "memory", names: []string{"example.com"}, solvers: []string{"mute", "http"}, solved: map[string]string{"example.com": "http"},
			orders: 1, via: map[string]string{"example.com": "http"}},
		{name: "wildcard and apex", names: []string{"example.com", "*.example.com"}, solvers: []string{"http", "dns"}, orders: 1,
			via: map[string]string{"example.com": "http", "*.example.com": "dns"}},
		{name: "zones", names: []string{"example.com", "example.org"}, solvers: []string{"elsewhere", "http"}, orders: 1,
			via: map[string]string{"example.com": "http", "example.org": "elsewhere"}},
		{name: "exhausted", names: []string{"a.example.com", "b.example.com"}, solvers: []string{"mute", "dumb"}, orders: 2,
			failed: []string{"a.example.com/mute", "b.example.com/mute", "a.example.com/dumb", "b.example.com/dumb"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			withLadder(w)
			req := w.request(tc.names...)
			req.Spec.Solvers, req.Solved = tc.solvers, tc.solved
			b, err := w.Obtain(t.Context(), req)
			if n := w.ca.Requests(acmetest.NewOrder); n != tc.orders {
				t.Errorf("%d orders, want %d", n, tc.orders)
			}
			if left := w.solver.left(); left != 0 {
				t.Errorf("%d answers left", left)
			}
			if tc.failed != nil {
				checkFailed(t, err, tc.failed)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			via := map[string]string{}
			for _, v := range b.Validations {
				via[v.Identifier] = v.Solver
			}
			if diff := cmp.Diff(tc.via, via); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// checkFailed compares as sets: a CA may give the order up before it looked at every name.
func checkFailed(t *testing.T, err error, want []string) {
	t.Helper()
	list := certs.Validations(err)
	if len(list) == 0 {
		t.Fatalf("no validation errors in %v", err)
	}
	for _, v := range list {
		if !strings.Contains(strings.Join(want, " "), v.Identifier.Value+"/"+v.Solver) {
			t.Errorf("%s failed through %s", v.Identifier, v.Solver)
		}
		if !strings.HasPrefix(v.Problem, acmetest.ProblemPrefix) {
			t.Errorf("problem %q", v.Problem)
		}
	}
	if isUnavailable(err) {
		t.Errorf("a failed name counts as an unavailable CA: %v", err)
	}
}

// A solver that cannot present is passed over within the same order: the CA has not looked yet.
func TestPresentFails(t *testing.T) {
	w := newWorld(t)
	withLadder(w)
	w.solver.onPresent = func(context.Context, challenges.Challenge) error { return errors.New("port in use") }
	req := w.request("example.com")
	req.Spec.Solvers = []string{"http", "dns"}
	w.mustObtain(req)
	if n := w.ca.Requests(acmetest.NewOrder); n != 1 || w.solver.left() != 0 {
		t.Errorf("%d orders, %d answers left", n, w.solver.left())
	}
	req = w.named("alone", "alone.example.com")
	_, err := w.Obtain(t.Context(), req)
	if list := certs.Validations(err); len(list) != 1 || list[0].Problem != "" || !strings.Contains(err.Error(), "port in use") {
		t.Errorf("got %v", err)
	}
}

func TestNoSolverFits(t *testing.T) {
	w := newWorld(t)
	withLadder(w)
	var permanent *certs.PermanentError
	for name, change := range map[string]func(*certs.Spec){
		"wildcard":       func(s *certs.Spec) { s.Identifiers = identifiers(t, "*.example.com") },
		"address by dns": func(s *certs.Spec) { s.Identifiers, s.Solvers = identifiers(t, "127.0.0.1"), []string{"dns"} },
		"zone":           func(s *certs.Spec) { s.Solvers = []string{"elsewhere"} },
		"unknown":        func(s *certs.Spec) { s.Solvers = []string{"nobody"} },
		"none":           func(s *certs.Spec) { s.Solvers = nil },
	} {
		req := w.request("example.com")
		change(&req.Spec)
		if _, err := w.Obtain(t.Context(), req); !errors.As(err, &permanent) {
			t.Errorf("%s: got %v, want a PermanentError", name, err)
		}
	}
	if n := len(w.ca.AllRequests()); n != 0 {
		t.Errorf("requests to %d endpoints", n)
	}
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
		doc["challenges"] = []any{map[string]any{"type": "dns-persist-01", "url": w.ca.Directory, "status": "pending"}}
	}), acmetest.Authorization))
	if _, err := w.obtain("example.com"); !errors.As(err, &permanent) || !strings.Contains(err.Error(), "dns-persist-01") {
		t.Errorf("unknown challenge types only: got %v", err)
	}
}

// A CA that validates inside of the challenge request and keeps the order pending after a failure.
func TestSynchronousFailure(t *testing.T) {
	w := newWorld(t)
	w.ca.Use(acmetest.At(acmetest.ChangeJSON(func(doc map[string]any) {
		doc["error"] = map[string]any{"type": acmetest.ProblemPrefix + "connection", "detail": "no route"}
	}), acmetest.Challenge))
	_, err := w.obtain("example.com")
	checkFailed(t, err, []string{"example.com/http"})
	if n := w.ca.Requests(acmetest.Order); n != 0 {
		t.Errorf("the order was looked at %d times", n)
	}
}

func TestCancel(t *testing.T) {
	never := func(ctx context.Context, _ challenges.Challenge) error {
		<-ctx.Done()
		return ctx.Err()
	}
	slow := acmetest.Delay(time.Hour)
	for _, tc := range []struct {
		name    string
		fault   acmetest.Middleware
		present func(context.Context, challenges.Challenge) error
		cleanUp func(context.Context)
	}{
		{name: "directory", fault: acmetest.At(slow, acmetest.Directory)},
		{name: "nonce", fault: acmetest.At(slow, acmetest.NewNonce)},
		{name: "registration", fault: acmetest.At(slow, acmetest.NewAccount)},
		{name: "order", fault: acmetest.At(slow, acmetest.NewOrder)},
		{name: "authorization", fault: acmetest.At(slow, acmetest.Authorization)},
		{name: "present", present: never},
		{name: "challenge", fault: acmetest.At(slow, acmetest.Challenge)},
		{name: "polling", fault: acmetest.At(slow, acmetest.Order)},
		{name: "pending", fault: acmetest.At(acmetest.Answer(200, nil, `{"status":"pending"}`), acmetest.Order)},
		{name: "finalize", fault: acmetest.At(slow, acmetest.Finalize)},
		{name: "download", fault: acmetest.At(slow, acmetest.Certificate)},
		{name: "bad nonces", fault: acmetest.At(acmetest.Problem(400, "badNonce", "again", ""), acmetest.NewOrder)},
		{name: "slow body", fault: acmetest.At(acmetest.Throttle(1), acmetest.Authorization)},
		{name: "slow clean-up", fault: acmetest.At(slow, acmetest.Order), cleanUp: func(context.Context) { time.Sleep(1200 * time.Millisecond) }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			if tc.fault != nil {
				w.ca.Use(tc.fault)
			}
			w.solver.onPresent, w.solver.onCleanUp = tc.present, tc.cleanUp
			ctx, cancel := context.WithCancel(t.Context())
			var at time.Time
			time.AfterFunc(300*time.Millisecond, func() { at = time.Now(); cancel() })
			_, err := w.Obtain(ctx, w.request("a.example.com", "b.example.com"))
			if took := time.Since(at); took > time.Minute {
				t.Errorf("returned %s after being cancelled", took)
			}
			if !errors.Is(err, context.Canceled) || isUnavailable(err) {
				t.Errorf("got %v, want context.Canceled", err)
			}
			if err := w.Close(); err != nil {
				t.Error(err)
			}
			if left := w.solver.left(); left != 0 {
				t.Errorf("%d answers left", left)
			}
		})
	}
}

// An authorization that stays pending until the deadline is given back.
func pendingForEver(t *testing.T) {
	w := newWorld(t)
	var mu sync.Mutex
	deactivated := 0
	w.ca.Use(func(e acmetest.Endpoint, next http.Handler) http.Handler {
		switch e {
		case acmetest.Challenge: // the CA never starts to validate
			return acmetest.Answer(200, nil, `{"type":"http-01","status":"processing"}`)(next)
		case acmetest.Authorization:
			return acmetest.ChangeJSON(func(doc map[string]any) {
				mu.Lock()
				defer mu.Unlock()
				if doc["status"] == "deactivated" {
					deactivated++
				}
			})(next)
		}
		return next
	})
	w.remake(func(c *issuer.Config) { c.OrderTimeout = 300 * time.Millisecond })
	_, err := w.obtain("a.example.com", "b.example.com")
	if !isUnavailable(err) {
		t.Errorf("got %v, want an UnavailableError", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if left := w.solver.left(); left != 0 || deactivated != 2 {
		t.Errorf("%d answers left, %d authorizations given back", left, deactivated)
	}
}

// TestSharedRecord: the CA may look at the record of a wildcard and its apex only when both values are there, because its
// resolver may remember what it saw first.
func TestSharedRecord(t *testing.T) {
	var presented, started atomic.Int32
	dns := &watched{onPresent: func(_ context.Context, c challenges.Challenge) error {
		if !strings.HasPrefix(c.Identifier.Value, "*.") {
			time.Sleep(100 * time.Millisecond) // a provider that is slow with one of them
		}
		presented.Add(1)
		return nil
	}}
	w := newWorld(t, acmetest.WithMiddleware(onPayload(acmetest.Challenge, func(map[string]any) {
		started.Add(1)
		if n := presented.Load(); n != 3 {
			t.Errorf("the CA was told to look when %d of 3 answers were there", n)
		}
	})))
	dns.Solver = txt{w.ca.DNS}
	w.remake(func(c *issuer.Config) {
		c.Solvers["dns"] = challenges.Rung{Name: "dns", Solver: dns}
	})
	req := w.request("*.example.com", "example.com", "www.example.com")
	req.Spec.Solvers = []string{"dns"}
	w.mustObtain(req)
	if n := started.Load(); n != 3 {
		t.Errorf("%d validations were started", n)
	}
}

// TestForbiddenByCAA: a CA that finds itself forbidden is asked once, whatever the ladder has, and not again within minutes.
func TestForbiddenByCAA(t *testing.T) {
	forbid := acmetest.ChangeJSON(func(doc map[string]any) {
		for _, c := range doc["challenges"].([]any) {
			if failed, ok := c.(map[string]any)["error"].(map[string]any); ok {
				failed["type"], failed["detail"] = "urn:ietf:params:acme:error:caa", "CAA record for example.com prevents issuance"
			}
		}
	})
	w := newWorld(t, acmetest.WithMiddleware(acmetest.At(forbid, acmetest.Authorization)))
	withLadder(w)
	req := w.request("example.com")
	req.Spec.Solvers = []string{"mute", "dumb", "http"}
	_, err := w.Obtain(t.Context(), req)
	var permanent *certs.PermanentError
	if !errors.As(err, &permanent) || advice.Of(err) != advice.CAAForbids || len(certs.Validations(err)) != 1 {
		t.Errorf("%v (%s), want what only an operator can change", err, advice.Of(err))
	}
	if n := w.ca.Requests(acmetest.NewOrder); n != 1 {
		t.Errorf("%d orders were placed", n)
	}
}

// broken panics where its part of an order begins or ends.
type broken struct {
	challenges.Solver
	present bool
}

func (s broken) Present(ctx context.Context, c challenges.Challenge) error {
	if s.present {
		panic("a nil map in somebody's library")
	}
	return s.Solver.Present(ctx, c)
}

func (s broken) CleanUp(ctx context.Context, c challenges.Challenge) error {
	_ = s.Solver.CleanUp(ctx, c)
	panic("the same when it tidies up")
}

// TestSolverPanics: a solver that panics has failed, and neither the order nor the program has.
func TestSolverPanics(t *testing.T) {
	for _, present := range []bool{true, false} {
		w := newWorld(t)
		withLadder(w)
		w.remake(func(c *issuer.Config) {
			c.Solvers["broken"] = challenges.Rung{Name: "broken", Solver: broken{txt{w.ca.DNS}, present}}
		})
		req := w.request("example.com", "www.example.com")
		req.Spec.Solvers = []string{"broken", "http"}
		want := "broken"
		if present {
			want = "http"
		}
		b := w.mustObtain(req)
		for _, v := range b.Validations {
			if v.Solver != want {
				t.Errorf("%s was proved through %s, want %s", v.Identifier, v.Solver, want)
			}
		}
		req.Spec.Solvers, req.Spec.Name = []string{"broken"}, "other"
		if _, err := w.Obtain(t.Context(), req); present != (err != nil) || err != nil && !strings.Contains(err.Error(), "internal error in solver broken: a nil map") {
			t.Errorf("%v", err)
		}
	}
}
