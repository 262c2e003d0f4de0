package renewal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/store"
	"github.com/acmed/acmed/pkg/trust"
)

// Clients are those whose trust a certificate must not lose.
type Clients struct {
	Stores []*trust.Store
	// ActivateBefore is how long before the active version ends one goes live that a client refuses; 0 waits until the end.
	ActivateBefore time.Duration
}

// offer is a new certificate with those who would refuse it.
type offer struct {
	bundle  *certs.Bundle
	failing []trust.Verdict
}

// judge makes a bundle present the first chain that verifies for all clients until it is renewed, or at least now. After a
// key compromise nobody is asked: the old version must go.
func (j *job) judge(b *certs.Bundle) offer {
	if len(j.clients.Stores) == 0 || j.opts.NewKey {
		return offer{bundle: b}
	}
	now := j.engine.clock()
	for _, leaf := range b.Leaves() { // a CA's clock may be a little ahead
		now = later(now, leaf.NotBefore)
	}
	renewal := b.Leaf.NotAfter.Add(-RenewBefore(Lifetime(b.Leaf.NotBefore, b.Leaf.NotAfter), j.want.RenewBefore))
	if chosen, failing := trust.Choose(b, j.clients.Stores, now, later(now, renewal)); len(failing) == 0 {
		return offer{bundle: chosen}
	}
	chosen, failing := trust.Choose(b, j.clients.Stores, now)
	if len(failing) == 0 {
		j.engine.log.Warn("a client will refuse the chain before it is renewed", zap.String("certificate", j.want.Name),
			zap.Time("renewal", renewal))
	}
	return offer{chosen, failing}
}

// load reads the lineage and lets the newest version through the gate between storing and activating. It is asked in every
// round, so that neither a crash in between nor a changed configuration gets past it.
func (j *job) load() (lineage *store.Lineage, err error) {
	for again := true; again && err == nil; {
		if lineage, err = j.engine.store.Load(j.want.Name); err != nil || lineage.State.Pinned != "" && lineage.State.Pinned == lineage.Version {
			return lineage, err
		}
		j.opts.NewKey = j.opts.NewKey || isCompromised(lineage)
		again, err = j.review(lineage)
	}
	if err == nil {
		err = j.markStale(lineage)
	}
	return lineage, err
}

// markStale notes whether the version that waits is still what the configuration asks for.
func (j *job) markStale(lineage *store.Lineage) error {
	h := lineage.State.Held
	if h == nil || h.Version == lineage.Version {
		return nil
	}
	b, err := j.engine.store.Bundle(j.want.Name, h.Version)
	if err != nil {
		return err
	}
	waits, stale := &input{want: &j.want, have: &store.Lineage{Current: b}}, false
	for _, changed := range []func(*input) (verdict, bool){namesChanged, issuerChanged, keyTypeChanged, profileChanged} {
		_, yes := changed(waits)
		stale = stale || yes
	}
	if stale == h.Stale {
		return nil
	}
	now := *h
	now.Stale = stale
	lineage.State.Held = &now
	return j.engine.store.SaveState(j.want.Name, &lineage.State)
}

// review decides whether the newest version must wait, and stores that. It reports true when there is a newer one now:
// the same certificate with another of its chains.
func (j *job) review(lineage *store.Lineage) (again bool, err error) {
	v, st := newest(lineage), &lineage.State
	if v == nil || v.ID == lineage.Version || left(lineage.Current, j.engine.clock()) <= 0 { // nothing could serve meanwhile
		return false, nil
	}
	if h := st.Held; h != nil && h.Version == v.ID && takenBack(h) {
		return false, nil
	}
	held, again, err := j.hold(lineage, v.ID)
	if err != nil || again || same(st.Held, held) {
		return again, err
	}
	st.Held = held
	return false, j.engine.store.SaveState(j.want.Name, st)
}

