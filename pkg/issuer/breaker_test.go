package issuer_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/issuer"
)

// crowd orders many certificates side by side at one CA and counts the requests as the client makes them.
type crowd struct {
	*world
	ahead    atomic.Int64
	requests atomic.Int64
}

func newCrowd(t *testing.T) *crowd {
	c := &crowd{world: newWorld(t)}
	c.reload(0)
	return c
}

// reload makes the issuer anew; timeout is for one request, 0 the default.
func (c *crowd) reload(timeout time.Duration) {
	c.remake(func(conf *issuer.Config) {
		conf.Clock = func() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }
		conf.Observe = func(string, time.Duration, error) { c.requests.Add(1) }
		conf.RequestTimeout = timeout
	})
}

// round lets n certificates come due, 16 at a time, and returns how many requests that took and what they got.
func (c *crowd) round(n int) (requests int, errs []error) {
	c.requests.Store(0)
	errs = make([]error, n)
	var all sync.WaitGroup
	slots := make(chan struct{}, 16)
	for k := range n {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			name := fmt.Sprintf("c%d", k)
			_, errs[k] = c.Obtain(c.t.Context(), c.named(name, name+".example.com"))
		})
	}
	all.Wait()
	return int(c.requests.Load()), errs
}

func failures(errs []error) (n int) {
	for _, err := range errs {
		if err != nil {
			n++
		}
	}
	return n
}

// TestFailedCAIsAskedSeldom: however many certificates are due, a CA that fails gets at most 20 requests a round: with
// nothing known of it, with directory and account known, and at each of the later tries. When it is back, all get through.
func TestFailedCAIsAskedSeldom(t *testing.T) {
	const most = 20
	hang := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	}
	for name, fault := range map[string]acmetest.Fault{
		"500":             acmetest.Problem(http.StatusInternalServerError, "serverInternal", "no", ""),
		"503":             acmetest.Answer(http.StatusServiceUnavailable, nil, "no"),
		"503 retry later": acmetest.Unavailable("120"),
		"refuses":         nil,
		"resets":          acmetest.Reset(),
		"garbage":         acmetest.Answer(http.StatusOK, nil, "<html>"),
		"times out":       hang,
	} {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, known: %v", name, warm), func(t *testing.T) {
				c := newCrowd(t)
				if warm {
					c.mustObtain(c.request("example.com"))
				}
				if fault == nil {
					_ = c.ca.Stop()
				} else {
					c.ca.Use(acmetest.At(fault))
				}
				if name == "times out" {
					c.reload(500 * time.Millisecond) // nothing answers anyway
				}
				many := 400
				if name == "503" && warm {
					many = 10_000
				}
				for n, wait := range []time.Duration{0, time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour} {
					c.ahead.Add(int64(wait + time.Minute))
					requests, errs := c.round(many)
					if requests > most || requests == 0 {
						t.Errorf("round %d: %d requests", n+1, requests)
					}
					if failures(errs) != many {
						t.Errorf("round %d: %d of %d failed", n+1, failures(errs), many)
					}
					var limit *certs.RateLimitError
					if last := errs[many-1]; !errors.As(last, &limit) || !limit.Unavailable {
						t.Errorf("round %d: the last got %v", n+1, last)
					}
				}
				if fault == nil {
					if err := c.ca.Resume(); err != nil {
						t.Fatal(err)
					}
				}
				c.ca.Use()
				if name == "times out" {
					c.reload(0)
				}
				c.ahead.Add(int64(25 * time.Hour))
				if _, errs := c.round(30); failures(errs) > 0 {
					t.Errorf("back: %v", errors.Join(errs...))
				}
			})
		}
	}
}

