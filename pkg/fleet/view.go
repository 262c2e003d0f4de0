package fleet

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Node is one process of the fleet, as all see it.
type Node struct {
	ID       string            `json:"-"` // from the key
	Lease    int64             `json:"-"`
	Ahead    time.Duration     `json:"-"` // its clock, when its last change was seen here; 0: not known
	Release  string            `json:"release,omitempty"`
	Since    time.Time         `json:"since,omitzero"`
	Time     time.Time         `json:"time,omitzero"` // of its clock when it last wrote this
	Address  string            `json:"address,omitempty"`
	Install  bool              `json:"install,omitempty"`  // role install: it never claims
	Unranked bool              `json:"unranked,omitempty"` // a command: it claims, but has no turn
	NameSet  string            `json:"name_set,omitempty"` // which certificates it has, see nameset.go
	Serves   map[string]int64  `json:"serves,omitempty"`   // certificates whose served version is not the head's
	Failed   map[string]string `json:"failed,omitempty"`   // certificates that it could not install
	NotAfter time.Time         `json:"not_after,omitzero"` // the earliest of its active versions
}

// claimValue is the value of a claim. All of it is the fence; the nonce makes it unique.
type claimValue struct {
	Node  string    `json:"node"`
	Lease int64     `json:"lease"`
	Nonce string    `json:"nonce"`
	Since time.Time `json:"since"`
	Why   string    `json:"why,omitempty"`
}

// Claimed is a claim as others see it.
type Claimed struct {
	Name  string
	Node  string
	Since time.Time
	Why   string
}

// view is the memory of what is shared, kept current by the watch. Heads stay in their text form: a node keeps up to a
// million of them.
type view struct {
	mu     sync.RWMutex
	loaded bool
	heads  map[string]entry
	claims map[string]claimEntry
	orders map[string]time.Time // certificate to the time since when this process has seen a journal without a claim
	nodes  map[string]Node      // by key
	sets   map[string]*nameSet
	small  map[string]KV // accounts and budgets, by key
	least  string        // the oldest release that may order
	bad    map[string]string
}

type entry struct {
	text     string
	n        int64
	modified int64
}

type claimEntry struct {
	claimValue
	raw      string
	modified int64
}

func (v *view) reset() {
	v.heads, v.claims, v.orders = map[string]entry{}, map[string]claimEntry{}, map[string]time.Time{}
	v.nodes, v.sets, v.small, v.bad = map[string]Node{}, map[string]*nameSet{}, map[string]KV{}, map[string]string{}
}

// replace puts everything that was read in place of what was known, and reports which certificates changed.
func (v *view) replace(l *Ledger, kvs []KV) {
	v.mu.Lock()
	before := v.heads
	v.reset()
	for _, kv := range kvs {
		v.put(l, Event{KV: kv})
	}
	v.loaded = true
	changed := map[string]bool{}
	for name, e := range v.heads {
		changed[name] = before[name].text != e.text
		delete(before, name)
	}
	for name := range before {
		changed[name] = true
	}
	v.mu.Unlock()
	for name, is := range changed {
		if is {
			l.config.Changed(name)
		}
	}
}

// apply takes changes over. A change that is older than what is known is skipped.
func (v *view) apply(l *Ledger, b Batch) {
	var changed []string
	v.mu.Lock()
	for _, e := range b.Events {
		e.fresh = true
		if name := v.put(l, e); name != "" {
			changed = append(changed, name)
		}
	}
	v.mu.Unlock()
	for _, name := range slices.Compact(changed) {
		l.config.Changed(name)
	}
}

// put takes one change over and returns the certificate that it is about, if it says something new about one.
func (v *view) put(l *Ledger, e Event) string {
	kind, rest := l.keys.split(e.Key)
	switch kind {
	case "head":
		return v.putHead(l, e)
	case "claim":
		return v.putClaim(e, rest)
	case "order":
		name, _, _ := strings.Cut(rest, "/")
		v.putOrder(l, name, e)
	case "node":
		v.putNode(e, rest)
	case "meta":
		var m meta
		if json.Unmarshal(e.Value, &m) == nil {
			v.least = m.Min
		}
	case "names":
		if s, err := parseNameSet(e.Value); err == nil && !e.Deleted {
			v.sets[rest] = s
		}
	case "account", "budget":
		if e.Modified < v.small[e.Key].Modified {
			return ""
		}
		v.small[e.Key] = e.KV // a deleted one has an empty value
	}
	return ""
}

