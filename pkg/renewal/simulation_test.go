package renewal

import (
	"cmp"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/fleettest"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// TestFleetSimulation lives through some hours of a fleet, with certificates of one hour, for many seeds: the real decision and
// job of each node against the ledger on a store in memory. Nodes are killed and paused beyond their lease, cut off, lose
// answers; the store goes away, loses its history, and goes back to a backup; the configuration is rolled out node by node
// with stragglers. ACMED_SEEDS=N runs N seeds, ACMED_SEED=N the one with a trace. The seed fixes what happens when; keys and
// jitter differ from run to run.
func TestFleetSimulation(t *testing.T) {
	first, seeds := 1, simSeeds
	for name, to := range map[string]*int{"ACMED_SEEDS": &seeds, "ACMED_SEED": &first} {
		if text := os.Getenv(name); text != "" {
			var err error
			if *to, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
			if name == "ACMED_SEED" {
				seeds = 1
			}
		}
	}
	var sum tally
	var all sync.WaitGroup
	next := make(chan int)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for seed := range next {
				t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { simulate(t, uint64(seed), &sum) })
				})
			}
		})
	}
	for i := range seeds {
		next <- first + i
	}
	close(next)
	all.Wait()
	t.Logf("%d seeds: %s", seeds, &sum)
}

// tally is what happened in all seeds.
type tally struct{ orders, versions, resumed, wasted, kills, pauses, cuts, outages, restores, rollouts atomic.Int64 }

func (s *tally) String() string {
	return fmt.Sprintf("%d orders, %d versions, %d orders continued by another node, %d that nobody finalized or shared, %d kills, %d pauses, %d cuts, %d outages, %d restores, %d roll-outs",
		s.orders.Load(), s.versions.Load(), s.resumed.Load(), s.wasted.Load(), s.kills.Load(), s.pauses.Load(), s.cuts.Load(), s.outages.Load(), s.restores.Load(), s.rollouts.Load())
}

const (
	simLife  = time.Hour
	simNodes = 3
)

// life is how long things happen: most faults need some renewals, few need many.
func (w *world) life() time.Duration { return time.Hour + time.Duration(w.seed%3)*30*time.Minute }

// world is everything that the nodes share, and what is watched from outside.
type world struct {
	t     *testing.T
	rand  *rand.Rand // of the world's own goroutine alone
	seed  uint64
	store *fleettest.Memory
	key   certs.Secret
	sum   *tally
	nodes []*simNode

	mu        sync.Mutex
	orders    map[string]*simOrder
	serial    int
	restored  bool             // the store went back: what was counted is void
	heads     map[int64]string // number to fingerprint
	newest    int64
	last      certs.Head
	commits   int
	faults    int // each may cost an order
	alone     int
	violation string
	busy      chan *simNode // a node that began an order

	traceMu sync.Mutex
	lines   []string
}

// simOrder is an order at the CA.
type simOrder struct {
	url    string
	names  []string
	bundle *certs.Bundle // once it was finalized
	by     []int
	stored bool // its journal was acknowledged
}

func (w *world) fail(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.violation == "" {
		w.violation = fmt.Sprintf(format, args...)
	}
}

// simNode is one node through all its processes.
type simNode struct {
	world  *world
	id     int
	store  *store.Store
	names  []string
	rand   *rand.Rand
	randMu sync.Mutex
	server *fakeServer
	until  atomic.Int64 // paused until then
	lease  int64
	cutOff time.Time // since when it has not been well; zero: it is
	well   time.Time // since when it is well

	*process
}

// process is one life of a node.
type process struct {
	dead   atomic.Bool
	fault  *fleettest.Faulty
	ledger *fleet.Ledger
	engine *Engine
	stop   func()
}

func (n *simNode) float() float64 {
	n.randMu.Lock()
	defer n.randMu.Unlock()
	return n.rand.Float64()
}

// gate is where a node that is paused stands still.
func (n *simNode) gate(p *process) error {
	time.Sleep(time.Duration(n.float() * float64(5*time.Millisecond)))
	for {
		d := time.Until(time.Unix(0, n.until.Load()))
		if d <= 0 {
			break
		}
		time.Sleep(d)
	}
	if p.dead.Load() {
		return errors.New("killed")
	}
	return nil
}

