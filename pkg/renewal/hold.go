package renewal

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
	"github.com/acmed/acmed/pkg/trust"
)

func (c *Clients) stores() []*trust.Store {
	if c.Stores == nil {
		return nil
	}
	return c.Stores()
}

// offer is a new certificate with those who would refuse it.
type offer struct {
	bundle  *certs.Bundle
	failing []trust.Verdict
}

// judge makes a bundle present the first chain that verifies for all clients until it is renewed, or at least now. After a
// key compromise nobody is asked: the old version must go.
func (j *job) judge(b *certs.Bundle) offer {
	stores := j.Clients.stores()
	if len(stores) == 0 || j.opts.NewKey {
		return offer{bundle: b}
	}
	now := j.engine.clock()
	for _, leaf := range b.Leaves() { // a CA's clock may be a little ahead
		now = clock.Later(now, leaf.NotBefore)
	}
	renewal := b.Leaf.NotAfter.Add(-plan.Before(&j.Spec, b.Leaf))
	if chosen, failing := trust.Choose(b, stores, now, clock.Later(now, renewal)); len(failing) == 0 {
		return offer{bundle: chosen}
	}
	chosen, failing := trust.Choose(b, stores, now)
	if len(failing) == 0 {
		j.engine.log.Warn("a client will refuse the chain before it is renewed", zap.String("certificate", j.Spec.Name),
			zap.Time("renewal", renewal))
	}
	return offer{chosen, failing}
}

// review decides whether the newest version must wait. It is asked in every round, between storing and activating, so that
// neither a crash in between nor a changed configuration gets past it.
func (j *job) review(ctx context.Context) error {
	r := j.record
	if err := errors.Join(j.prepareKeys(ctx), j.askChains(ctx)); err != nil {
		return err
	}
	if r.State.Pinned != "" && r.State.Pinned == r.Version {
		return nil
	}
	j.opts.NewKey = j.opts.NewKey || plan.IsCompromised(r.Lineage)
	for v := j.waits(); v != nil; {
		held, again, err := j.hold(v.ID)
		if err != nil {
			return err
		}
		if again {
			v = j.waits()
			continue
		}
		if before := r.State.Held; !same(before, held) {
			r.edit().Held = held
			if held == nil {
				j.released = before
			}
		}
		break
	}
	return j.markStale()
}

// waits is the newest version if it is not live and clients have a say in that: nil when nothing else could serve
// meanwhile, and for one that an endpoint did not work with.
func (j *job) waits() *store.Version {
	r := j.record
	v, h := plan.Newest(r.Lineage), r.State.Held
	if v == nil || v.ID == r.Version || r.Current == nil || !j.engine.clock().Before(r.Current.Leaf.NotAfter) ||
		h != nil && h.Version == v.ID && plan.TakenBack(h) {
		return nil
	}
	return v
}

// markStale notes whether the version that waits is still what the configuration asks for.
func (j *job) markStale() error {
	h := j.record.State.Held
	if h == nil || h.Version == j.record.Version {
		return nil
	}
	b, err := j.engine.store.Bundle(j.Spec.Name, h.Version)
	if err != nil {
		return err
	}
	if stale := plan.IsStale(&j.Spec, b); stale != h.Stale {
		j.record.edit().Held.Stale = stale
	}
	return nil
}

func same(a, b *store.Held) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Version == b.Version && a.Reason == b.Reason && a.Keys == b.Keys && a.Until.Equal(b.Until) && slices.Equal(a.Clients, b.Clients)
}

// holds is whether anything in the configuration can make a version wait. A new key that an operator asked for waits for the
// DNS alone.
func (j *job) holds() bool {
	return j.TLSA != nil || !j.opts.NewKey && (len(j.Clients.stores()) > 0 || j.Spec.Notice > 0)
}

// hold says for whom and until when a stored version must wait; nil lets it go live. When the clients changed and another
// of its chains suits them, that is stored as a version of its own, to be looked at again.
func (j *job) hold(id string) (held *store.Held, again bool, err error) {
	if !j.holds() {
		return nil, false, nil
	}
	b, err := j.engine.store.Bundle(j.Spec.Name, id)
	if err != nil {
		return nil, false, err
	}
	if h := j.holdForKeys(id, b); h != nil || j.opts.NewKey {
		return h, false, nil
	}
	o := j.judge(b)
	switch {
	case len(o.failing) > 0:
		return j.holdRefused(id, o), false, nil
	case !o.bundle.SameChain(b):
		if _, err := j.engine.store.AddVersion(j.Spec.Name, o.bundle, j.engine.clock()); err != nil {
			return nil, false, fmt.Errorf("store the certificate with another chain: %w", err)
		}
		return nil, true, j.record.reread()
	case j.Spec.Notice > 0 && !b.SameChain(j.record.Current):
		return j.holdForNotice(id, b), false, nil
	}
	return nil, false, nil
}

// holdRefused holds a version that some clients would refuse, and says so when that is news.
func (j *job) holdRefused(id string, o offer) *store.Held {
	h := &store.Held{Version: id, Since: j.engine.clock()}
	var why []string
	for _, v := range o.failing {
		h.Clients = append(h.Clients, v.Client)
		why = append(why, fmt.Sprintf("%s would not trust it: %v", v.Client, v.Err))
	}
	h.Reason = shorten(errors.New(strings.Join(why, "; ")))
	end := j.record.Current.Leaf.NotAfter
	if j.Clients.ActivateBefore > 0 {
		h.Until = end.Add(-j.Clients.ActivateBefore)
	}
	if before := j.record.State.Held; before != nil && slices.Equal(before.Clients, h.Clients) { // also of another version
		h.Since = before.Since
		return h
	}
	j.record.edit().Alerted = plan.Reminder(end.Sub(h.Since))
	j.event(j.heldEvent(h))
	return h
}

func (j *job) heldEvent(h *store.Held) notify.Event {
	now, end := j.engine.clock(), j.record.Current.Leaf.NotAfter
	return notify.Event{
		Kind: notify.Held, Version: h.Version, NotAfter: end, Clients: h.Clients, ActiveAt: plan.ReleaseTime(j.record.Lineage, h),
		Error: h.Reason, Code: heldCode(h),
		Message: fmt.Sprintf("a new version waits, the active one serves on: %s", plan.Remaining(now, end)),
	}
}

// holdForNotice holds a version whose issuers changed until its notice is over. A notice that was given for the same chain
// before goes on; its time is on disk, so that a restart changes nothing about it.
func (j *job) holdForNotice(id string, b *certs.Bundle) *store.Held {
	now := j.engine.clock()
	h := &store.Held{Version: id, Reason: "its issuer changed", Since: now, Until: now.Add(j.Spec.Notice)}
	if before := j.record.State.Held; before != nil && plan.Announced(before) {
		old, err := j.engine.store.Bundle(j.Spec.Name, before.Version)
		if before.Version == id || err == nil && old.SameChain(b) {
			h.Since, h.Until = before.Since, before.Until
			return h
		}
	}
	j.event(notify.Event{
		Kind: notify.ChainChanged, Version: id, NotAfter: b.Leaf.NotAfter, Chain: string(b.ChainPEM),
		ChainFile: j.engine.store.VersionPaths(j.Spec.Name, id).Chain, ActiveAt: plan.ReleaseTime(j.record.Lineage, h),
		Message: "the next version comes from another issuer; clients that know only the present one must import its chain",
	})
	return h
}
