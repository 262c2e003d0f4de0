// Package fleettest has an engine in memory that can fail in all the ways in which a real one does, and the suite that
// every engine and the ledger on it must pass.
package fleettest

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
)

// Memory is a replicated store in memory, shared by the engines that [Memory.Client] returns.
type Memory struct {
	mu        sync.Mutex
	revision  int64
	compacted int64
	kvs       map[string]fleet.KV
	sorted    []string // the keys in order; nil: one came or went since
	history   []change
	leases    map[int64]lease
	lastLease int64
	down      bool
	wake      chan struct{} // closed and replaced at every change
	observer  func(fleet.Event)
}

type change struct {
	revision int64
	event    fleet.Event
}

type lease struct {
	ttl time.Duration
	end time.Time
}

// NewMemory returns an empty store.
func NewMemory() *Memory {
	return &Memory{revision: 1, kvs: map[string]fleet.KV{}, leases: map[int64]lease{}, wake: make(chan struct{})}
}

// Client is one process's connection.
type Client struct{ memory *Memory }

var _ fleet.Engine = (*Client)(nil)

// Client returns a new connection.
func (m *Memory) Client() *Client { return &Client{memory: m} }

// Down stops or starts the whole store. Leases do not end while it is down, and are renewed when it comes back, as after
// the election of a leader.
func (m *Memory) Down(down bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	if m.down && !down {
		for id, l := range m.leases {
			m.leases[id] = lease{l.ttl, time.Now().Add(l.ttl)}
		}
	}
	m.down = down
	m.changed()
}

// Backup is the content of the store at one moment.
type Backup struct {
	revision int64
	kvs      map[string]fleet.KV
	leases   map[int64]lease
}

// Backup returns the content.
func (m *Memory) Backup() *Backup {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	b := &Backup{m.revision, map[string]fleet.KV{}, map[int64]lease{}}
	for k, kv := range m.kvs {
		b.kvs[k] = kv
	}
	for id, l := range m.leases {
		b.leases[id] = l
	}
	return b
}

// Restore goes back to a backup: revisions are given again, leases of that time live again, and watches continue as if
// nothing had happened.
func (m *Memory) Restore(b *Backup) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision, m.kvs, m.leases, m.history, m.compacted, m.sorted = b.revision, map[string]fleet.KV{}, map[int64]lease{}, nil, 0, nil
	for k, kv := range b.kvs {
		m.kvs[k] = kv
	}
	for id, l := range b.leases {
		m.leases[id] = lease{l.ttl, time.Now().Add(l.ttl)}
	}
	m.changed()
}

// Compact forgets the history up to now.
func (m *Memory) Compact() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.history, m.compacted = nil, m.revision
	m.changed()
}

// Put writes a key as an operator or an attacker would; nil deletes.
func (m *Memory) Put(key string, value []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.revision++
	m.set(fleet.Op{Key: key, Value: value})
	m.changed()
}

// Watch tells fn, from now on, of every change while it is made. It must not use the store.
func (m *Memory) Watch(fn func(fleet.Event)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.observer = fn
}

// Get returns the value of a key, nil if it does not exist.
func (m *Memory) Get(key string) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	return m.kvs[key].Value
}

// Keys lists all keys with a prefix, in order.
func (m *Memory) Keys(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.expire()
	return slices.DeleteFunc(slices.Clone(m.keys()), func(k string) bool { return !strings.HasPrefix(k, prefix) })
}

// keys lists all keys in order. The lock is held.
func (m *Memory) keys() []string {
	if m.sorted == nil {
		m.sorted = slices.Sorted(maps.Keys(m.kvs))
	}
	return m.sorted
}

func (m *Memory) changed() {
	close(m.wake)
	m.wake = make(chan struct{})
}

// set applies one operation at the current revision. The lock is held.
func (m *Memory) set(op fleet.Op) {
	e := fleet.Event{KV: fleet.KV{Key: op.Key, Value: bytes.Clone(op.Value), Lease: op.Lease, Modified: m.revision}, Deleted: op.Value == nil}
	_, exists := m.kvs[op.Key]
	switch {
	case e.Deleted && !exists:
		return
	case e.Deleted:
		m.sorted = nil
		delete(m.kvs, op.Key)
	default:
		if !exists {
			m.sorted = nil
		}
		m.kvs[op.Key] = e.KV
	}
	m.history = append(m.history, change{m.revision, e})
	if m.observer != nil {
		m.observer(e)
	}
}

// expire ends the leases whose time is over. The lock is held.
func (m *Memory) expire() {
	if m.down {
		return
	}
	var ended []int64
	for id, l := range m.leases {
		if !time.Now().Before(l.end) {
			ended = append(ended, id)
		}
	}
	slices.Sort(ended)
	for _, id := range ended {
		m.drop(id)
	}
}

