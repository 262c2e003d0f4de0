package etcdtest

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
)

// BenchmarkCommitToOthers is the time from before the commit of a version on one node until another one has fetched it.
func BenchmarkCommitToOthers(b *testing.B) {
	c := newCluster(b, 3, nil)
	one, _ := node(b, c, "a")
	two, _ := node(b, c, "b")
	now := time.Now().Truncate(time.Second)
	bundle := fleettest.Bundle(b, now.Add(-time.Hour), now.Add(time.Hour), "www.example.com")
	var took []time.Duration
	for b.Loop() {
		got := claim(b, one, "www")
		h := got.Head()
		h.SetVersion(h.N+1, bundle, "spec")
		start := time.Now()
		if err := got.Commit(b.Context(), bundle, h); err != nil {
			b.Fatal(err)
		}
		for seen, _ := two.Head("www"); seen.N < h.N; seen, _ = two.Head("www") {
			time.Sleep(200 * time.Microsecond)
		}
		seen, _ := two.Head("www")
		if _, err := two.Fetch(b.Context(), "www", seen); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1000, "p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1000, "p99-ms")
}

// BenchmarkStart is how long a node takes to read all heads.
func BenchmarkStart(b *testing.B) {
	for _, heads := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint(heads), func(b *testing.B) {
			c := newCluster(b, 3, nil)
			e := c.client(b)
			value := fmt.Appendf(nil, `{"n":3,"fingerprint":"%064d","names":["www.example.com","example.com"],"spec":"1-0123456789abcdef","not_before":"2027-01-01T00:00:00Z","not_after":"2027-04-01T00:00:00Z","committed":"2027-01-01T00:00:05Z","by":"0123456789abcdef01234567","node":"n1","served":"n1","ari_check_at":"2027-01-01T12:00:00Z","issued":["2027-01-01T00:00:05Z"]}`, 7)
			for i := 0; i < heads; i += 100 {
				var ops []fleet.Op
				for n := i; n < i+100; n++ {
					ops = append(ops, fleet.Op{Key: fmt.Sprintf("/acmed/f/v1/head/%02x/n%d", n%256, n), Value: value})
				}
				if _, err := e.Commit(b.Context(), fleet.Txn{Then: ops}); err != nil {
					b.Fatal(err)
				}
			}
			l := fleet.New(fleet.Config{Fleet: "f", Engine: e})
			for b.Loop() {
				if _, err := l.Load(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			if _, ok := l.Head("n99"); !ok {
				b.Fatal("not read")
			}
		})
	}
}
