package fleet

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"slices"
	"time"
)

// The distance between the turns of two nodes, and the longest that any node waits for others.
const (
	turnStep = 30 * time.Second
	turnMost = 5 * time.Minute
)

// rendezvous is the order in which nodes come to a name: the same on every node, another one for every name, and changed
// by a node that comes or goes only where that node stands.
func rendezvous(name string, ids []string) []string {
	type scored struct {
		id    string
		score [sha256.Size]byte
	}
	list := make([]scored, 0, len(ids))
	for _, id := range ids {
		list = append(list, scored{id, sha256.Sum256([]byte(id + "\n" + name))})
	}
	slices.SortFunc(list, func(a, b scored) int {
		return cmp.Or(bytes.Compare(b.score[:], a.score[:]), cmp.Compare(a.id, b.id))
	})
	sorted := make([]string, 0, len(list))
	for _, s := range list {
		sorted = append(sorted, s.id)
	}
	return slices.Compact(sorted)
}

// Rank is this node's place in the order of the live nodes that may claim a certificate, and their number: 0 comes first.
// Several processes with one ID have one place. A node that is not listed, such as a command, comes after all. While the
// store is away, the answer is about the nodes last known.
func (l *Ledger) Rank(name string) (rank, nodes int) {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	var ids []string
	for _, n := range l.view.nodes {
		if !n.Install && !n.Unranked && !older(n.Release, l.view.least) && l.view.has(n, name) {
			ids = append(ids, n.ID)
		}
	}
	sorted := rendezvous(name, ids)
	if i := slices.Index(sorted, l.config.Node.ID); i >= 0 && !l.config.Node.Unranked {
		return i, len(sorted)
	}
	return len(sorted), len(sorted)
}

// Turn is the Rank by which this process waits for others: a command has no place among them and does not wait.
func (l *Ledger) Turn(name string) (rank, nodes int) {
	rank, nodes = l.Rank(name)
	if l.config.Node.Unranked {
		rank = 0
	}
	return rank, nodes
}

// NodeID is this node's name in the fleet.
func (l *Ledger) NodeID() string { return l.config.Node.ID }

// Installs reports whether this node only takes what others obtain: by its role, or because its release may not order.
func (l *Ledger) Installs() bool { return l.config.Node.Install || l.TooOld(l.config.Node.Release) }

// TooOld reports whether a release comes before the oldest one that may order.
func (l *Ledger) TooOld(release string) bool {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	return older(release, l.view.least)
}

// TurnDelay is how long after a certificate became due the node with this rank may claim it.
func TurnDelay(rank int) time.Duration { return min(time.Duration(rank)*turnStep, turnMost) }

// FollowDelay is the span from which a node picks the delay at random before it installs a version that another node
// proved: short where servers reload without an interruption, longer for commands and hooks.
func FollowDelay(seamless bool) time.Duration {
	if seamless {
		return 5 * time.Second
	}
	return time.Minute
}

// FirstProof is how long after a commit a node waits for the first node to report that it serves the version.
const FirstProof = time.Minute

// aloneShare is the least distance between the orders of two nodes that are cut off: five orders in it are a CA's weekly
// limit for one set of names.
const aloneShare = 42 * time.Hour

// AloneAt is when the node with a rank among the last known n nodes may order without the store: one after the other in
// the last tenth of the lifetime. Nodes of a certificate that lives less than 20 days share its last tenth evenly.
func AloneAt(notBefore, notAfter time.Time, rank, n int) time.Time {
	life := notAfter.Sub(notBefore)
	step := life / 10 / time.Duration(max(n, 1))
	if life >= 20*24*time.Hour {
		step = max(step, aloneShare)
	}
	return notAfter.Add(-life / 10).Add(time.Duration(rank) * step)
}
