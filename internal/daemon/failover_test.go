package daemon

import (
	"fmt"
	"strconv"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

// TestFailover with two real CAs: the backup serves when the first one has been unavailable for long enough, restarts in
// between included, never because of a name's own fault, and only until the first one is back.
func TestFailover(t *testing.T) {
	const day = 24 * time.Hour
	first := acmetest.Start(t)
	backup := acmetest.Start(t, acmetest.WithPorts(first.HTTPPort, 0), acmetest.WithProfile("default", 180*day)) // by the true time
	dir, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	responder := http01.NewResponder(http01.ResponderConfig{Addr: "127.0.0.1:" + strconv.Itoa(first.HTTPPort)})
	t.Cleanup(func() { _ = responder.Close() })
	webroot := http01.NewWebroot(t.TempDir()) // which nobody serves
	var ahead time.Duration
	clock := func() time.Time { return time.Now().Add(ahead) }
	spec := certs.Spec{
		Name: "www", Identifiers: []certs.Identifier{{Type: certs.DNS, Value: "example.com"}}, KeyTypes: []certs.KeyType{certs.EC256},
		Issuers: []string{"first", "backup"}, Solvers: []string{"http"}, Profile: "default",
	}
	run := func() (renewal.Result, *store.Lineage) { // each time as after a restart
		t.Helper()
		set := &renewal.Set{Issuers: map[string]renewal.Issuer{}, Certificates: map[string]renewal.Certificate{"www": {Spec: spec}}, Concurrency: 1, Keep: 9}
		for name, ca := range map[string]*acmetest.CA{"first": first, "backup": backup} {
			i, err := issuer.New(issuer.Config{
				Name: name, Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: dir, Clock: clock,
				Solvers: map[string]challenges.Rung{"http": {Name: "http", Solver: responder}, "nowhere": {Name: "nowhere", Solver: webroot}},
			})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = i.Close() }()
			set.Issuers[name] = i
		}
		engine := renewal.NewEngine(renewal.Config{Store: dir, Log: zap.NewNop(), Clock: clock})
		engine.Swap(set)
		defer engine.Close(t.Context())
		result := engine.Run(t.Context(), "www", renewal.Options{Force: true}, nil)
		have, err := dir.Load("www")
		if err != nil {
			t.Fatal(err)
		}
		return result, have
	}
	for _, step := range []struct {
		what    string
		change  func()
		issuer  string
		orders  int // at the backup, in all
		obtains bool
	}{
		{"all is well", func() {}, "first", 0, true},
		{"the name's own fault", func() { spec.Solvers = []string{"nowhere"} }, "first", 0, false},
		{"just down", func() { spec.Solvers = []string{"http"}; _ = first.Stop() }, "first", 0, false},
		{"down for an hour", func() { ahead = time.Hour }, "first", 0, false},
		{"down for a day", func() { ahead = 25 * time.Hour }, "backup", 1, true},
		{"down again and again", func() { ahead = 50 * time.Hour }, "backup", 2, true},
		{"back", func() { _ = first.Resume() }, "first", 2, true},
		{"maintenance", func() { first.Use(acmetest.At(acmetest.Unavailable("3600"))) }, "first", 2, false},
		{"maintenance for an hour", func() { ahead += 2 * time.Hour }, "first", 2, false},
		{"maintenance for a day", func() { ahead += day }, "backup", 3, true},
		{"maintenance is over", func() { first.Use(); ahead += 2 * time.Hour }, "first", 3, true},
		{"limited", func() { first.Use(acmetest.At(acmetest.RateLimited("3600"), acmetest.NewOrder)) }, "first", 3, false},
		{"limited for a day", func() { ahead += 25 * time.Hour }, "first", 3, false},
		{"maintenance, expiry near", func() { first.Use(acmetest.At(acmetest.Unavailable("3600"))); ahead += 80 * day }, "backup", 4, true},
	} {
		step.change()
		result, have := run()
		got := fmt.Sprintf("obtained %t from %s, %d orders at the backup", result.Obtained, have.Current.Issuer, backup.Requests(acmetest.NewOrder))
		if want := fmt.Sprintf("obtained %t from %s, %d orders at the backup", step.obtains, step.issuer, step.orders); got != want {
			t.Errorf("%s: %s, want %s (%v)", step.what, got, want, result.Err)
		}
	}
}
