package renewal

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
)

// commitPatience is how long the commit of a version may take, which is done even if acmed is stopping.
const commitPatience = 15 * time.Second

// consult asks the ledger's memory what the other nodes know, and takes it over into the record. It is nil on a single
// machine.
func (j *job) consult(ctx context.Context) *plan.Fleet {
	l := j.engine.fleet
	if l == nil {
		return nil
	}
	r, now := j.record, j.engine.clock()
	if l.Doubtful(j.Spec.Name) {
		_ = l.Refresh(ctx, j.Spec.Name) // the failure is in Health
	}
	h, _ := l.Head(j.Spec.Name)
	f := &plan.Fleet{Head: h, Install: l.Installs(), Alone: j.opts.Alone}
	f.Away = away(l)
	j.settle(h)
	if f.Away == "" {
		f.Rank, f.Nodes = l.Turn(j.Spec.Name)
		if st := r.State.Fleet; st != nil && (st.Rank != f.Rank || st.Nodes != f.Nodes) {
			r.share().Rank, r.share().Nodes = f.Rank, f.Nodes
		}
		j.takeOver(h)
		if c, ok := l.Claimed(j.Spec.Name); ok {
			f.Elsewhere = fmt.Sprintf("node %s is working on it (%s)", c.Node, c.Why)
		}
		since := l.Abandoned(j.Spec.Name)
		f.Abandoned = !since.IsZero() && now.Sub(since) >= fleet.AbandonedAfter
	} else if st := r.State.Fleet; st != nil {
		f.Rank, f.Nodes = st.Rank, st.Nodes
	}
	f.Verdict = fleet.Judge(j.compare(ctx, h))
	if f.Record && !f.Adopt {
		r.share().Spec = j.Spec.Hash()
	}
	j.standing(f)
	return f
}

// settle notes that the fleet has a version that this node had before: a commit whose answer was lost, or the version of a
// single machine that another node gave it.
func (j *job) settle(h certs.Head) {
	r := j.record
	if h.N == 0 || h.Void {
		return
	}
	st := store.Fleet{}
	if r.State.Fleet != nil {
		st = *r.State.Fleet
	}
	if st.Unshared == "" && st.N >= h.N {
		return
	}
	for i := range r.all.Versions {
		v := &r.all.Versions[i]
		if v.Fingerprint != h.Fingerprint || st.Unshared != "" && st.Unshared != v.ID {
			continue
		}
		by := ""
		if st.Unshared == v.ID { // nobody else had it
			by = h.By
		}
		j.shared(h, v.ID, by)
		r.see(r.all)
		return
	}
}

// away says why the store cannot be used, "" if it can.
func away(l *fleet.Ledger) string {
	if err := l.Usable(); err != nil {
		return err.Error()
	}
	return ""
}

// takeOver puts what the nodes share into the record: attempts, failures and limits are those of the fleet, and so are the
// renewal window and time of the version that both have. What happened here without the store still counts.
func (j *job) takeOver(h certs.Head) {
	r := j.record
	if h.Raw() == "" {
		return
	}
	before, st := r.State, &r.State
	st.Attempts, st.Failures, st.RetryAt, st.FailingSince = h.Attempts, h.Failures, h.RetryAt, h.FailingSince
	st.LastError, st.LastErrorAt, st.LastCode = h.LastError, h.LastErrorAt, h.LastCode
	st.Issued = union(st.Issued, h.Issued)
	st.Down = maps.Clone(h.Down)
	if len(h.Invalid) > 0 {
		st.Invalid = maps.Clone(st.Invalid)
		if st.Invalid == nil {
			st.Invalid = map[string][]time.Time{}
		}
		for id, times := range h.Invalid {
			st.Invalid[id] = union(st.Invalid[id], times)
		}
	}
	if r.Current != nil && r.Current.Fingerprint() == h.Fingerprint {
		leaf := certs.Fingerprint(r.Current.Leaf)
		st.ARI = store.ARI{For: leaf, CheckAt: h.ARICheckAt, Start: h.ARIStart, End: h.ARIEnd, URL: h.ARIURL}
		st.RenewAt, st.RenewFor = h.RenewAt, leaf
		if h.RenewAt.IsZero() {
			st.RenewFor = ""
		}
	}
	st.Believe(j.engine.clock())
	if !sameShared(&before, st) {
		r.dirty = true
	}
	if r.Current != nil && fleet.Condemned(r.Current, h) && !plan.IsCompromised(r.Lineage) {
		j.engine.markCompromised(r, r.Current)
	}
}

