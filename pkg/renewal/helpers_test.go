package renewal

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
)

// bundleOf makes a self-signed bundle with the given validity.
func bundleOf(t testing.TB, from time.Time, life time.Duration, names ...string) *certs.Bundle {
	t.Helper()
	key, err := certs.NewKey(certs.EC256)
	if err != nil {
		t.Fatal(err)
	}
	return bundleWith(t, key, from, life, names...)
}

func bundleWith(t testing.TB, key crypto.Signer, from time.Time, life time.Duration, names ...string) *certs.Bundle {
	t.Helper()
	b := fleettest.BundleWith(t, key, from, from.Add(life-time.Second), names...)
	b.Issuer = "ca"
	return b
}

func identifiers(t testing.TB, names ...string) []certs.Identifier {
	t.Helper()
	var ids []certs.Identifier
	for _, name := range names {
		id, _, err := certs.ParseIdentifier(name)
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
	}
	return ids
}

// fakeCA issues self-signed certificates of one lifetime, or fails as it is told.
type fakeCA struct {
	t    testing.TB
	life time.Duration

	mu      sync.Mutex
	err     error
	window  certs.Window
	orders  []time.Time
	asked   int
	persons int           // orders that a person asked for
	hold    chan struct{} // when set, Obtain waits for it
	panics  bool
	down    func(time.Time) bool // whether the CA is away at a time
	now     func() time.Time     // its clock, time.Now if nil
	replace []*certs.Bundle
}

func (ca *fakeCA) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	ca.mu.Lock()
	now := time.Now()
	if req.Asked {
		ca.persons++
	}
	if ca.now != nil {
		now = ca.now()
	}
	ca.orders = append(ca.orders, now)
	ca.replace = append(ca.replace, req.Replaces)
	err, hold, panics := ca.err, ca.hold, ca.panics
	if err == nil && ca.down != nil && ca.down(now) {
		err = &certs.UnavailableError{Directory: "https://ca.example", Err: errors.New("connection refused")}
	}
	ca.mu.Unlock()
	if panics {
		panic("a mistake in an issuer")
	}
	if hold != nil {
		select {
		case <-hold:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if err != nil {
		return nil, err
	}
	req.Tell(certs.Step{Phase: certs.PhaseOrder})
	req.Tell(certs.Step{Phase: certs.PhaseFinalize})
	if next, ok := certs.PickKey(req.Next, certs.EC256); ok {
		key, err := certs.ParseKey(next.KeyPEM)
		if err != nil {
			return nil, err
		}
		return bundleWith(ca.t, key, now, ca.life, req.Spec.Names()...), nil
	}
	return bundleOf(ca.t, now, ca.life, req.Spec.Names()...), nil
}

// namedCA is a fake CA whose certificates say that they come from another issuer than "ca".
type namedCA struct {
	*fakeCA
	name string
}

func (ca *namedCA) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	b, err := ca.fakeCA.Obtain(ctx, req)
	if err == nil {
		b.Issuer = ca.name
	}
	return b, err
}

func (ca *fakeCA) RenewalInfo(context.Context, *x509.Certificate) (certs.Window, error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.asked++
	return ca.window, nil
}

func (ca *fakeCA) fail(err error) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.err = err
}

func (ca *fakeCA) setWindow(w certs.Window) {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	ca.window = w
}

func (ca *fakeCA) count() int {
	ca.mu.Lock()
	defer ca.mu.Unlock()
	return len(ca.orders)
}

// fakeServer is a target that serves what was installed last, unless it is told to fail.
type fakeServer struct {
	mu       sync.Mutex
	serves   string
	err      error
	only     string // the one fingerprint with which it works; "": it works with all
	installs int
	notes    []string
}

func (s *fakeServer) Notes(context.Context, *certs.Bundle) ([]string, error) { return s.notes, nil }

func (s *fakeServer) Install(_ context.Context, b *certs.Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.installs++
	if s.err != nil {
		return s.err
	}
	if s.only != "" && s.only != b.Fingerprint() {
		s.serves = ""
		return errors.New("the server does not start with it")
	}
	s.serves = b.Fingerprint()
	return nil
}

func (s *fakeServer) Verify(_ context.Context, b *certs.Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.serves != b.Fingerprint() {
		return errors.New("another certificate is served")
	}
	return nil
}

// served is the fingerprint of what the target serves.
func (s *fakeServer) served() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.serves
}

func (s *fakeServer) set(err error, serves string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err, s.serves = err, serves
}

// events collects what would be told.
type events struct {
	mu   sync.Mutex
	list []notify.Event
}

func (e *events) Notify(_ context.Context, ev notify.Event) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
	return errors.New("nobody listens") // must not matter
}

func (e *events) kinds() []notify.Kind {
	e.mu.Lock()
	defer e.mu.Unlock()
	var kinds []notify.Kind
	for _, ev := range e.list {
		kinds = append(kinds, ev.Kind)
	}
	return kinds
}

// last is the newest event of a kind.
func (e *events) last(k notify.Kind) notify.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, ev := range slices.Backward(e.list) {
		if ev.Kind == k {
			return ev
		}
	}
	return notify.Event{}
}

func count(kinds []notify.Kind, k notify.Kind) int {
	n := 0
	for _, kind := range kinds {
		if kind == k {
			n++
		}
	}
	return n
}

// bench is an engine on a real store with one certificate.
type bench struct {
	engine *Engine
	store  *store.Store
	ca     *fakeCA
	server *fakeServer
	events *events
	spec   certs.Spec
}

// stateDir is a directory in memory where there is one: years of fake time flush thousands of files.
func stateDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "acmed-test")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func newBench(t testing.TB, life time.Duration) *bench { return newBenchAt(t, life, time.Now) }

func newBenchAt(t testing.TB, life time.Duration, clock func() time.Time) *bench {
	t.Helper()
	s, err := store.Open(stateDir(t))
	if err != nil {
		t.Fatal(err)
	}
	b := &bench{
		store: s, ca: &fakeCA{t: t, life: life}, server: &fakeServer{}, events: &events{},
		spec: certs.Spec{
			Name: "www", Identifiers: identifiers(t, "example.com", "www.example.com"), KeyTypes: []certs.KeyType{certs.EC256},
			Issuers: []string{"ca"}, Targets: []string{"web"},
		},
	}
	b.engine = NewEngine(Config{Store: s, Log: zap.NewNop(), Clock: clock})
	b.engine.Swap(b.set())
	t.Cleanup(func() {
		b.engine.Close(t.Context())
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// restart goes on with a new engine and what is on disk.
func (b *bench) restart(t testing.TB) {
	t.Helper()
	b.engine.Close(t.Context())
	b.engine = NewEngine(Config{Store: b.store, Log: zap.NewNop(), Clock: time.Now})
	b.engine.Swap(b.set())
}

func (b *bench) set() *Set {
	return &Set{
		Certificates: map[string]Certificate{b.spec.Name: {Spec: b.spec, Targets: map[string]installers.Installer{"web": b.server}}},
		Issuers:      map[string]Issuer{"ca": b.ca}, Notifier: b.events, Concurrency: 2, Keep: 2,
	}
}

func (b *bench) load(t testing.TB) *store.Lineage {
	t.Helper()
	l, err := b.store.Load(b.spec.Name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// runScheduler starts a scheduler. The function stops it and waits for its end.
func runScheduler(t *testing.T, c SchedulerConfig) (s *Scheduler, stop func()) {
	t.Helper()
	s, err := NewScheduler(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx) }()
	return s, func() { cancel(); <-ended }
}

const day = 24 * time.Hour