func (m *Memory) drop(id int64) {
	delete(m.leases, id)
	var keys []string
	for k, kv := range m.kvs {
		if kv.Lease == id {
			keys = append(keys, k)
		}
	}
	if len(keys) == 0 {
		return
	}
	slices.Sort(keys)
	m.revision++
	for _, k := range keys {
		m.set(fleet.Op{Key: k})
	}
	m.changed()
}

// enter checks that the store is there. It returns with the lock held, unless it returns an error.
func (c *Client) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return &certs.LedgerError{Code: advice.StoreUnreachable, Err: err}
	}
	c.memory.mu.Lock()
	if c.memory.down {
		c.memory.mu.Unlock()
		return Away()
	}
	c.memory.expire()
	return nil
}

// Read implements fleet.Engine.
func (c *Client) Read(ctx context.Context, r fleet.Range) (fleet.Snapshot, error) {
	if err := c.enter(ctx); err != nil {
		return fleet.Snapshot{}, err
	}
	defer c.memory.mu.Unlock()
	s := fleet.Snapshot{Revision: c.memory.revision}
	keys := c.memory.keys()
	first, _ := slices.BinarySearch(keys, r.From)
	for _, k := range keys[first:] {
		if !in(r, k) {
			break
		}
		s.KVs = append(s.KVs, c.memory.kvs[k])
	}
	if r.Limit > 0 && int64(len(s.KVs)) > r.Limit {
		s.KVs, s.More = s.KVs[:r.Limit], true
	}
	return s, nil
}

func in(r fleet.Range, key string) bool {
	return r.To == "" && key == r.From || r.From <= key && key < r.To
}

// Commit implements fleet.Engine.
func (c *Client) Commit(ctx context.Context, t fleet.Txn) (fleet.Result, error) {
	if err := c.enter(ctx); err != nil {
		return fleet.Result{}, err
	}
	r, err := c.memory.commit(t)
	c.memory.mu.Unlock()
	return r, err
}

func (m *Memory) commit(t fleet.Txn) (fleet.Result, error) {
	for _, op := range t.Then {
		if _, ok := m.leases[op.Lease]; op.Lease != 0 && !ok {
			return fleet.Result{}, fleet.ErrNoLease
		}
	}
	for _, cond := range t.If {
		kv, ok := m.kvs[cond.Key]
		if ok != (cond.Value != nil) || ok && !bytes.Equal(kv.Value, cond.Value) {
			r := fleet.Result{Revision: m.revision}
			for _, key := range t.Else {
				if kv, ok := m.kvs[key]; ok {
					r.Read = append(r.Read, kv)
				}
			}
			return r, nil
		}
	}
	m.revision++
	before := len(m.history)
	for _, op := range t.Then {
		m.set(op)
	}
	if len(m.history) == before { // nothing changed
		m.revision--
	}
	m.changed()
	return fleet.Result{Done: true, Revision: m.revision}, nil
}

// Watch implements fleet.Engine.
func (c *Client) Watch(ctx context.Context, after int64, ranges []fleet.Range, fn func(fleet.Batch) error) error {
	next := after
	for {
		if err := c.enter(ctx); err != nil {
			return err
		}
		m := c.memory
		if next < m.compacted {
			m.mu.Unlock()
			return fleet.ErrCompacted
		}
		batch := fleet.Batch{Revision: m.revision}
		first, _ := slices.BinarySearchFunc(m.history, next+1, func(ch change, revision int64) int { return cmp.Compare(ch.revision, revision) })
		for _, ch := range m.history[first:] {
			if slices.ContainsFunc(ranges, func(r fleet.Range) bool { return in(r, ch.event.Key) }) {
				batch.Events = append(batch.Events, ch.event)
			}
		}
		next = max(next, m.revision) // a store that went back is not noticed here, as in etcd
		wake := m.wake
		m.mu.Unlock()
		if len(batch.Events) > 0 {
			if err := fn(batch); err != nil {
				return err
			}
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Grant implements fleet.Engine.
func (c *Client) Grant(ctx context.Context, ttl time.Duration) (int64, error) {
	if err := c.enter(ctx); err != nil {
		return 0, err
	}
	defer c.memory.mu.Unlock()
	c.memory.lastLease++
	c.memory.leases[c.memory.lastLease] = lease{ttl, time.Now().Add(ttl)}
	return c.memory.lastLease, nil
}

// KeepAlive implements fleet.Engine.
func (c *Client) KeepAlive(ctx context.Context, id int64) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.memory.mu.Unlock()
	l, ok := c.memory.leases[id]
	if !ok {
		return fleet.ErrNoLease
	}
	c.memory.leases[id] = lease{l.ttl, time.Now().Add(l.ttl)}
	return nil
}

// Revoke implements fleet.Engine.
func (c *Client) Revoke(ctx context.Context, id int64) error {
	if err := c.enter(ctx); err != nil {
		return err
	}
	defer c.memory.mu.Unlock()
	c.memory.drop(id)
	return nil
}
