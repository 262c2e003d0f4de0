package store

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"github.com/acmed/acmed/pkg/certs"
)

// fleet makes a state directory with n lineages of five versions each, without the cost of making each durable.
func fleet(tb testing.TB, n int) *Store {
	tb.Helper()
	s := openTest(tb, quickDir(tb), nil)
	c := newCA(tb)
	var bundles []*certs.Bundle
	for range 50 {
		bundles = append(bundles, c.bundle(tb))
	}
	put := func(name string, data []byte) {
		must(tb, os.MkdirAll(filepath.Dir(name), 0o750))
		must(tb, os.WriteFile(name, data, 0o600))
	}
	for i := range n {
		dir := filepath.Join(s.Dir(), "certs", fmt.Sprintf("site-%05d", i))
		for v := range 5 {
			b := bundles[(i+v)%len(bundles)]
			id, err := newID(b, noon().AddDate(0, 0, -60*v))
			must(tb, err)
			files, err := versionFiles(b, []string{fmt.Sprintf("https://ca.example/order/%d/%d", i, v)})
			must(tb, err)
			for _, f := range files {
				put(filepath.Join(dir, "versions", id, f.Name), f.Data)
			}
			if v == 0 {
				must(tb, os.Symlink("versions/"+id, filepath.Join(dir, "current")))
			}
		}
		put(filepath.Join(dir, "state.json"), []byte(`{"version": 1, "renew_at": "2026-12-20T12:00:00Z", "renew_for": "abc",
			"ari": {"check_at": "2026-11-21T12:00:00Z", "for": "abc", "start": "2026-12-20T12:00:00Z", "end": "2026-12-22T12:00:00Z"},
			"installed": {"nginx": {"fingerprint": "abc", "at": "2026-11-20T12:00:00Z", "verified_at": "2026-11-20T12:00:00Z"}},
			"solved": {"example.com": "http-01"}}`))
	}
	return s
}

func sweep(tb testing.TB, s *Store, names []string) {
	tb.Helper()
	for _, name := range names {
		if l, err := s.Load(name); err != nil || l.Current == nil || len(l.Versions) != 5 {
			tb.Fatalf("%s: %v, %+v", name, err, l)
		}
	}
}

// BenchmarkSweep loads 10,000 lineages, as the hourly sweep does, by one goroutine. "cold" is the first sweep of a
// process, "warm" every other.
func BenchmarkSweep(b *testing.B) {
	s := fleet(b, 10_000)
	names, err := s.Names()
	must(b, err)
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			s.entries = map[string]*entry{}
			sweep(b, s, names)
		}
	})
	b.Run("warm", func(b *testing.B) {
		sweep(b, s, names)
		for b.Loop() {
			sweep(b, s, names)
		}
		b.ReportMetric(memory(b), "MB-resident")
		b.ReportMetric(heap(), "MB-heap")
	})
	runtime.KeepAlive(s)
}

// memory is the resident memory of this process, in megabytes.
func memory(b *testing.B) float64 {
	text, err := os.ReadFile("/proc/self/statm")
	must(b, err)
	var size, resident float64
	_, err = fmt.Sscan(string(text), &size, &resident)
	must(b, err)
	return resident * float64(os.Getpagesize()) / 1e6
}

// heap is what the store itself keeps, and little else, in megabytes.
func heap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}

func BenchmarkAddActivateSave(b *testing.B) {
	c := newCA(b)
	bundle := c.bundle(b)
	s := openTest(b, stateDir(b), nil)
	st := State{Failures: 1}
	i := 0
	for b.Loop() {
		name := fmt.Sprintf("site-%d", i)
		i++
		id, err := s.AddVersion(name, bundle, noon())
		must(b, err)
		must(b, s.Activate(name, id))
		must(b, s.SaveState(name, &st))
	}
}
