// Package bench compares acmed with its peers. Every benchmark runs the peers against the same kind of CA, where time is
// measured a fresh instance for each, and reports ratios, because times of different machines do not compare.
package bench

import (
	"cmp"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"fmt"
	"io"
	"log"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/certcrypto"
	"github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/lego"
	legolog "github.com/go-acme/lego/v4/log"
	"github.com/go-acme/lego/v4/registration"
	"golang.org/x/sync/errgroup"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/store"
)

// client obtains one certificate for names.
type client func(ctx context.Context, names []string) error

// fresh makes names that were never ordered.
type fresh struct{ n atomic.Int64 }

func (f *fresh) names(count int) []string {
	n := f.n.Add(1)
	list := make([]string, count)
	for i := range list {
		list[i] = fmt.Sprintf("n%d-%d.example.com", n, i)
	}
	return list
}

// newCA is a CA without artificial delays whose challenge port is ours to give to its client.
func newCA(b *testing.B) *acmetest.CA {
	b.Helper()
	return acmetest.Start(b, acmetest.WithRetryAfter(0, 0))
}

func newAcmed(b *testing.B, ca acmetest.Server, f *fresh) (client, func()) {
	b.Helper()
	dir, err := store.Open(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	responder := http01.NewResponder(http01.ResponderConfig{Addr: "127.0.0.1:" + strconv.Itoa(ca.HTTPPort)})
	i, err := issuer.New(issuer.Config{
		Name: "bench", Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: dir, OrderBudget: -1,
		Solvers: map[string]challenges.Rung{"http-01": {Name: "http-01", Solver: responder}},
	})
	if err != nil {
		b.Fatal(err)
	}
	obtain := func(ctx context.Context, names []string) error {
		spec := certs.Spec{Name: "c" + strconv.FormatInt(f.n.Add(1), 10), Solvers: []string{"http-01"}, Profile: "default"}
		for _, name := range names {
			spec.Identifiers = append(spec.Identifiers, certs.Identifier{Type: certs.DNS, Value: name})
		}
		_, err := i.Obtain(ctx, certs.Request{Spec: spec})
		return err
	}
	return obtain, func() { _, _, _ = i.Close(), responder.Close(), dir.Close() }
}

func newBare(b *testing.B, ca acmetest.Server) (client, func()) {
	b.Helper()
	bare, err := acmetest.NewBare(ca)
	if err != nil {
		b.Fatal(err)
	}
	obtain := func(ctx context.Context, names []string) error {
		_, _, err := bare.Order(ctx, "default", names...)
		return err
	}
	return obtain, func() { _ = bare.Close() }
}

type user struct {
	key crypto.PrivateKey
	reg *registration.Resource
}

func (u *user) GetEmail() string                        { return "" }
func (u *user) GetRegistration() *registration.Resource { return u.reg }
func (u *user) GetPrivateKey() crypto.PrivateKey        { return u.key }

func newLego(b *testing.B, ca acmetest.Server) (client, func()) {
	b.Helper()
	legolog.Logger = log.New(io.Discard, "", 0)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	u := &user{key: key}
	config := lego.NewConfig(u)
	config.CADirURL, config.Certificate.KeyType = ca.Directory, certcrypto.EC256
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Roots, MinVersion: tls.VersionTLS12}}
	config.HTTPClient = &http.Client{Transport: transport}
	c, err := lego.NewClient(config)
	if err != nil {
		b.Fatal(err)
	}
	responder := http01.NewResponder(http01.ResponderConfig{Addr: "127.0.0.1:" + strconv.Itoa(ca.HTTPPort)})
	if err := c.Challenge.SetHTTP01Provider(provider{responder}); err != nil {
		b.Fatal(err)
	}
	if u.reg, err = c.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
		b.Fatal(err)
	}
	obtain := func(_ context.Context, names []string) error {
		_, err := c.Certificate.Obtain(certificate.ObtainRequest{Domains: names, Bundle: true, Profile: "default"})
		return err
	}
	return obtain, func() { transport.CloseIdleConnections(); _ = responder.Close() }
}

// provider lends our responder to lego, whose own one serves a single name at a time.
type provider struct{ *http01.Responder }

// Present is part of lego's provider.
func (p provider) Present(_, token, keyAuth string) error {
	return p.Responder.Present(context.Background(), challenges.Challenge{Type: challenges.HTTP01, Token: token, KeyAuth: keyAuth})
}

// CleanUp is part of lego's provider.
func (p provider) CleanUp(_, token, keyAuth string) error {
	return p.Responder.CleanUp(context.Background(), challenges.Challenge{Type: challenges.HTTP01, Token: token, KeyAuth: keyAuth})
}

