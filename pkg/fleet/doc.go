// Package fleet is what the nodes of a fleet share: the heads of their certificates, the claim that lets one node at a time
// work on a name, the versions themselves, accounts, pending orders, challenge answers and the order budget.
//
// A [Ledger] is one process's part in it. It speaks of certificates and keeps its values in an [Engine], a replicated store
// with transactions; pkg/fleet/etcd is the engine. The protocol is written once, here, so that the tests run the very code
// against an engine in memory that can lose answers, stop, and go back to a backup (pkg/fleet/fleettest).
//
// The claim's value is the fence: everything that a job writes compares it, so that a node that was paused cannot
// overwrite what another one did meanwhile. Private keys leave the process sealed only ([Sealer]).
//
// [Rank] and [Judge] are the pure rules about whose turn it is and which configuration counts.
package fleet
