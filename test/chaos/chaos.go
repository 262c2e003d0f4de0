package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	many "github.com/acmed/acmed/internal/acmetest/fleet"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
)

// size is how much happens.
type size struct {
	nodes, certs  int
	kills, pauses int // in each of four phases
	outage        time.Duration
}

// beyond is longer than a lease.
const beyond = fleet.LeaseTTL + 5*time.Second

// chaos is a fleet to which everything happens while its certificates are obtained and renewed.
type chaos struct {
	*site
	size  size
	list  []cert
	probe prober

	mu     sync.Mutex
	killed int
	paused int
}

func runChaos(acmed, dir string, z size) (err error) {
	s, err := newSite(acmed, dir, z.nodes, 150*time.Millisecond, acmetest.WithAlwaysValid())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	c := &chaos{site: s, size: z}
	for i := range z.certs {
		c.list = append(c.list, cert{name: fmt.Sprint("c", i), profile: "long", solver: "http"})
	}
	c.balance()
	for _, n := range c.nodes {
		if err := n.configure(c.list); err != nil {
			return err
		}
	}
	if err := c.found(); err != nil {
		return err
	}
	if err := c.watch.begin(false); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var probing sync.WaitGroup
	probing.Go(func() { c.probe.run(ctx, s.store) })
	defer probing.Wait()
	defer cancel()
	if err := c.phases(); err != nil {
		return err
	}
	c.watch.end()
	return c.judge()
}

func (c *chaos) phases() error {
	if err := c.phase("all are new", c.startAll, nil, nil, func(cert, *x509.Certificate) bool { return true }); err != nil {
		return err
	}
	before := c.leaves(c.list)
	other := func(k cert, leaf *x509.Certificate) bool { return leaf.SerialNumber.String() != before[k.name] }
	if err := c.phase("all are due by the CA's window, some are forced on two nodes at once", c.allDue, c.killLeader, c.forceTwice, other); err != nil {
		return err
	}
	backup, err := c.store.backup()
	if err != nil {
		return err
	}
	short := func(_ cert, leaf *x509.Certificate) bool { return leaf.NotAfter.Sub(leaf.NotBefore) < 10*24*time.Hour }
	shorten := func() error {
		return c.roll(func(k *cert) { k.profile = "short" }, c.nodes)
	}
	if err := c.phase("rolling change to shorter lifetimes, the store without a quorum for "+c.size.outage.String(), c.fresh, c.loseQuorum, shorten, short); err != nil {
		return err
	}
	c.watch.end()
	if err := c.store.restore(backup); err != nil {
		return err
	}
	if err := c.watch.begin(true); err != nil {
		return err
	}
	if err := c.agree("nobody goes back with the store", c.list, short); err != nil {
		return err
	}
	named := func(_ cert, leaf *x509.Certificate) bool { return len(leaf.DNSNames) == 2 }
	rename := func() error {
		return c.roll(func(k *cert) { k.extra = ", v1." + k.name + ".example.com" }, c.nodes)
	}
	return c.phase("the store restored from a backup, then a rolling change of names with a straggler", c.fresh, nil, rename, named)
}

// phase lets faults happen while something goes on, and waits until all nodes serve what is wanted.
func (c *chaos) phase(what string, begin, special, action func() error, ok func(cert, *x509.Certificate) bool) error {
	begun := time.Now()
	before, _ := c.orders.tally(nil)
	versions := c.watch.count()
	c.probe.take()
	if err := begin(); err != nil {
		return err
	}
	var all sync.WaitGroup
	errs := make(chan error, 4)
	for _, do := range []func() error{action, special, c.kill, c.pause} {
		if do != nil {
			all.Go(func() { errs <- do() })
		}
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	if err := c.agree(what, c.list, ok); err != nil {
		return err
	}
	after, _ := c.orders.tally(nil)
	fmt.Printf("%s: %d certificates on %d nodes in %s; %d orders, %d finalized, %d versions; longest time in which the store took no write %s\n", what, len(c.list), len(c.nodes),
		time.Since(begun).Round(100*time.Millisecond), after.placed-before.placed, after.finalized-before.finalized, c.watch.count()-versions, c.probe.take().Round(10*time.Millisecond))
	return nil
}

func (w *watcher) count() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.versions
}

func (c *chaos) startAll() error {
	var err error
	for _, n := range c.nodes {
		err = errors.Join(err, n.start())
	}
	return err
}

// fresh restarts all nodes as if nothing had been issued today, which is more than acmed allows in a day.
func (c *chaos) fresh() error { return c.edit(func(*certs.Head) {}) }

// allDue makes every certificate due: the CA's window is in the past, and is asked for at once.
func (c *chaos) allDue() error {
	past := time.Now().Add(-time.Hour)
	for _, k := range c.list {
		if err := c.ca.SetRenewalInfo(c.nodes[0].leaf(k.name), past, past.Add(time.Minute)); err != nil {
			return err
		}
	}
	return c.edit(func(h *certs.Head) { h.ARICheckAt = past })
}

