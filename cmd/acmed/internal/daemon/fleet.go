package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/internal/guard"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
	"github.com/acmed/acmed/pkg/issuer"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/store"
)

// member is this process as a node of a fleet. Nothing here waits for the store: the daemon is ready without it.
type member struct {
	conf   config.Fleet
	ledger *fleet.Ledger
	store  *etcd.Engine
	engine *renewal.Engine
	shared *issuer.Shared
	log    *zap.Logger
	lease  string // path of the file with the lease of this process, for the next one

	lookups lookups
	state   *store.Store
	issuer  func(name string) (config.Issuer, bool)

	mu      sync.Mutex
	stop    context.CancelFunc // nil until it was started
	done    chan struct{}
	ends    map[string]time.Time // of the active versions; of tell alone
	changed map[string]bool      // certificates whose jobs ended since the others were told
	told    fleet.Node           // of tell alone
	renamed chan struct{}
	up      bool
	why     string // the store was away, as last logged
}

// newMember prepares this process for the fleet of the configuration; nil without one. It connects to nothing. Loaded is
// told when everything was read from the store, back when it answers again, changed when another node changed something about
// a certificate.
func newMember(c *config.Config, o *Options, s *store.Store, log *zap.Logger, loaded, back func(), changed func(name string)) (*member, error) {
	if c.Fleet == nil {
		return nil, nil //nolint:nilnil // documented
	}
	m := &member{state: s, conf: *c.Fleet, log: log, lease: filepath.Join(c.StateDir, "fleet.json"), changed: map[string]bool{}, ends: map[string]time.Time{}}
	m.renamed = make(chan struct{}, 1)
	node := fleet.Node{Release: o.Version, Since: time.Now().UTC().Truncate(time.Second), Install: c.Fleet.Installs(), Unranked: o.Unranked}
	node.Address, _ = os.Hostname() // it is for people only
	var err error
	if node.ID, err = c.Fleet.NodeID(); err != nil {
		return nil, fmt.Errorf("fleet.node: %w", err)
	}
	sealer, err := c.Fleet.Sealer()
	if err != nil {
		return nil, fmt.Errorf("fleet.seal_files: %w", err)
	}
	connection := c.Fleet.Etcd.Connection()
	connection.Log = log.Named("etcd")
	if m.store, err = etcd.Open(connection); err != nil {
		return nil, fmt.Errorf("fleet.etcd: %w", err)
	}
	m.ledger = fleet.New(fleet.Config{
		Fleet: c.Fleet.Name, Engine: m.store, Sealer: sealer, Node: node, Loaded: loaded, Back: back, Changed: changed,
		Names: func() []string { return m.engine.Names() },
		Has:   func(name string) bool { _, ok := m.engine.Certificate(name); return ok },
	})
	m.shared = &issuer.Shared{
		Accounts: fleet.NewAccounts(m.ledger, issuer.Thumbprint), Orders: fleet.Orders{Ledger: m.ledger, Store: s}, Budget: m.ledger,
	}
	return m, nil
}

// start joins the fleet in the background and stays in it until leave. A second start changes nothing.
func (m *member) start() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop != nil {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	m.stop, m.done = cancel, make(chan struct{})
	guard.Go(m.log, "the part in the fleet", func() {
		defer close(m.done)
		var all guard.Group
		all.Go(func() { m.tell(ctx) })
		m.ledger.Run(ctx, m.oldLease(), m.keepLease)
		all.Wait()
		m.keepLease(0)
	})
}

// leave takes this process out of the fleet, after its jobs have ended.
func (m *member) leave() error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	stop, done := m.stop, m.done
	m.mu.Unlock()
	if stop != nil {
		stop()
		<-done
	}
	return m.store.Close()
}

// joined makes the scheduler look at everything that waited for the store.
func (d *Daemon) joined() {
	d.mu.Lock()
	scheduler := d.scheduler
	d.mu.Unlock()
	if scheduler != nil {
		scheduler.Sweep()
	}
}

// back makes the scheduler look at what it looked at while the store was away.
func (d *Daemon) back() {
	d.mu.Lock()
	scheduler := d.scheduler
	d.mu.Unlock()
	if scheduler != nil {
		scheduler.Back()
	}
}

// changedElsewhere makes the scheduler look at a certificate that another node changed.
func (d *Daemon) changedElsewhere(name string) {
	d.mu.Lock()
	scheduler := d.scheduler
	d.mu.Unlock()
	if scheduler != nil {
		scheduler.Poke(name)
	}
}

// issuerConfig is what the configuration says about an issuer.
func (d *Daemon) issuerConfig(name string) (config.Issuer, bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config.Issuer(name)
}