func (n *simNode) start() {
	w := n.world
	p := &process{fault: &fleettest.Faulty{Engine: w.store.Client(), Late: true}}
	p.fault.Before = func(context.Context, string) error {
		if n.gate(p) != nil {
			return fleettest.Away()
		}
		return nil
	}
	p.fault.Lost = func(fleet.Txn) bool { return n.float() < 0.02 }
	sealer, err := fleet.NewSealer(w.key)
	if err != nil {
		w.t.Fatal(err)
	}
	var scheduler atomic.Pointer[Scheduler]
	p.ledger = fleet.New(fleet.Config{
		Fleet: "sim", Engine: p.fault, Sealer: sealer, Node: fleet.Node{ID: fmt.Sprint("n", n.id)},
		Names: func() []string { return []string{"www"} },
		Back: func() {
			if s := scheduler.Load(); s != nil {
				s.Back()
			}
		},
		Changed: func(name string) {
			if s := scheduler.Load(); s != nil {
				s.Poke(name)
			}
		},
	})
	p.engine = NewEngine(Config{Store: n.store, Fleet: p.ledger, Log: zap.NewNop()})
	n.process = p
	n.configure()
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() { p.ledger.Run(ctx, n.lease, func(lease int64) { n.lease = lease }) })
	s, err := NewScheduler(SchedulerConfig{Engine: p.engine, Schedule: "@every 30m"})
	if err != nil {
		w.t.Fatal(err)
	}
	scheduler.Store(s)
	done.Go(func() { s.Run(ctx) })
	p.stop = func() {
		cancel()
		ended, now := context.WithCancel(context.Background())
		now()
		p.engine.Close(ended)
		done.Wait()
	}
}

// configure gives the node's engine its present configuration.
func (n *simNode) configure() {
	spec := certs.Spec{Name: "www", Identifiers: identifiers(n.world.t, n.names...), KeyTypes: []certs.KeyType{certs.EC256}, Issuers: []string{"ca"}, Targets: []string{"web"}}
	n.engine.Swap(&Set{
		Certificates: map[string]Certificate{"www": {Spec: spec, Targets: map[string]installers.Installer{"web": n.server}}},
		Issuers:      map[string]Issuer{"ca": &simIssuer{n, n.process}}, Concurrency: 2, Keep: 2,
	})
}

// simIssuer orders as pkg/issuer does in a fleet: it holds the claim before an order and before its end, and continues an
// order that was journaled.
type simIssuer struct {
	node    *simNode
	process *process
}

func (i *simIssuer) RenewalInfo(context.Context, *x509.Certificate) (certs.Window, error) {
	return certs.Window{RetryAfter: simLife / 3}, i.node.gate(i.process)
}

func (i *simIssuer) Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error) {
	n, w, p := i.node, i.node.world, i.process
	select {
	case w.busy <- n:
	default:
	}
	claim := p.ledger.Held("www")
	var o *simOrder
	if claim != nil {
		journal, err := claim.Order(ctx, store.SlotEC)
		if err != nil {
			return nil, err
		}
		if journal != nil {
			w.mu.Lock()
			if o = w.orders[journal.URL]; o != nil && !slices.Equal(o.names, req.Spec.Names()) {
				o = nil
			}
			w.mu.Unlock()
		}
		if err := claim.Hold(ctx); err != nil {
			return nil, err
		}
	}
	if o == nil {
		if err := i.work(ctx); err != nil { // the request is under way
			return nil, err
		}
		o = w.place(n, req.Spec.Names(), claim == nil)
		if claim != nil {
			if err := claim.SaveOrder(ctx, store.SlotEC, &store.Order{URL: o.url, Directory: "https://ca"}); err != nil {
				return nil, err
			}
			w.mu.Lock()
			o.stored = true
			w.mu.Unlock()
		}
	} else if !slices.Contains(o.by, n.id) {
		w.sum.resumed.Add(1)
	}
	if err := i.work(ctx); err != nil {
		return nil, err
	}
	if claim != nil {
		if err := claim.Hold(ctx); err != nil {
			return nil, err
		}
	}
	return w.finalize(n, o), i.work(ctx)
}

// work takes a while. After a pause it may go on although its context has ended: which comes first is a race.
func (i *simIssuer) work(ctx context.Context) error {
	time.Sleep(time.Duration(i.node.float() * float64(8*time.Second)))
	if err := i.node.gate(i.process); err != nil {
		return err
	}
	if i.node.float() < 0.5 {
		return context.Cause(ctx)
	}
	return nil
}