// sameShared reports whether two states agree in what the nodes share.
func sameShared(a, b *store.State) bool {
	return a.Attempts == b.Attempts && a.Failures == b.Failures && a.RetryAt.Equal(b.RetryAt) && a.LastError == b.LastError &&
		a.ARI.CheckAt.Equal(b.ARI.CheckAt) && a.ARI.For == b.ARI.For && a.RenewAt.Equal(b.RenewAt) && len(a.Issued) == len(b.Issued) &&
		len(a.Invalid) == len(b.Invalid) && len(a.Down) == len(b.Down)
}

// union merges two lists of times.
func union(a, b []time.Time) []time.Time {
	all := slices.Concat(a, b)
	slices.SortFunc(all, time.Time.Compare)
	return slices.CompactFunc(all, time.Time.Equal)
}

// shareWith writes what the nodes share into a head. What ended long ago is left out.
func (r *record) shareWith(h certs.Head) certs.Head {
	st, now := &r.State, r.now()
	h.Attempts, h.Failures, h.RetryAt, h.FailingSince = st.Attempts, st.Failures, st.RetryAt, st.FailingSince
	h.LastError, h.LastErrorAt, h.LastCode = cut(st.LastError), st.LastErrorAt, st.LastCode
	h.Issued, h.Down, h.Invalid = since(st.Issued, now.Add(-24*time.Hour)), maps.Clone(st.Down), nil
	for id, times := range st.Invalid {
		if times = since(times, now.Add(-invalidWindow)); len(times) > 0 {
			if h.Invalid == nil {
				h.Invalid = map[string][]time.Time{}
			}
			h.Invalid[id] = times
		}
	}
	if r.Current != nil && r.Current.Fingerprint() == h.Fingerprint {
		h.ARICheckAt, h.ARIStart, h.ARIEnd, h.ARIURL = st.ARI.CheckAt, st.ARI.Start, st.ARI.End, st.ARI.URL
		h.RenewAt = st.RenewAt
	}
	return h
}

// cut keeps a head small.
func cut(text string) string { return text[:min(len(text), 300)] }

// share is what this node remembers about what it shares, to be changed.
func (r *record) share() *store.Fleet {
	st := r.edit()
	if st.Fleet == nil {
		st.Fleet = &store.Fleet{}
	}
	return st.Fleet
}

// compare collects what decides which configuration counts.
func (j *job) compare(ctx context.Context, h certs.Head) fleet.Facts {
	r, now := j.record, j.engine.clock()
	facts := fleet.Facts{Spec: j.Spec.Hash(), Head: h, HeadNames: h.Names, Names: j.Spec.Names(), Now: now}
	if h.NamesTotal > 0 && h.Spec != facts.Spec && !j.looks {
		if b, err := j.engine.fleet.Fetch(ctx, j.Spec.Name, h); err == nil {
			facts.HeadNames = certs.LeafNames(b.Leaf)
		}
	}
	if h.N > 0 {
		due := h.NotAfter.Add(-plan.RenewBefore(plan.Lifetime(h.NotBefore, h.NotAfter), j.Spec.RenewBefore))
		facts.HeadDue = !now.Before(clock.Earlier(due, h.RenewAt))
	}
	if r.Current != nil {
		facts.ActiveFits = !plan.IsStale(&j.Spec, r.Current)
	}
	facts.Active = j.newest()
	if st := r.State.Fleet; st != nil {
		facts.ActiveSpec, facts.Unshared = st.Spec, st.Unshared != "" && st.Spec == facts.Spec
		if st.Unshared != "" {
			facts.Active.N = st.Base
		}
	}
	return facts
}

