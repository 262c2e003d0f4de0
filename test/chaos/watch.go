package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/fleet/etcd"
)

const root = "/acmed/web/v1/"

// watcher sees every change of heads and claims, from outside.
type watcher struct {
	store  *store
	stop   func()
	done   chan struct{}
	engine *etcd.Engine

	mu       sync.Mutex
	heads    map[string]map[int64]string // of each certificate, number to fingerprint
	last     map[string]certs.Head
	versions int // that were given a number
	twice    []string
	back     []string
	claims   map[string]claimed
	lost     map[string]time.Time // certificate to the time when the node that worked on it was lost
	orphan   time.Duration        // the longest that a certificate was without one afterwards
	why      string
	faults   map[string]time.Time // node to the time of its last fault
	journals map[string]bool      // orders that were shared before they were finalized
}

type claimed struct {
	node  string
	since time.Time
}

func newWatcher(s *store) *watcher {
	return &watcher{
		store: s, heads: map[string]map[int64]string{}, last: map[string]certs.Head{}, claims: map[string]claimed{},
		lost: map[string]time.Time{}, faults: map[string]time.Time{}, journals: map[string]bool{},
	}
}

// begin reads all heads and watches from there until end. Forget is for a store that went back.
func (w *watcher) begin(forget bool) error {
	var err error
	if w.engine, err = w.store.open(); err != nil {
		return err
	}
	if forget {
		w.mu.Lock()
		w.heads, w.last, w.claims, w.lost = map[string]map[int64]string{}, map[string]certs.Head{}, map[string]claimed{}, map[string]time.Time{}
		w.mu.Unlock()
	}
	ctx, cancel := context.WithCancel(context.Background())
	w.stop, w.done = cancel, make(chan struct{})
	var snapshot fleet.Snapshot
	if err := await("the heads are read", func() bool { snapshot, err = w.engine.Read(ctx, fleet.Prefix(root+"head/")); return err == nil }); err != nil {
		return err
	}
	for _, kv := range snapshot.KVs {
		w.head(kv, false)
	}
	go func() {
		defer close(w.done)
		for from := snapshot.Revision; ctx.Err() == nil; time.Sleep(100 * time.Millisecond) {
			_ = w.engine.Watch(ctx, from, []fleet.Range{fleet.Prefix(root + "claim/"), fleet.Prefix(root + "head/"), fleet.Prefix(root + "order/")}, func(b fleet.Batch) error {
				for _, e := range b.Events {
					from = max(from, e.Modified)
					w.event(e)
				}
				return nil
			})
		}
	}()
	return nil
}

func (w *watcher) end() {
	w.stop()
	<-w.done
	_ = w.engine.Close()
}

func (w *watcher) event(e fleet.Event) {
	name := last(e.Key)
	switch {
	case strings.HasPrefix(e.Key, root+"head/"):
		if !e.Deleted {
			w.head(e.KV, true)
		}
	case strings.HasPrefix(e.Key, root+"order/"):
		var j struct{ URL string }
		if json.Unmarshal(e.Value, &j) == nil && !e.Deleted {
			w.mu.Lock()
			w.journals[last(j.URL)] = true
			w.mu.Unlock()
		}
	case !strings.HasPrefix(name, "@"):
		w.claim(name, e)
	}
}

// last is what follows the last slash.
func last(path string) string { return path[strings.LastIndexByte(path, '/')+1:] }

func (w *watcher) head(kv fleet.KV, fresh bool) {
	h, err := certs.ParseHead(kv.Value)
	name := last(kv.Key)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch was, known := w.heads[name][h.N]; {
	case err != nil:
		w.twice = append(w.twice, err.Error())
		return
	case known && was != h.Fingerprint:
		w.twice = append(w.twice, fmt.Sprintf("%s version %d", name, h.N))
	case !known && h.N > 0 && fresh:
		w.versions++
		delete(w.lost, name) // the node lived long enough
	}
	if h.N < w.last[name].N {
		w.back = append(w.back, fmt.Sprintf("%s from version %d to %d", name, w.last[name].N, h.N))
	}
	if w.heads[name] == nil {
		w.heads[name] = map[int64]string{}
	}
	w.heads[name][h.N], w.last[name] = h.Fingerprint, h
}

// claim measures how long a certificate is without a node after the one that worked on it was killed or paused.
func (w *watcher) claim(name string, e fleet.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e.Deleted {
		c := w.claims[name]
		delete(w.claims, name)
		if at := w.faults[c.node]; at.After(c.since) {
			w.lost[name] = at
		}
		return
	}
	var c struct{ Node string }
	_ = json.Unmarshal(e.Value, &c)
	now := time.Now()
	w.claims[name] = claimed{c.Node, now}
	if at, ok := w.lost[name]; ok {
		delete(w.lost, name)
		if gap := now.Sub(at); gap > w.orphan {
			w.orphan, w.why = gap, fmt.Sprintf("%s, then node %s", name, c.Node)
		}
	}
}

func (w *watcher) fault(node string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.faults[node] = time.Now()
}

// headOf is the newest head that was seen of a certificate.
func (w *watcher) headOf(name string) certs.Head {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last[name]
}

// prober writes to the store all the time, and measures the longest pause.
type prober struct {
	mu      sync.Mutex
	longest time.Duration
	last    time.Time
}

func (p *prober) run(ctx context.Context, s *store) {
	p.take()
	var engine *etcd.Engine
	for n := 0; ctx.Err() == nil; n++ {
		if engine == nil {
			engine, _ = s.open()
			continue
		}
		one, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		_, err := engine.Commit(one, fleet.Txn{Then: []fleet.Op{{Key: "/probe", Value: fmt.Append(nil, n)}}})
		cancel()
		if err == nil {
			p.mu.Lock()
			p.longest, p.last = max(p.longest, time.Since(p.last)), time.Now()
			p.mu.Unlock()
		}
		time.Sleep(50 * time.Millisecond)
	}
	if engine != nil {
		_ = engine.Close()
	}
}

// take returns the longest pause since the last call, with one that still lasts.
func (p *prober) take() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.last.IsZero() {
		p.last = time.Now()
	}
	d := max(p.longest, time.Since(p.last))
	p.longest = 0
	return d
}
