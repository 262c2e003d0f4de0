package daemon

import (
	"context"
	"strconv"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
	"github.com/acmed/acmed/pkg/trust"
)

const day = 24 * time.Hour

// harness has one certificate at a time, at first www, of real CAs, and a clock that is ahead of theirs.
type harness struct {
	t       *testing.T
	cas     map[string]*acmetest.CA
	store   *store.Store
	solvers map[string]challenges.Rung
	spec    certs.Spec
	trusts  []*trust.Store
	web     installers.Installer // nil: nothing serves it
	budget  int                  // orders in 3 hours; 0: no limit
	ahead   time.Duration
	told    []notify.Event
}

// newHarness asks the CAs in this order; all of them validate at the port of the first.
func newHarness(t *testing.T, cas ...*acmetest.CA) *harness {
	t.Helper()
	dir, err := store.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = dir.Close() })
	responder := http01.NewResponder(http01.ResponderConfig{Addr: "127.0.0.1:" + strconv.Itoa(cas[0].HTTPPort)})
	t.Cleanup(func() { _ = responder.Close() })
	webroot := http01.NewWebroot(http01.WebrootConfig{Dir: t.TempDir()}, nil) // which nobody serves
	h := &harness{
		t: t, store: dir, cas: map[string]*acmetest.CA{},
		solvers: map[string]challenges.Rung{"http": {Name: "http", Solver: responder}, "nowhere": {Name: "nowhere", Solver: webroot}},
		spec:    certs.Spec{Name: "www", KeyTypes: []certs.KeyType{certs.EC256}, Solvers: []string{"http"}, Profile: "default"},
	}
	h.wantNames("example.com")
	for i, ca := range cas {
		name := []string{"first", "backup"}[i]
		h.cas[name], h.spec.Issuers = ca, append(h.spec.Issuers, name)
	}
	return h
}

func (h *harness) wantNames(names ...string) {
	h.spec.Identifiers = nil
	for _, name := range names {
		h.spec.Identifiers = append(h.spec.Identifiers, certs.Identifier{Type: certs.DNS, Value: name})
	}
}

func (h *harness) clock() time.Time { return time.Now().Add(h.ahead) }

// goTo moves the clock to just after a time.
func (h *harness) goTo(at time.Time) { h.ahead = time.Until(at) + time.Second }

// Notify remembers what would be told.
func (h *harness) Notify(_ context.Context, e notify.Event) error {
	h.told = append(h.told, e)
	return nil
}

// outcome is what there is after a run.
type outcome struct {
	renewal.Result
	have   *store.Lineage
	status renewal.Status
	told   []notify.Kind // in this run
}

// run is a job as after a restart: it knows what is in the state directory.
func (h *harness) run(opts renewal.Options) outcome {
	h.t.Helper()
	set := &renewal.Set{
		Issuers: map[string]renewal.Issuer{}, Certificates: map[string]renewal.Certificate{h.spec.Name: {
			Spec: h.spec, Targets: map[string]installers.Installer{"web": h.web}, Clients: renewal.Clients{Stores: func() []*trust.Store { return h.trusts }},
		}},
		Notifier: h, Concurrency: 1, Keep: 9,
	}
	made := map[string]madeIssuer{}
	set.Chains = chains(made)
	for name, ca := range h.cas {
		i, err := issuer.New(issuer.Config{
			Name: name, Directory: ca.Directory, AgreeTOS: true, Private: true, Roots: ca.Roots, Store: h.store, Clock: h.clock, Solvers: h.solvers,
			OrderBudget: h.budget,
		})
		if err != nil {
			h.t.Fatal(err)
		}
		defer func() { _ = i.Close() }()
		set.Issuers[name], made[name] = i, madeIssuer{Issuer: i}
	}
	engine := renewal.NewEngine(renewal.Config{Store: h.store, Log: zap.NewNop(), Clock: h.clock})
	engine.Swap(set)
	defer engine.Close(h.t.Context())
	before := len(h.told)
	out := outcome{Result: engine.Run(h.t.Context(), h.spec.Name, opts, nil)}
	for _, e := range h.told[before:] {
		out.told = append(out.told, e.Kind)
	}
	var err error
	if out.have, err = h.store.Load(h.spec.Name); err != nil {
		h.t.Fatal(err)
	}
	if out.status, err = engine.Status(h.spec.Name); err != nil {
		h.t.Fatal(err)
	}
	return out
}