// newest describes the newest version that this node has, with its number in the fleet if it has one.
func (j *job) newest() certs.Head {
	r, st := j.record, j.record.State.Fleet
	var h certs.Head
	all := *r.all
	all.State = r.State
	v := plan.Newest(&all)
	if st != nil && st.Unshared != "" && plan.Find(&all, st.Unshared) != nil {
		v = plan.Find(&all, st.Unshared)
	}
	if v == nil || plan.IsCompromised(r.Lineage) && v.ID == r.Version {
		return h
	}
	h.Fingerprint, h.NotBefore, h.NotAfter = v.Fingerprint, v.NotBefore, v.NotAfter
	if st != nil && st.Version == v.ID {
		h.N = st.N
	}
	return h
}

// standing adds what follows from this node's own versions: whether it has something to publish, and when it installs
// what another node obtained.
func (j *job) standing(f *plan.Fleet) {
	st, now := j.record.State.Fleet, j.engine.clock()
	mine := j.newest()
	imports := j.imports(mine, f.Head)
	f.Adopt = f.Adopt && !imports
	usable := mine.Fingerprint != "" && now.Before(mine.NotAfter) && mine.Fingerprint != f.Head.Fingerprint && !f.Adopt
	switch {
	case !usable:
	case st != nil && st.Unshared != "":
		f.Publish = st.Spec == j.Spec.Hash() // what answers an earlier configuration is nobody's
	case mine.N == 0: // it never was in a fleet
		f.Publish = imports
	default: // the store went back
		f.Publish = mine.Newer(&f.Head)
	}
	f.First = len(j.Spec.Targets) == 0 || f.Head.By != "" && j.own(f.Head)
	f.FollowAt = j.followAt(f.Head)
}

// own reports whether this node committed the head's version. Whoever did has it as the version that was obtained here.
func (j *job) own(h certs.Head) bool {
	st := j.record.State.Fleet
	return st != nil && st.By != "" && st.By == h.By
}

// followAt is when this node installs a version that another node obtained: once one serves it, or after a minute, and
// then at a moment of its own, so that the servers of a fleet do not all reload at once.
func (j *job) followAt(h certs.Head) time.Time {
	spread := fleet.FollowDelay(j.Hooks.Post == nil)
	sum := fnv.New64a()
	_, _ = fmt.Fprint(sum, j.engine.fleet.NodeID(), h.Fingerprint) // a hash takes everything
	turn := time.Duration(sum.Sum64() % uint64(spread))
	if h.Served != "" {
		return h.ServedAt.Add(turn)
	}
	return h.Committed.Add(fleet.FirstProof + turn)
}

// adopt stores the fleet's newest version. It goes live like one that was obtained here, and counts as no issuance.
func (j *job) adopt(ctx context.Context, h certs.Head) error {
	r := j.record
	b, err := j.fetch(ctx, h)
	if err != nil {
		st := r.share()
		st.LastError, st.RetryAt = shorten(err), j.engine.clock().Add(time.Minute)
		j.result.Err = errors.Join(j.result.Err, fmt.Errorf("version %d of the fleet was not taken: %w", h.N, err))
		j.engine.log.Error("a version of the fleet was not taken", zap.String("certificate", j.Spec.Name), zap.String("code", string(advice.Of(err))), zap.Error(err))
		return nil
	}
	id := j.newestIs(h.Fingerprint)
	if id == "" {
		if id, err = j.engine.store.AddVersion(j.Spec.Name, b, j.engine.clock()); err != nil {
			return fmt.Errorf("store the fleet's version: %w", err)
		}
		j.result.Changed = true
		j.event(notify.Event{Kind: notify.Adopted, Version: id, NotAfter: b.Leaf.NotAfter, Message: fmt.Sprintf("version %d of node %s was taken", h.N, h.Node)})
	}
	j.shared(h, id, "")
	r.noteChains(b)
	st := r.edit()
	st.Hook = nil
	if j.Hooks.Post != nil {
		st.Hook = &store.Hook{For: b.Fingerprint()}
	}
	j.engine.log.Info("adopted", zap.String("certificate", j.Spec.Name), zap.Int64("n", h.N), zap.String("node", h.Node), zap.String("version", id))
	if err := r.save(); err != nil {
		return err
	}
	return r.reread()
}

