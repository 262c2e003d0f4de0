// Package store owns the state directory: the lock, the ACME accounts, the versions of every certificate, the link to the
// active one, the pending orders, and state.json. The format is specified in docs/STATE.md.
//
// It promises that every change is durable and atomic. A process may be killed, and a disk may fill up, at any moment:
// the active certificate and its key stay complete and belong together, and what was reported as stored is still there.
// What a crash leaves behind is ignored and later removed. Damage done from outside (a deleted file, another key, an
// edited state.json) is reported by [Store.Load], never served and never a panic.
//
// It does not decide anything: when to renew, which version to activate, and what to do about damage is up to its callers.
// It does not parse what the operator configured and does not write outside its directory.
package store