// TestOneEndpointFails: the CA takes orders and cannot sign them.
func TestOneEndpointFails(t *testing.T) {
	for _, at := range []acmetest.Endpoint{acmetest.NewOrder, acmetest.Finalize, acmetest.NewNonce, acmetest.NewAccount} {
		t.Run(string(at), func(t *testing.T) {
			c := newCrowd(t)
			c.ca.Use(acmetest.At(acmetest.Problem(http.StatusInternalServerError, "serverInternal", "no", ""), at))
			c.round(40)
			before := c.ca.Requests(at)
			if before > 30 {
				t.Errorf("%d requests", before)
			}
			c.ahead.Add(int64(2 * time.Minute))
			c.round(1000)
			if n := c.ca.Requests(at) - before; n > 10 {
				t.Errorf("%d more requests", n)
			}
			c.ca.Use()
			c.ahead.Add(int64(20 * time.Minute))
			if _, errs := c.round(20); failures(errs) > 0 {
				t.Errorf("back: %v", errors.Join(errs...))
			}
		})
	}
}

// TestOneBadCertificate: one that makes the CA fail stops no other, whatever the order in which they come.
func TestOneBadCertificate(t *testing.T) {
	c := newCrowd(t)
	refuse := acmetest.Problem(http.StatusInternalServerError, "serverInternal", "no", "")
	c.ca.Use(func(e acmetest.Endpoint, next http.Handler) http.Handler {
		if e != acmetest.NewOrder {
			return next
		}
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if list := c.ca.Received(acmetest.NewOrder); strings.Contains(string(list[len(list)-1].Payload), "bad.") {
				refuse(next).ServeHTTP(w, r)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	for n := range 4 {
		if _, err := c.Obtain(t.Context(), c.named("bad", "bad.example.com")); err == nil {
			t.Fatal("the bad one was issued")
		}
		name := fmt.Sprintf("good%d", n)
		if _, err := c.Obtain(t.Context(), c.named(name, name+".example.com")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRestOfThemWaitForTheProbe: while one probes, the others wait, and then go on.
func TestRestOfThemWaitForTheProbe(t *testing.T) {
	c := newCrowd(t)
	c.mustObtain(c.request("example.com"))
	_ = c.ca.Stop()
	c.round(20)
	if err := c.ca.Resume(); err != nil {
		t.Fatal(err)
	}
	var orders atomic.Int64
	first, release := make(chan struct{}), make(chan struct{})
	c.ca.Use(func(e acmetest.Endpoint, next http.Handler) http.Handler {
		if e == acmetest.NewOrder && orders.Add(1) == 1 {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(first)
				<-release
				next.ServeHTTP(w, r)
			})
		}
		return next
	})
	c.ahead.Add(int64(2 * time.Minute))
	done := make(chan []error)
	go func() {
		_, errs := c.round(12)
		done <- errs
	}()
	<-first
	if n := orders.Load(); n != 1 {
		t.Errorf("%d orders while the first was under way", n)
	}
	close(release)
	if errs := <-done; failures(errs) > 0 {
		t.Errorf("%v", errors.Join(errs...))
	}
}

// TestProbeIsCancelled: another one takes its place.
func TestProbeIsCancelled(t *testing.T) {
	c := newCrowd(t)
	c.mustObtain(c.request("example.com"))
	_ = c.ca.Stop()
	c.round(20)
	if err := c.ca.Resume(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.ca.Use(acmetest.At(acmetest.Times(1, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
	}), acmetest.NewOrder))
	c.ahead.Add(int64(2 * time.Minute))
	if _, err := c.Obtain(ctx, c.named("probe", "probe.example.com")); err == nil {
		t.Fatal("not cancelled")
	}
	if _, errs := c.round(12); failures(errs) > 0 {
		t.Errorf("%v", errors.Join(errs...))
	}
}

// TestReloadForgetsFailures: what was configured anew is tried at once.
func TestReloadForgetsFailures(t *testing.T) {
	c := newCrowd(t)
	_ = c.ca.Stop()
	c.round(5)
	if err := c.ca.Resume(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.obtain("example.com"); err == nil {
		t.Fatal("the failure was not remembered")
	}
	c.reload(0)
	c.mustObtain(c.request("example.com"))
}

// TestPersonAsksOnceMore: whoever asks finds out at once that a CA is back. While it is not, however many certificates
// one command names, it is asked once, and the tries of the others come no later. A pause that the CA asked for stays.
func TestPersonAsksOnceMore(t *testing.T) {
	c := newCrowd(t)
	asked := func(name string) error {
		req := c.named(name, name+".example.com")
		req.Asked = true
		_, err := c.Obtain(t.Context(), req)
		return err
	}
	fail := acmetest.At(acmetest.Answer(http.StatusServiceUnavailable, nil, "no"))
	c.ca.Use(fail)
	c.round(5)
	c.requests.Store(0)
	for n := range 200 {
		c.ahead.Add(int64(10 * time.Millisecond))
		if err := asked(fmt.Sprint("p", n)); err == nil {
			t.Fatal("no error")
		}
	}
	if n := c.requests.Load(); n == 0 || n > 3 {
		t.Errorf("%d requests for a command with 200 certificates", n)
	}
	c.ahead.Add(int64(time.Minute)) // the first pause of the others
	c.ca.Use()
	if _, errs := c.round(3); failures(errs) > 0 {
		t.Errorf("a person's tries made the others wait longer: %v", errors.Join(errs...))
	}
	c.ca.Use(fail)
	c.round(5)
	c.ca.Use()
	c.ahead.Add(int64(time.Second))
	if err := asked("back"); err != nil {
		t.Errorf("the CA is back: %v", err)
	}
	c.ca.Use(acmetest.At(acmetest.Times(1, acmetest.Unavailable("3600"))))
	_ = asked("paused")
	c.requests.Store(0)
	if err := asked("paused"); err == nil || c.requests.Load() != 0 {
		t.Errorf("the CA asked for an hour: %v, %d requests", err, c.requests.Load())
	}
}

// TestNearExpiryAsksSooner: a certificate that ends soon does not wait a day for the next probe.
func TestNearExpiryAsksSooner(t *testing.T) {
	c := newCrowd(t)
	old := c.mustObtain(c.request("example.com"))
	_ = c.ca.Stop()
	for _, wait := range []time.Duration{0, time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour} {
		c.ahead.Add(int64(wait + time.Minute))
		c.round(5)
	}
	c.ahead.Store(int64(time.Until(old.Leaf.NotAfter) - 12*time.Hour))
	c.round(5)
	if err := c.ca.Resume(); err != nil {
		t.Fatal(err)
	}
	c.ahead.Add(int64(70 * time.Minute))
	if _, err := c.obtain("www.example.com"); err == nil {
		t.Error("one without a certificate to lose came first")
	}
	req := c.request("example.com")
	req.Replaces = old
	if _, err := c.Obtain(t.Context(), req); err != nil {
		var vet *certs.VetError // Pebble's clock is not ahead
		if !errors.As(err, &vet) {
			t.Error(err)
		}
	}
}

// TestRenewalInfoOfAFailedCA: the questions for renewal windows are bounded in the same way, and failures of that endpoint
// keep no order from being placed.
func TestRenewalInfoOfAFailedCA(t *testing.T) {
	c := newCrowd(t)
	b := c.mustObtain(c.request("example.com"))
	c.ca.Use(acmetest.At(acmetest.Problem(http.StatusInternalServerError, "serverInternal", "no", ""), acmetest.RenewalInfo))
	ask := func(n int) (requests int) {
		before := c.ca.Requests(acmetest.RenewalInfo)
		for range n {
			if _, err := c.RenewalInfo(t.Context(), b.Leaf); err == nil {
				t.Error("no error")
			}
			leaf := *b.Leaf
			leaf.SerialNumber.Add(leaf.SerialNumber, leaf.SerialNumber)
			b.Leaf = &leaf
		}
		return c.ca.Requests(acmetest.RenewalInfo) - before
	}
	if n := ask(1000); n > 20 || n == 0 {
		t.Errorf("%d requests", n)
	}
	if _, err := c.obtain("www.example.com"); err != nil {
		t.Errorf("an order: %v", err)
	}
	_ = c.ca.Stop()
	c.ahead.Add(int64(2 * time.Hour))
	c.requests.Store(0)
	ask(1000)
	if n := c.requests.Load(); n > 20 || n == 0 {
		t.Errorf("refused: %d requests", n)
	}
}