func (c *chaos) edit(change func(*certs.Head)) error {
	for _, n := range c.nodes {
		n.kill(syscall.SIGTERM)
		for _, k := range c.list {
			if err := many.AskAtOnce(filepath.Join(n.dir, "state/certs", k.name, "state.json")); err != nil {
				return err
			}
		}
	}
	engine, err := c.store.open()
	if err != nil {
		return err
	}
	defer func() { _ = engine.Close() }()
	heads, err := engine.Read(context.Background(), fleet.Prefix(root+"head/"))
	if err != nil {
		return err
	}
	for _, kv := range heads.KVs {
		h, err := certs.ParseHead(kv.Value)
		if err != nil {
			return err
		}
		h.Issued = nil
		change(&h)
		text, err := h.Encode()
		if err != nil {
			return err
		}
		if _, err := engine.Commit(context.Background(), fleet.Txn{Then: []fleet.Op{{Key: kv.Key, Value: text}}}); err != nil {
			return err
		}
	}
	return c.startAll()
}

// roll gives the nodes another configuration, one after the other, the last one much later.
func (c *chaos) roll(change func(*cert), nodes []*node) error {
	for i := range c.list {
		change(&c.list[i])
	}
	for i, n := range nodes {
		if i == len(nodes)-1 {
			time.Sleep(beyond)
		}
		if err := func() error {
			n.mu.Lock()
			defer n.mu.Unlock()
			if err := n.configure(c.list); err != nil {
				return err
			}
			return await("the daemon of "+n.name+" reads its configuration", func() bool { _, err := n.run("reload"); return err == nil })
		}(); err != nil {
			return err
		}
		time.Sleep(time.Second)
	}
	return nil
}

// forceTwice asks two nodes at once for a tenth of the certificates. A node that is killed meanwhile does not answer.
func (c *chaos) forceTwice() error {
	args := []string{"renew", "--force", "--yes"}
	for _, k := range c.list[:(len(c.list)+9)/10] {
		args = append(args, k.name)
	}
	var all sync.WaitGroup
	for _, n := range c.nodes[:2] {
		all.Go(func() { _, _ = n.run(args...) })
	}
	all.Wait()
	return nil
}

// victim picks a node, half of the time one that works on something, and keeps other faults from it until unlocked.
func (c *chaos) victim() *node {
	time.Sleep(rand.N(3 * time.Second))
	for {
		n := c.nodes[rand.IntN(len(c.nodes))]
		if rand.IntN(2) == 0 {
			if busy := c.watch.busy(); len(busy) > 0 {
				name := busy[rand.IntN(len(busy))]
				n = c.nodes[slices.IndexFunc(c.nodes, func(n *node) bool { return n.name == name })]
			}
		}
		if n.mu.TryLock() {
			return n
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// busy lists the nodes that hold claims, once for each.
func (w *watcher) busy() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []string
	for _, c := range w.claims {
		if strings.HasPrefix(c.node, "n") {
			list = append(list, c.node)
		}
	}
	return list
}

func (c *chaos) kill() error {
	for range c.size.kills {
		n := c.victim()
		c.watch.fault(n.name)
		n.kill(syscall.SIGKILL)
		c.count(&c.killed)
		time.Sleep(rand.N(5 * time.Second))
		err := n.start()
		n.mu.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *chaos) pause() error {
	var all sync.WaitGroup
	for range c.size.pauses {
		n := c.victim()
		c.watch.fault(n.name)
		_ = n.daemon.Process.Signal(syscall.SIGSTOP)
		c.count(&c.paused)
		all.Go(func() {
			defer n.mu.Unlock()
			time.Sleep(beyond)
			_ = n.daemon.Process.Signal(syscall.SIGCONT)
		})
	}
	all.Wait()
	return nil
}

func (c *chaos) count(what *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*what++
}

func (c *chaos) killLeader() error {
	time.Sleep(2 * time.Second)
	m, err := c.store.leader()
	if err != nil {
		return err
	}
	m.kill()
	time.Sleep(5 * time.Second)
	return c.store.start(m)
}

func (c *chaos) loseQuorum() error {
	time.Sleep(2 * time.Second)
	for _, m := range c.store.members[1:] {
		m.kill()
	}
	time.Sleep(c.size.outage)
	for _, m := range c.store.members[1:] {
		if err := c.store.start(m); err != nil {
			return err
		}
	}
	return nil
}

// judge prints the sum, and fails if something was promised that is not so.
func (c *chaos) judge() error {
	w := c.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	t, bad := c.orders.tally(w.journals)
	wanted, faults := 4*len(c.list), c.killed+c.paused
	fmt.Printf("in all: %d orders for %d certificates, %d finalized, %d left pending, %d of them after they were shared; %d overlapping; %d heads written twice, %d that went back; %d kills, %d pauses of %s; longest time from the loss of a node until another one had its claim: %s\n",
		t.placed, wanted, t.finalized, t.left, t.shared, t.overlapping, len(w.twice), len(w.back), c.killed, c.paused, beyond, w.orphan.Round(100*time.Millisecond))
	var errs []error
	for what, list := range map[string][]string{"orders": bad, "written twice": w.twice, "went back": w.back} {
		if len(list) > 0 {
			errs = append(errs, fmt.Errorf("%s: %s", what, strings.Join(list, "; ")))
		}
	}
	const slots = 8 // each of which may be in the middle of a request
	if most := wanted + slots*faults; t.placed > most {
		errs = append(errs, fmt.Errorf("%d orders, at most %d", t.placed, most))
	}
	return errors.Join(errs...)
}