// fetch reads the fleet's version, with the chain that suits this node's clients.
func (j *job) fetch(ctx context.Context, h certs.Head) (*certs.Bundle, error) {
	b, err := j.engine.fleet.Fetch(ctx, j.Spec.Name, h)
	switch {
	case err != nil:
		return nil, err
	case len(b.KeyPEM) == 0 && (j.Spec.CSR == nil || plan.IsStale(&j.Spec, b)):
		return nil, errors.New("the fleet's version has no private key, and this node has none that matches")
	}
	return j.judge(b).bundle, nil
}

// newestIs returns the ID of the newest version here if it has a fingerprint and can be used; else "".
func (j *job) newestIs(fingerprint string) string {
	v := plan.Newest(j.record.all)
	if v == nil || v.Fingerprint != fingerprint || v.ID == j.record.Version && j.record.Damage != nil {
		return ""
	}
	return v.ID
}

// shared notes that the fleet has a version that is here.
func (j *job) shared(h certs.Head, id, by string) {
	st := j.record.share()
	*st = store.Fleet{N: h.N, Version: id, Spec: j.Spec.Hash(), Answers: h.Spec, Old: h.Old, By: by, Rank: st.Rank, Nodes: st.Nodes}
}

// claim takes the right to order, or to publish. It reports false without an error when another node was faster: the
// next decision finds what it did.
func (j *job) claim(ctx context.Context, h certs.Head, why string) (bool, error) {
	c, err := j.engine.fleet.Claim(ctx, j.Spec.Name, h, j.record.shareWith(h), why)
	var elsewhere *certs.ElsewhereError
	var changed *certs.ChangedError
	var failed *certs.LedgerError
	switch {
	case err == nil:
		j.held = c
		return true, nil
	case errors.As(err, &elsewhere), errors.As(err, &changed), errors.As(err, &failed):
		return false, nil
	}
	return false, err
}

// letGo ends the claim, however the job ended.
func (j *job) letGo() {
	if j.held == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.engine.base), commitPatience)
	defer cancel()
	if err := j.held.Release(ctx); err != nil {
		j.engine.log.Warn("a claim could not be let go; the store does when it answers", zap.String("certificate", j.Spec.Name), zap.Error(err))
	}
	j.held = nil
}

// shareFailure tells the fleet how the order failed and lets the claim go.
func (j *job) shareFailure() {
	if j.held == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.engine.base), commitPatience)
	defer cancel()
	if err := j.held.Fail(ctx, j.record.shareWith(j.held.Head())); err != nil {
		j.engine.log.Warn("a failure was not reported to the fleet", zap.String("certificate", j.Spec.Name), zap.Error(err))
	}
	j.held = nil
}

// publish gives the fleet the version that it does not have.
func (j *job) publish(ctx context.Context, h certs.Head) error {
	r, st := j.record, j.record.share()
	id, answers, old := st.Version, st.Answers, st.Old
	switch {
	case st.Unshared != "":
		id, answers, old = st.Unshared, j.Spec.Hash(), nil
	case id == "":
		id, answers = r.Version, j.Spec.Hash()
	}
	b, err := j.engine.store.Bundle(j.Spec.Name, id)
	if err != nil {
		return err
	}
	if ok, err := j.claim(ctx, h, "publish"); !ok || err != nil {
		return err
	}
	return j.commit(b, id, max(h.N+1, st.N), answers, old...)
}