// ended is told about every job of a node.
func (d *Daemon) ended(r renewal.Result) {
	d.recorder.Job(r)
	d.member.ended(r.Name)
}

// leaseFile is what the next process needs to end this one's claims at once after a crash.
type leaseFile struct {
	Fleet string `json:"fleet"`
	Lease int64  `json:"lease"`
}

func (m *member) oldLease() int64 {
	text, err := vetted.ReadFile(m.lease, 0, 1<<10)
	var f leaseFile
	if errors.Is(err, fs.ErrNotExist) || err == nil && json.Unmarshal(text, &f) == nil && f.Fleet != m.conf.Name {
		return 0
	}
	return f.Lease
}

func (m *member) keepLease(lease int64) {
	text, err := json.Marshal(leaseFile{m.conf.Name, lease})
	if err == nil {
		err = atomicfile.Write(m.lease, text, 0o600)
	}
	if err != nil {
		m.log.Warn("the lease was not stored; after a crash the others wait until it ends", zap.Error(err))
	}
}

// tellEvery is how often the others are told what changed here.
const tellEvery = 5 * time.Second

// tell keeps the others informed about what this node serves, and the log about the store.
func (m *member) tell(ctx context.Context) {
	tick := time.NewTicker(tellEvery)
	defer tick.Stop()
	for {
		m.logHealth()
		m.announce(ctx)
		select {
		case <-ctx.Done():
			return
		case <-m.renamed:
			if err := m.ledger.Announce(ctx, m.told); err != nil {
				m.log.Debug("the certificates of this node were not announced", zap.Error(err))
			}
		case <-tick.C:
		}
	}
}

func (m *member) logHealth() {
	h := m.ledger.Health()
	up := m.ledger.Usable() == nil
	why := ""
	if h.Err != nil {
		why = h.Err.Error()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case up && !m.up:
		m.log.Info("in the fleet", zap.String("fleet", m.conf.Name), zap.String("node", m.ledger.NodeID()), zap.Int("nodes", len(m.ledger.Nodes())))
	case !up && why != "" && why != m.why:
		m.log.Warn("the fleet's store cannot be used; renewals wait, nothing else does", zap.String("why", why))
	}
	m.up, m.why = up, why
}

// ended remembers that the job of a certificate has ended.
func (m *member) ended(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.changed[name] = true
}

// standing brings what the others know up to date about some certificates.
func (m *member) standing(told fleet.Node, names map[string]bool) fleet.Node {
	next := fleet.Node{Serves: maps.Clone(told.Serves), Failed: maps.Clone(told.Failed)}
	if next.Serves == nil {
		next.Serves, next.Failed = map[string]int64{}, map[string]string{}
	}
	for name := range names {
		s, ok := m.engine.Standing(name)
		delete(next.Serves, name)
		delete(next.Failed, name)
		delete(m.ends, name)
		if !ok {
			continue
		}
		m.ends[name] = s.NotAfter
		if s.Behind && len(next.Serves) < mostListed {
			next.Serves[name] = 0
		}
		if s.Failed != "" && len(next.Failed) < mostListed {
			next.Failed[name] = s.Failed
		}
	}
	for _, at := range m.ends {
		next.NotAfter = clock.Earlier(next.NotAfter, at)
	}
	return next
}

// mostListed is how many certificates a node lists that are behind or failed: enough to see what is wrong.
const mostListed = 50

// announce tells the others what changed in what this node serves.
func (m *member) announce(ctx context.Context) {
	if !m.ledger.Health().Up {
		return
	}
	m.mu.Lock()
	names := m.changed
	m.changed = map[string]bool{}
	m.mu.Unlock()
	next := m.standing(m.told, names)
	if len(names) == 0 || reflect.DeepEqual(next, m.told) {
		return
	}
	if err := m.ledger.Announce(ctx, next); err != nil {
		m.mu.Lock()
		for name := range names {
			m.changed[name] = true
		}
		m.mu.Unlock()
		return
	}
	m.told = next
}

// reconfigured follows a change of the configuration: other certificates, other heads. The caller holds d.mu.
func (d *Daemon) reconfigured(ctx context.Context) {
	m := d.member
	if m == nil {
		return
	}
	d.hold(ctx)
	m.ledger.Reread()
	select {
	case m.renamed <- struct{}{}:
	default:
	}
}

// wait returns once the store was reached and everything is read, or a moment later without.
func (m *member) wait(ctx context.Context, patience time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if m.ledger.Usable() == nil || m.ledger.Health().Refused {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