// modified is the revision of what is known of a head or claim, 0 if nothing is.
func (v *view) modified(l *Ledger, key string) int64 {
	v.mu.RLock()
	defer v.mu.RUnlock()
	switch kind, rest := l.keys.split(key); kind {
	case "head":
		return v.heads[lastPart(rest)].modified
	case "claim":
		return v.claims[rest].modified
	}
	return 0
}

func (v *view) putHead(l *Ledger, e Event) string {
	name := lastPart(e.Key)
	if !l.config.Has(name) || e.Modified <= v.heads[name].modified {
		return ""
	}
	delete(v.bad, name)
	if e.Deleted {
		delete(v.heads, name)
		return name
	}
	h, err := certs.ParseHead(e.Value)
	if err != nil {
		v.bad[name] = err.Error()
	}
	v.heads[name] = entry{string(e.Value), h.N, e.Modified}
	return name
}

func (v *view) putClaim(e Event, name string) string {
	if e.Modified < v.claims[name].modified {
		return ""
	}
	if e.Deleted {
		delete(v.claims, name)
		return name
	}
	c := claimEntry{raw: string(e.Value), modified: e.Modified}
	if json.Unmarshal(e.Value, &c.claimValue) == nil {
		c.Lease = e.Lease // what the store says counts
		v.claims[name] = c
	}
	return ""
}

func (v *view) putOrder(l *Ledger, name string, e Event) {
	switch _, known := v.orders[name]; {
	case e.Deleted:
		delete(v.orders, name)
	case !known && l.config.Has(name):
		v.orders[name] = time.Now()
	}
}

func (v *view) putNode(e Event, rest string) {
	if e.Deleted {
		delete(v.nodes, e.Key)
		return
	}
	var n Node
	if json.Unmarshal(e.Value, &n) != nil {
		return
	}
	n.ID, _, _ = strings.Cut(rest, "/")
	n.Lease = e.Lease
	if e.fresh {
		n.Ahead = time.Until(n.Time).Round(time.Second)
	}
	v.nodes[e.Key] = n
}

// Head returns what the fleet knows about a certificate. It is false before the heads were read, and for a certificate
// that no node ever claimed.
func (l *Ledger) Head(name string) (certs.Head, bool) {
	l.view.mu.RLock()
	e, ok := l.view.heads[name]
	l.view.mu.RUnlock()
	if !ok {
		return certs.Head{}, false
	}
	h, _ := certs.ParseHead([]byte(e.text)) // a bad one is in Problems, and may be replaced
	return h, true
}

// Number is the number of a certificate's newest version, 0 if there is none.
func (l *Ledger) Number(name string) int64 {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	return l.view.heads[name].n
}

// Loaded reports whether the heads have been read since this process joined.
func (l *Ledger) Loaded() bool {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	return l.view.loaded
}

// Claimed returns who works on a certificate.
func (l *Ledger) Claimed(name string) (Claimed, bool) {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	c, ok := l.view.claims[name]
	return Claimed{name, c.Node, c.Since, c.Why}, ok
}

// Claims lists who works on what, by name.
func (l *Ledger) Claims() []Claimed {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	var list []Claimed
	for _, name := range slices.Sorted(maps.Keys(l.view.claims)) {
		c := l.view.claims[name]
		list = append(list, Claimed{name, c.Node, c.Since, c.Why})
	}
	return list
}

// Abandoned reports since when a pending order of the certificate has had no claim, as far as this process saw. Zero means
// that there is none, or that a node works on it.
func (l *Ledger) Abandoned(name string) time.Time {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	if _, claimed := l.view.claims[name]; claimed {
		return time.Time{}
	}
	return l.view.orders[name]
}

// AbandonedAfter is how long a pending order may be without a claim before another node continues it.
const AbandonedAfter = time.Minute

// Doubtful reports whether something about a certificate is old enough to be read again before it is acted on: a claim that
// outlived the lease of an ordinary crash, or an abandoned order.
func (l *Ledger) Doubtful(name string) bool {
	if c, claimed := l.Claimed(name); claimed {
		return time.Since(c.Since) > LeaseTTL
	}
	since := l.Abandoned(name)
	return !since.IsZero() && time.Since(since) >= AbandonedAfter
}

// Nodes lists the processes of the fleet, by ID and lease.
func (l *Ledger) Nodes() []Node {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	var list []Node
	for _, key := range slices.Sorted(maps.Keys(l.view.nodes)) {
		list = append(list, l.view.nodes[key])
	}
	return list
}

// Problems lists the heads that cannot be read, with the reason, by certificate.
func (l *Ledger) Problems() map[string]string {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	return maps.Clone(l.view.bad)
}
