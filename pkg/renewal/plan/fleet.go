package plan

import (
	"fmt"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/fleet"
	"github.com/acmed/acmed/pkg/store"
)

// Fleet is what the other nodes know about a certificate, and what this one is among them.
type Fleet struct {
	fleet.Verdict
	Head      certs.Head
	Rank      int    // this node's place; 0 comes first
	Nodes     int    // that may claim it, as last known
	Install   bool   // this node only takes what others obtain
	Away      string // why the store cannot be used; "": it can
	Elsewhere string // who works on it; "": nobody
	Publish   bool   // the version that is here should be the fleet's
	Abandoned bool   // a pending order has had no claim for long
	First     bool   // this node obtained the newest version, or has none to serve: it installs at once
	FollowAt  time.Time
	Alone     bool // an operator wants an order without the store
}

// adopt takes the fleet's version before anything else: a copy that is damaged here is fetched, not ordered.
func adopt(in *input) (Plan, bool) {
	f := in.opts.Fleet
	if f == nil || f.Away != "" || in.now.Before(in.adoptAt()) {
		return Plan{}, false
	}
	st := in.have.State.Fleet
	again := in.have.Damage != nil && st != nil && st.N == f.Head.N && st.Version == in.have.Version && !f.Head.Void && in.now.Before(f.Head.NotAfter)
	if !f.Adopt && !again {
		return Plan{}, false
	}
	p := Plan{Reason: ReasonAdopt, Adopt: true, Next: in.now, Message: fmt.Sprintf("version %d of node %s", f.Head.N, f.Head.Node)}
	if len(f.Missing) > 0 {
		p.Message += ", although it lacks " + strings.Join(f.Missing, ", ")
	}
	return p, true
}

// adoptAt is when a version that could not be taken is tried again.
func (in *input) adoptAt() time.Time {
	if in.have.State.Fleet == nil {
		return time.Time{}
	}
	return in.have.State.Fleet.RetryAt
}

// publish gives the fleet what it does not have: a version that was ordered without it, or that its store lost.
func publish(in *input) (Plan, bool) {
	f := in.opts.Fleet
	if f == nil || !f.Publish || f.Away != "" || f.Elsewhere != "" || f.Install || f.Superseded || in.opts.Clock.Reason != "" {
		return Plan{}, false
	}
	return Plan{Reason: ReasonPublish, Message: "the fleet does not have the version that is here", Publish: true, Next: in.now}, true
}

// follow leaves a version that another node obtained inactive until one node has proved it. Without a version that is good
// for some more time nobody waits.
func follow(in *input) (Plan, bool) {
	f, st, v := in.opts.Fleet, in.have.State.Fleet, Newest(in.have)
	if f == nil || f.First || !in.adopted(v) || !in.serving() || IsCompromised(in.have) {
		return Plan{}, false
	}
	_, late := lastTenth(in)
	end, life := in.life()
	tenth := end.Add(-life / 10)
	switch {
	case late:
	case f.Head.N == st.N && f.Head.Broken != "":
		return addTargets(in, Plan{Reason: ReasonFollow, Message: "a node took version " + v.ID + " back: " + f.Head.Broken, Next: tenth}), true
	case in.now.Before(f.FollowAt):
		return addTargets(in, Plan{Reason: ReasonFollow, Message: "another node installs version " + v.ID + " first", Next: clock.Earlier(f.FollowAt, tenth)}), true
	}
	return Plan{}, false
}

// adopted reports whether a version is the newest of the fleet and not live here.
func (in *input) adopted(v *store.Version) bool {
	st := in.have.State.Fleet
	return v != nil && st != nil && v.ID == st.Version && v.ID != in.have.Version
}

// resumed makes the pending order of a node that is gone the work of the first in line, whether anything is due or not: at
// the CA it is open.
func resumed(in *input) (verdict, bool) {
	f := in.opts.Fleet
	return verdict{ReasonResume, "a node that is gone left a pending order"}, f != nil && f.Abandoned && f.Rank == 0
}

// waitForFleet says why something that is due is not done by this node now. Neither an operator's force nor anything else
// outruns another node's work.
func waitForFleet(in *input, due verdict) (Plan, bool) {
	f := in.opts.Fleet
	switch {
	case f == nil:
		return Plan{}, false
	case f.Superseded:
		return Plan{Reason: ReasonSuperseded, Next: tenthOf(f.Head), // a newer head is told
			Message: due.message + ", but other nodes have a newer configuration of it; bring this node's up to date"}, true
	case f.Install:
		return Plan{Reason: ReasonTurn, Message: due.message + ", but this node only takes what others obtain", Next: in.soon(time.Time{})}, true
	case f.Away != "":
		return waitForStore(in, due)
	case f.Elsewhere != "":
		return Plan{Reason: ReasonElsewhere, Message: due.message + "; " + f.Elsewhere, Next: in.soon(time.Time{})}, true
	}
	if st := in.have.State.Fleet; st != nil && f.Nodes > 1 && !in.opts.Force && in.now.Before(st.UnableUntil) {
		return Plan{Reason: ReasonTurn, Message: due.message + ", but this node cannot answer, another one may: " + st.Unable, Next: st.UnableUntil}, true
	}
	return waitForTurn(in, due)
}

// waitForStore waits until the store is back, or for this node's turn to order alone.
func waitForStore(in *input, due verdict) (Plan, bool) {
	f := in.opts.Fleet
	alone := time.Time{}
	if in.have.Current != nil {
		leaf := in.have.Current.Leaf
		alone = fleet.AloneAt(leaf.NotBefore, leaf.NotAfter, f.Rank, f.Nodes)
	}
	if f.Alone || !alone.IsZero() && !in.now.Before(alone) {
		return Plan{}, false
	}
	p := Plan{Reason: ReasonStoreAway, Message: due.message + ", but " + f.Away, Next: in.soon(alone)}
	if !alone.IsZero() {
		p.Message += "; this node orders alone from " + alone.UTC().Format(time.RFC3339)
	}
	return p, true
}

// waitForTurn lets the nodes that come first have an ordinary renewal.
func waitForTurn(in *input, due verdict) (Plan, bool) {
	at := time.Time{}
	switch {
	case in.opts.Force:
	case due.reason == ReasonARI:
		at = ARITime(in.have)
	case due.reason == ReasonRenewBefore:
		at = RuleTime(in.want, in.have)
	}
	if at = at.Add(fleet.TurnDelay(in.opts.Fleet.Rank)); at.Year() > 1 && in.now.Before(at) {
		return Plan{Reason: ReasonTurn, Message: due.message + "; another node comes first", Next: at}, true
	}
	return Plan{}, false
}

// soon is when to decide again about something that another node or the store must do first: that may be soon, and what
// changes is told.
func (in *input) soon(at time.Time) time.Time {
	return clock.Earlier(in.now.Add(share(5*time.Minute, lifetimeOf(in.have), 60)), at)
}

// tenthOf is the beginning of the last tenth of a head's version.
func tenthOf(h certs.Head) time.Time {
	return h.NotAfter.Add(-h.NotAfter.Sub(h.NotBefore) / 10)
}

// ariTurn is when this node asks the CA for a renewal window that is due at a time, and whether it does at all.
func (in *input) ariTurn(at time.Time) (time.Time, bool) {
	f := in.opts.Fleet
	if f == nil {
		return at, true
	}
	if f.Rank > 0 {
		at = at.Add(max(fleet.TurnDelay(f.Rank), time.Minute))
	}
	return at, f.Away == "" && f.Elsewhere == "" && !f.Install && !f.Superseded
}
