// Package bench compares acmed with its peers. Every benchmark runs the peers in the same process against the same CA and
// reports ratios, because times of different machines do not compare.
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

// newCA has a CA without artificial delays whose challenge port is ours to give to one client after the other.
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

// cost is what one issuance takes: the median time, and the bytes allocated with the CA's own.
type cost struct {
	time  time.Duration
	bytes uint64
}

func measure(b *testing.B, c client, f *fresh, rounds, count int) cost {
	b.Helper()
	var times []time.Duration
	var before, after runtime.MemStats
	if err := c(b.Context(), f.names(1)); err != nil { // warm: account, connections, directory
		b.Fatal(err)
	}
	runtime.ReadMemStats(&before)
	for range rounds {
		start := time.Now()
		if err := c(b.Context(), f.names(count)); err != nil {
			b.Fatal(err)
		}
		times = append(times, time.Since(start))
	}
	runtime.ReadMemStats(&after)
	slices.SortFunc(times, cmp.Compare)
	return cost{times[rounds/2], (after.TotalAlloc - before.TotalAlloc) / uint64(rounds)}
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// BenchmarkIssuance is one certificate of 1, 10 and 100 names: acmed beside a bare loop that sends the fewest requests, and
// beside lego's Certifier, which takes minutes for 100 names; -short leaves it out.
func BenchmarkIssuance(b *testing.B) {
	for _, count := range []int{1, 10, 100} {
		b.Run(fmt.Sprintf("names=%d", count), func(b *testing.B) {
			ca, f := newCA(b), &fresh{}
			var ours, bare, legos cost
			for b.Loop() {
				c, stop := newAcmed(b, ca.Server, f)
				ours = measure(b, c, f, 15, count)
				stop()
				c, stop = newBare(b, ca.Server)
				bare = measure(b, c, f, 15, count)
				stop()
			}
			if !testing.Short() {
				c, stop := newLego(b, ca.Server)
				start := time.Now()
				if err := c(b.Context(), f.names(count)); err != nil {
					b.Fatal(err)
				}
				legos.time = time.Since(start)
				stop()
				b.ReportMetric(milliseconds(legos.time), "lego-ms")
				b.ReportMetric(float64(legos.time)/float64(ours.time), "lego/acmed")
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(milliseconds(ours.time), "acmed-ms")
			b.ReportMetric(milliseconds(bare.time), "bare-ms")
			b.ReportMetric(float64(ours.time)/float64(bare.time), "acmed/bare")
			b.ReportMetric(float64(ours.bytes>>10), "acmed-KiB")
			b.ReportMetric(float64(bare.bytes>>10), "bare-KiB")
		})
	}
}

// BenchmarkMany is 20 certificates of one name, one after the other and 8 at a time.
func BenchmarkMany(b *testing.B) {
	const certificates = 20
	for _, concurrency := range []int{1, 8} {
		b.Run(fmt.Sprintf("concurrency=%d", concurrency), func(b *testing.B) {
			ca, f := newCA(b), &fresh{}
			all := func(c client) time.Duration {
				if err := c(b.Context(), f.names(1)); err != nil {
					b.Fatal(err)
				}
				start := time.Now()
				var group errgroup.Group
				group.SetLimit(concurrency)
				for range certificates {
					group.Go(func() error { return c(b.Context(), f.names(1)) })
				}
				if err := group.Wait(); err != nil {
					b.Fatal(err)
				}
				return time.Since(start)
			}
			var ours, bare time.Duration
			for b.Loop() {
				c, stop := newAcmed(b, ca.Server, f)
				ours = all(c)
				stop()
				c, stop = newBare(b, ca.Server)
				bare = all(c)
				stop()
			}
			if !testing.Short() {
				c, stop := newLego(b, ca.Server)
				legos := all(c)
				stop()
				b.ReportMetric(milliseconds(legos), "lego-ms")
				b.ReportMetric(float64(legos)/float64(ours), "lego/acmed")
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(milliseconds(ours), "acmed-ms")
			b.ReportMetric(milliseconds(bare), "bare-ms")
			b.ReportMetric(float64(ours)/float64(bare), "acmed/bare")
			b.ReportMetric(certificates/ours.Seconds(), "certificates/s")
		})
	}
}