// commit gives the version that the job holds a claim for to the fleet. One that could not be given stays unshared. Spec is
// the configuration that it answers; old are those that this one replaced, which a store that went back may not know.
func (j *job) commit(b *certs.Bundle, id string, n int64, spec string, old ...string) error {
	c, r := j.held, j.record
	j.held = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(j.engine.base), commitPatience)
	defer cancel()
	h := r.shareWith(c.Head())
	h.Old = append(old, h.Old...)
	h.SetVersion(n, b, spec)
	if r.State.ARI.For == certs.Fingerprint(b.Leaf) {
		h.ARICheckAt = r.State.ARI.CheckAt
	}
	if err := c.Commit(ctx, b, h); err != nil {
		j.engine.log.Warn("the new version is kept here and was not shared", zap.String("certificate", j.Spec.Name), zap.String("version", id), zap.Error(err))
		return nil
	}
	j.shared(h, id, c.Nonce)
	if err := r.save(); err != nil {
		return err
	}
	return r.reread()
}

// note writes the record into the head, as long as no node works on the certificate; change may do more. It is a hint:
// another node's note that came between is followed by the next look.
func (j *job) note(ctx context.Context, change func(*certs.Head)) {
	l := j.engine.fleet
	if l == nil {
		return
	}
	seen, ok := l.Head(j.Spec.Name)
	if !ok {
		return
	}
	h := j.record.shareWith(seen.Clone())
	change(&h)
	if err := l.Note(ctx, j.Spec.Name, seen, h); err != nil {
		j.engine.log.Debug("the fleet was not notified", zap.String("certificate", j.Spec.Name), zap.Error(err))
	}
}

// noteServed tells the fleet that the newest version works in a server.
func (j *job) noteServed(ctx context.Context) {
	r, st := j.record, j.record.State.Fleet
	if j.engine.fleet == nil || st == nil || st.Version != r.Version || r.Current == nil || len(j.Spec.Targets) == 0 {
		return
	}
	h, _ := j.engine.fleet.Head(j.Spec.Name)
	if h.N != st.N || h.Served != "" || h.Broken != "" {
		return
	}
	for _, target := range j.Spec.Targets {
		if t := r.State.Installed[target]; t.Fingerprint != h.Fingerprint && !t.Off {
			return
		}
	}
	j.note(ctx, func(h *certs.Head) { h.Served, h.ServedAt = j.engine.fleet.NodeID(), j.engine.clock().UTC() })
}

// noteBroken tells the fleet that a server stopped working with the newest version.
func (j *job) noteBroken(ctx context.Context, reason string) {
	st := j.record.State.Fleet
	if j.engine.fleet == nil || st == nil || j.record.State.Held == nil || st.Version != j.record.State.Held.Version {
		return
	}
	j.note(ctx, func(h *certs.Head) {
		if h.N == st.N {
			h.Broken = cut("node " + j.engine.fleet.NodeID() + ": " + reason)
		}
	})
}

// condemn tells the fleet, under the claim, that others may know the active keys.
func (j *job) condemn(ctx context.Context) error {
	b := j.record.Current
	if j.held == nil || b == nil {
		return nil
	}
	h := j.held.Head()
	h.Condemned = union16(h.Condemned, fleet.KeyHashes(b))
	h.Void = h.Void || h.Fingerprint == b.Fingerprint()
	return j.held.Update(ctx, h, h.Void)
}

// union16 adds hashes to a list of at most 16, the latest last.
func union16(list, add []string) []string {
	for _, hash := range add {
		if !slices.Contains(list, hash) {
			list = append(list, hash)
		}
	}
	return list[max(0, len(list)-16):]
}