// cost is what some work takes: the time, and the bytes and objects allocated, the CA's own among them.
type cost struct {
	time           time.Duration
	bytes, objects uint64
}

// once measures one run of work. Before it, c obtains a certificate, which makes its account and reads the directory.
func once(b *testing.B, c client, f *fresh, work func() error) cost {
	b.Helper()
	if err := c(b.Context(), f.names(1)); err != nil {
		b.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	if err := work(); err != nil {
		b.Fatal(err)
	}
	took := time.Since(start)
	runtime.ReadMemStats(&after)
	return cost{took, after.TotalAlloc - before.TotalAlloc, after.Mallocs - before.Mallocs}
}

// median is the median of each figure by itself.
func median(list []cost) cost {
	middle := func(a, b cost) int { return cmp.Compare(a.time, b.time) }
	var m cost
	slices.SortFunc(list, middle)
	m.time = list[len(list)/2].time
	slices.SortFunc(list, func(a, b cost) int { return cmp.Compare(a.bytes, b.bytes) })
	m.bytes = list[len(list)/2].bytes
	slices.SortFunc(list, func(a, b cost) int { return cmp.Compare(a.objects, b.objects) })
	m.objects = list[len(list)/2].objects
	return m
}

// report sets what the same work cost each client side by side. A zero lego was not run.
type report struct{ acmed, bare, lego cost }

func (r *report) print(b *testing.B) {
	b.Helper()
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(float64(r.acmed.time)/float64(r.bare.time), "acmed/bare")
	if r.lego != (cost{}) {
		b.ReportMetric(float64(r.lego.time)/float64(r.acmed.time), "lego/acmed")
	}
	for name, c := range map[string]cost{"acmed": r.acmed, "bare": r.bare, "lego": r.lego} {
		if c == (cost{}) {
			continue
		}
		b.ReportMetric(milliseconds(c.time), name+"-ms")
		b.ReportMetric(float64(c.bytes>>10), name+"-KiB")
		b.ReportMetric(float64(c.objects), name+"-allocs")
	}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkIssuance is one certificate of 1, 10 and 100 names: acmed beside a bare loop that sends the fewest requests, and
// beside lego's Certifier, which takes minutes for 100 names; -short leaves it out.
func BenchmarkIssuance(b *testing.B) {
	const rounds = 15
	for _, count := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("names=%d", count), func(b *testing.B) {
			f := &fresh{}
			measure := func(c client) cost {
				return once(b, c, f, func() error { return c(b.Context(), f.names(count)) })
			}
			acmed, stopAcmed := newAcmed(b, newCA(b).Server, f)
			defer stopAcmed()
			bare, stopBare := newBare(b, newCA(b).Server)
			defer stopBare()
			var ours, least []cost
			for b.Loop() {
				for range rounds { // in turns, because the machine may have other work for a while
					ours, least = append(ours, measure(acmed)), append(least, measure(bare))
				}
			}
			r := report{acmed: median(ours), bare: median(least)}
			if !testing.Short() {
				lego, stop := newLego(b, newCA(b).Server)
				defer stop()
				r.lego = measure(lego)
			}
			r.print(b)
		})
	}
}

// BenchmarkMany is 20 certificates of one name, one after the other and 8 at a time: the median of rounds in which the
// clients take turns.
func BenchmarkMany(b *testing.B) {
	const certificates, rounds = 20, 15
	for _, concurrency := range []int{1, 8} {
		b.Run(fmt.Sprintf("concurrency=%d", concurrency), func(b *testing.B) {
			f := &fresh{}
			// A CA of its own for each run: what is left of hundreds of connections to one port makes opening it again slow.
			all := func(start func(*acmetest.CA) (client, func())) cost {
				c, stop := start(newCA(b))
				defer stop()
				return once(b, c, f, func() error {
					var group errgroup.Group
					group.SetLimit(concurrency)
					for range certificates {
						group.Go(func() error { return c(b.Context(), f.names(1)) })
					}
					return group.Wait()
				})
			}
			acmed := func(ca *acmetest.CA) (client, func()) { return newAcmed(b, ca.Server, f) }
			bare := func(ca *acmetest.CA) (client, func()) { return newBare(b, ca.Server) }
			var ours, least []cost
			for b.Loop() {
				for range rounds {
					ours, least = append(ours, all(acmed)), append(least, all(bare))
				}
			}
			r := report{acmed: median(ours), bare: median(least)}
			if !testing.Short() {
				r.lego = all(func(ca *acmetest.CA) (client, func()) { return newLego(b, ca.Server) })
			}
			r.print(b)
			b.ReportMetric(certificates/r.acmed.time.Seconds(), "certificates/s")
		})
	}
}