func same(a, b *store.Held) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Version == b.Version && a.Reason == b.Reason && a.Until.Equal(b.Until) && slices.Equal(a.Clients, b.Clients)
}

// hold says for whom and until when a stored version must wait; nil lets it go live. When the clients changed and another
// of its chains suits them, that is stored as a version of its own, to be looked at again.
func (j *job) hold(lineage *store.Lineage, id string) (held *store.Held, again bool, err error) {
	if len(j.clients.Stores) == 0 && j.want.Notice == 0 || j.opts.NewKey {
		return nil, false, nil
	}
	b, err := j.engine.store.Bundle(j.want.Name, id)
	if err != nil {
		return nil, false, err
	}
	o := j.judge(b)
	switch {
	case len(o.failing) > 0:
		return j.untrusted(lineage, id, o), false, nil
	case !sameChain(o.bundle, b):
		if _, err := j.engine.store.AddVersion(j.want.Name, o.bundle, j.engine.clock()); err != nil {
			return nil, false, fmt.Errorf("store the certificate with another chain: %w", err)
		}
		return nil, true, nil
	case j.want.Notice > 0 && !sameChain(b, lineage.Current):
		return j.announce(lineage, id, b), false, nil
	}
	return nil, false, nil
}

// untrusted holds a version that some clients would refuse, and says so when that is news.
func (j *job) untrusted(lineage *store.Lineage, id string, o offer) *store.Held {
	h := &store.Held{Version: id, Since: j.engine.clock()}
	var why []string
	for _, v := range o.failing {
		h.Clients = append(h.Clients, v.Client)
		why = append(why, fmt.Sprintf("%s would not trust it: %v", v.Client, v.Err))
	}
	h.Reason = shorten(errors.New(strings.Join(why, "; ")))
	end := lineage.Current.Leaf.NotAfter
	if j.clients.ActivateBefore > 0 {
		h.Until = end.Add(-j.clients.ActivateBefore)
	}
	if before := lineage.State.Held; before != nil && before.Version == id && len(before.Clients) > 0 {
		h.Since = before.Since
		return h
	}
	lineage.State.Alerted = reminder(end.Sub(h.Since))
	j.event(j.heldEvent(lineage, h))
	return h
}

func (j *job) heldEvent(lineage *store.Lineage, h *store.Held) notify.Event {
	now, end := j.engine.clock(), lineage.Current.Leaf.NotAfter
	at := releaseTime(&input{now: now, want: &j.want, have: lineage}, h)
	return notify.Event{
		Kind: notify.Held, Version: h.Version, NotAfter: end, Clients: h.Clients, ActiveAt: at, Error: h.Reason, Code: heldCode(h),
		Message: fmt.Sprintf("a new version waits, the active one serves on: %s", remaining(now, end)),
	}
}

// announce holds a version whose issuers changed until its notice is over. A notice that was given for the same chain
// before goes on; its time is on disk, so that a restart changes nothing about it.
func (j *job) announce(lineage *store.Lineage, id string, b *certs.Bundle) *store.Held {
	now := j.engine.clock()
	h := &store.Held{Version: id, Reason: "its issuer changed", Since: now, Until: now.Add(j.want.Notice)}
	if before := lineage.State.Held; before != nil && announced(before) {
		old, err := j.engine.store.Bundle(j.want.Name, before.Version)
		if before.Version == id || err == nil && sameChain(old, b) {
			h.Since, h.Until = before.Since, before.Until
			return h
		}
	}
	j.event(notify.Event{
		Kind: notify.ChainChanged, Version: id, NotAfter: b.Leaf.NotAfter, Chain: string(b.ChainPEM),
		ChainFile: j.engine.store.VersionPaths(j.want.Name, id).Chain,
		ActiveAt:  releaseTime(&input{now: now, want: &j.want, have: lineage}, h),
		Message:   "the next version comes from another issuer; clients that know only the present one must import its chain",
	})
	return h
}