func (w *world) place(n *simNode, names []string, alone bool) *simOrder {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	w.sum.orders.Add(1)
	w.trace("node %d orders %v, alone %v", n.id, names, alone)
	if alone {
		w.alone++
	}
	o := &simOrder{url: fmt.Sprint("https://ca/order/", w.serial), names: names, by: []int{n.id}}
	w.orders[o.url] = o
	return o
}

func (w *world) finalize(n *simNode, o *simOrder) *certs.Bundle {
	w.mu.Lock()
	defer w.mu.Unlock()
	o.by = append(o.by, n.id)
	if o.bundle == nil { // finalizing twice is one certificate
		o.bundle = bundleOf(w.t, time.Now().Truncate(time.Second), simLife, o.names...)
	}
	return o.bundle
}

// seen is told every change of the head.
func (w *world) seen(ev fleet.Event) {
	if !strings.Contains(ev.Key, "/head/") || ev.Deleted {
		return
	}
	h, err := certs.ParseHead(ev.Value)
	if err != nil {
		w.fail("a head that cannot be read: %v", err)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if h.N < w.newest {
		w.violation = fmt.Sprintf("the head went from version %d back to %d", w.newest, h.N)
	}
	if h.N > w.newest && slices.Contains(w.last.Old, h.Spec) && rolled(h) < rolled(w.last) && !w.last.InLastTenth(time.Now()) {
		w.violation = fmt.Sprintf("version %d goes back to a configuration that version %d replaced", h.N, w.last.N)
	}
	w.trace("head %d of %s, spec %s, before %v, %v, %d attempts", h.N, h.Node, h.Spec, h.Old, h.Names, h.Attempts)
	w.newest, w.last = h.N, h
	if was, ok := w.heads[h.N]; ok && was != h.Fingerprint && h.N > 0 {
		w.violation = fmt.Sprintf("version %d was given twice", h.N)
	} else if !ok && h.N > 0 {
		w.commits++
		w.sum.versions.Add(1)
	}
	w.heads[h.N] = h.Fingerprint
}

// rolled is the configuration that a head's version is for.
func rolled(h certs.Head) int { return version(h.Names) }

func version(names []string) (n int) {
	for _, name := range names {
		_, _ = fmt.Sscanf(name, "v%d.", &n)
	}
	return n
}

func simulate(t *testing.T, seed uint64, sum *tally) {
	key, err := fleet.ParseSealKey(fleet.NewSealKey())
	if err != nil {
		t.Fatal(err)
	}
	w := &world{
		t: t, rand: rand.New(rand.NewPCG(seed, 0)), seed: seed, store: fleettest.NewMemory(), key: key, sum: sum,
		orders: map[string]*simOrder{}, heads: map[int64]string{}, busy: make(chan *simNode, 1),
	}
	sealer, err := fleet.NewSealer(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := fleet.New(fleet.Config{Fleet: "sim", Engine: w.store.Client(), Sealer: sealer}).Init(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	w.store.Watch(w.seen)
	for i := range simNodes {
		s, err := store.Open(stateDir(t))
		if err != nil {
			t.Fatal(err)
		}
		n := &simNode{world: w, id: i, store: s, names: []string{"example.com"}, rand: rand.New(rand.NewPCG(seed, uint64(i+1))), server: &fakeServer{}, well: time.Now()}
		w.nodes = append(w.nodes, n)
		n.start()
		w.pause(3)
	}
	defer func() {
		for _, n := range w.nodes {
			n.until.Store(0)
			n.stop()
			if err := n.store.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	w.live(t)
	w.judge(t)
}

// pause lets up to so many seconds go by, at a moment that is nobody else's.
func (w *world) pause(seconds int) { time.Sleep(time.Duration(w.rand.Int64N(int64(seconds)*1e9) + 1)) }

// live lets things happen, then gives the fleet some time without them.
func (w *world) live(t *testing.T) {
	var backup *fleettest.Backup
	rolling := []*simNode{} // nodes that do not have the newest configuration yet
	version := 0
	end := time.Now().Add(w.life())
	for time.Now().Before(end) {
		n := w.victim()
		w.check(t)
		switch w.rand.IntN(12) {
		case 0, 1:
			w.kill(n)
		case 2, 3: // beyond the lease
			w.sum.pauses.Add(1)
			w.trace("pauses of node %d", n.id)
			w.fault()
			n.cutOff = time.Now()
			d := time.Duration(30+w.rand.IntN(120)) * time.Second
			n.until.Store(time.Now().Add(d).UnixNano())
			time.Sleep(d)
			n.recovered()
		case 4:
			w.sum.cuts.Add(1)
			w.trace("cuts of node %d", n.id)
			w.fault()
			n.fault.Cut.Store(true)
			n.cutOff = time.Now()
			w.pause(600)
			n.fault.Cut.Store(false)
			n.recovered()
		case 5:
			w.sum.outages.Add(1)
			w.trace("outages of node %d", n.id)
			w.fault()
			w.store.Down(true)
			w.pause(600)
			w.store.Down(false)
			for _, n := range w.nodes {
				n.recovered()
			}
		case 6:
			w.store.Compact()
		case 7:
			backup = w.store.Backup()
		case 8:
			if backup != nil {
				w.sum.restores.Add(1)
				w.trace("restores of node %d", n.id)
				w.restore(backup)
				backup = nil
			}
		case 9: // roll-out, with a straggler for a while
			if len(rolling) == 0 {
				w.sum.rollouts.Add(1)
				version++
				rolling = slices.Clone(w.nodes)
				w.rand.Shuffle(len(rolling), func(a, b int) { rolling[a], rolling[b] = rolling[b], rolling[a] })
			}
		}
		if len(rolling) > 0 && (len(rolling) == len(w.nodes) || w.rand.IntN(3) == 0) { // some follow after renewals
			w.fault() // one order for each roll-out
			n := rolling[0]
			rolling = rolling[1:]
			n.names = []string{"example.com", fmt.Sprintf("v%d.example.com", version)}
			w.kill(n)
		}
	}
	for _, n := range rolling {
		n.names = []string{"example.com", fmt.Sprintf("v%d.example.com", version)}
		w.kill(n)
	}
	time.Sleep(20 * time.Minute)
	for range 10 { // not in the middle of a renewal
		if head, _ := w.nodes[0].ledger.Head("www"); time.Since(head.Committed) > 2*time.Minute && time.Until(head.NotAfter) > simLife/2+3*time.Minute {
			break
		}
		time.Sleep(time.Minute)
	}
	w.check(t)
}

// victim waits some minutes, half of the time for a node to be in the middle of an order, and picks a node.
func (w *world) victim() *simNode {
	if w.rand.IntN(2) == 0 {
		w.pause(600)
		return w.nodes[w.rand.IntN(len(w.nodes))]
	}
	select {
	case <-w.busy: // of some time ago
	default:
	}
	select {
	case n := <-w.busy:
		w.pause(20)
		return n
	case <-time.After(20 * time.Minute):
		return w.nodes[w.rand.IntN(len(w.nodes))]
	}
}

func (n *simNode) recovered() { n.cutOff, n.well = time.Time{}, time.Now() }

// trace remembers what happened, to be told if something is wrong at the end, or at once for one seed.
func (w *world) trace(format string, args ...any) {
	line := fmt.Sprintf(time.Now().Format("15:04:05 ")+format, args...)
	if os.Getenv("ACMED_SEED") != "" {
		w.t.Log(line)
	}
	w.traceMu.Lock()
	defer w.traceMu.Unlock()
	w.lines = append(w.lines, line)
}

// fault counts something that may cost an order.
func (w *world) fault() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults++
}

// kill ends a node's process and starts the next one.
func (w *world) kill(n *simNode) {
	w.sum.kills.Add(1)
	w.trace("kill node %d with %v", n.id, n.names)
	w.fault()
	n.dead.Store(true)
	n.fault.Cut.Store(true)
	n.stop()
	w.pause(20)
	n.start()
	n.recovered()
}

func (w *world) restore(b *fleettest.Backup) {
	w.mu.Lock()
	w.restored = true
	w.heads, w.newest, w.last = map[int64]string{}, 0, certs.Head{}
	w.faults += simNodes // one for each order that was under way, and for what was shared since
	w.mu.Unlock()
	w.store.Restore(b)
}

// check looks at each node that has been well for some time: it serves a certificate that has not ended, and what it ordered
// without the store is the fleet's, or gave way.
func (w *world) check(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	violation := w.violation
	w.mu.Unlock()
	if violation != "" {
		t.Fatal(violation)
	}
	for _, n := range w.nodes {
		if !n.cutOff.IsZero() || time.Since(n.well) < 10*time.Minute {
			continue
		}
		have, err := n.store.Load("www")
		if err != nil {
			t.Fatal(err)
		}
		if have.Current == nil || !time.Now().Before(have.Current.Leaf.NotAfter) {
			head, _ := n.ledger.Head("www")
			t.Fatalf("node %d has no valid certificate although it was well for %s: %+v\nhead %+v\nplan %+v", n.id, time.Since(n.well), have.State.Fleet, head, n.plan(t))
		}
		id := w.unshared(t, n)
		if id == "" {
			continue
		}
		time.Sleep(commitPatience) // the answer to its commit may be on the way
		if w.unshared(t, n) == id {
			t.Fatalf("node %d keeps its own version %s although it was well for %s: plan %s", n.id, id, time.Since(n.well), n.plan(t))
		}
	}
}

// unshared is the version that a node keeps to itself although it has the newest configuration and nobody works on the
// certificate, "" for none.
func (w *world) unshared(t *testing.T, n *simNode) string {
	t.Helper()
	have, err := n.store.Load("www")
	if err != nil {
		t.Fatal(err)
	}
	if have.State.Fleet == nil || len(w.store.Keys("/acmed/sim/v1/claim/")) > 0 || !slices.Equal(n.names, w.newestNames()) {
		return ""
	}
	return have.State.Fleet.Unshared
}

// newestNames is the newest configuration.
func (w *world) newestNames() []string {
	return slices.MaxFunc(w.nodes, func(a, b *simNode) int { return cmp.Compare(version(a.names), version(b.names)) }).names
}

func (n *simNode) plan(t *testing.T) string {
	r := n.engine.Run(t.Context(), "www", Options{}, nil)
	return fmt.Sprintf("%s: %s; %v", r.Reason, r.Message, r.Err)
}

// judge looks at the whole life when it is over.
func (w *world) judge(t *testing.T) {
	var leaves []string
	for _, n := range w.nodes {
		have, err := n.store.Load("www")
		if err != nil {
			t.Fatal(err)
		}
		leaves = append(leaves, n.server.served())
		if have.Current == nil || have.Current.Fingerprint() != leaves[len(leaves)-1] {
			t.Errorf("node %d serves something else than its active version", n.id)
		}
	}
	head, _ := w.nodes[0].ledger.Head("www")
	if slices.Max(leaves) != slices.Min(leaves) || leaves[0] != head.Fingerprint {
		for _, n := range w.nodes {
			have, _ := n.store.Load("www")
			t.Logf("node %d: %+v, plan %s", n.id, have.State.Fleet, n.plan(t))
		}
		t.Fatalf("the nodes serve %q at the end, the head is %+v", leaves, head)
	}
	if claims := w.store.Keys("/acmed/sim/v1/claim/"); len(claims) > 0 {
		t.Errorf("claims are left: %q", claims)
	}
	for _, n := range w.nodes {
		if c, claimed := n.ledger.Claimed("www"); claimed {
			t.Errorf("node %d knows a claim that does not exist: %+v", n.id, c)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	finalized, pending := 0, 0
	for _, o := range w.orders {
		if o.bundle != nil {
			finalized++
		} else if o.stored && !w.restored && slices.Equal(o.names, w.newestNames()) {
			pending++
		}
	}
	if pending > w.faults { // a node that stops inside a request may leave one
		t.Errorf("%d orders were left pending, %d faults", pending, w.faults)
	}
	if wasted := finalized - w.commits; wasted > 0 {
		w.sum.wasted.Add(int64(wasted))
	}
	// A certificate of an hour is renewed every half hour, and each fault may cost one order.
	life := w.life() + 20*time.Minute
	if most := int(life/(simLife-plan.RenewBefore(simLife, 0))) + 2 + w.faults; len(w.orders) > most {
		t.Errorf("%d orders, at most %d: %d faults, %d ordered alone", len(w.orders), most, w.faults, w.alone)
	}
	if extra := finalized - w.commits - w.alone; !w.restored && extra > w.faults {
		t.Errorf("%d certificates, %d versions, %d faults", finalized, w.commits, w.faults)
	}
}