// sameChain reports whether two bundles lead to their leaves through the same certificates.
func sameChain(a, b *certs.Bundle) bool {
	if (a.RSA == nil) != (b.RSA == nil) {
		return false
	}
	return bytes.Equal(a.ChainPEM, b.ChainPEM) && bytes.Equal(a.Leaf.RawIssuer, b.Leaf.RawIssuer) &&
		bytes.Equal(a.Leaf.AuthorityKeyId, b.Leaf.AuthorityKeyId) && (a.RSA == nil || sameChain(a.RSA, b.RSA))
}

// remind tells the operator again what waits.
func (j *job) remind(lineage *store.Lineage, plan Plan) error {
	st := &lineage.State
	st.Alerted = plan.Remind
	if plan.Reason == ReasonPinned {
		leaf := lineage.Current.Leaf
		j.event(notify.Event{
			Kind: notify.Expiring, Version: lineage.Version, NotAfter: leaf.NotAfter,
			Message: fmt.Sprintf("the version is pinned by a rollback, %s; 'acmed activate %s' ends that",
				remaining(j.engine.clock(), leaf.NotAfter), j.want.Name),
		})
	} else {
		j.event(j.heldEvent(lineage, st.Held))
	}
	return j.engine.store.SaveState(j.want.Name, st)
}

// goLive makes a stored version the active one. What kept it waiting is over with that.
func (j *job) goLive(lineage *store.Lineage, id string) error {
	j.tell(certs.Step{Phase: certs.PhaseActivate, Detail: id})
	if err := j.engine.store.Activate(j.want.Name, id); err != nil {
		return err
	}
	j.result.Changed = true
	st := &lineage.State
	if st.Pinned != id {
		st.Pinned = ""
	}
	if h := st.Held; h != nil && h.Version == id {
		v := version(lineage, id)
		j.event(notify.Event{Kind: notify.Activated, Version: id, NotAfter: v.NotAfter, Clients: h.Clients, Message: "the version that waited is live: " + h.Reason})
		st.Held = nil
	}
	st.Alerted = 0
	return j.engine.store.SaveState(j.want.Name, st)
}

// order asks the issuers in turn. The next one is asked when the CA itself is the problem, see failover, or when none of
// its chains verifies for all clients. If that is so for all CAs, the first one's certificate is the answer: it will wait.
func (j *job) order(ctx context.Context, lineage *store.Lineage) (*certs.Bundle, error) {
	var errs []error
	var refused *certs.Bundle
	for _, name := range j.want.Issuers {
		bundle, err := j.orderFrom(ctx, name, lineage)
		if err == nil {
			o := j.judge(bundle)
			if len(o.failing) == 0 {
				return o.bundle, nil
			}
			if refused == nil {
				refused = o.bundle
			}
			continue
		}
		errs = append(errs, err)
		if !errors.Is(err, errNoIssuer) && !failover(j.engine.clock(), &j.want, lineage, name, err) {
			break
		}
	}
	if refused != nil {
		j.engine.log.Warn("no chain of any issuer verifies for all clients", zap.String("certificate", j.want.Name))
		return refused, nil
	}
	return nil, errors.Join(errs...)
}

var errNoIssuer = errors.New("the issuer is not configured")

func (j *job) orderFrom(ctx context.Context, name string, lineage *store.Lineage) (*certs.Bundle, error) {
	issuer, ok := j.set.Issuers[name]
	if !ok {
		return nil, fmt.Errorf("issuer %q: %w", name, errNoIssuer)
	}
	bundle, err := issuer.Obtain(ctx, certs.Request{
		Spec: j.want, Replaces: lineage.Current, Solved: lineage.State.Solved, NewKey: j.opts.NewKey, Progress: j.tell,
		Invalid: lineage.State.Invalid, Failed: j.countInvalid(&lineage.State),
	})
	if err == nil {
		delete(lineage.State.Down, name)
	}
	return bundle, err
}
