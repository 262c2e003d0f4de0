// Package renewal keeps certificates alive: it decides what is missing (package plan), does it for one certificate
// ([Engine]), and comes back when the next thing is due ([Scheduler]).
//
// # What it promises
//
// A plan is a pure function of the time, the wish and the state on disk, so a restart changes nothing. What must not be
// lost is durable before the next step, and what is repeated after a kill is idempotent, so acmed can be killed anywhere
// and goes on. One job runs per certificate; a second
// caller joins it. A failure of one certificate, one target or one CA never stops another. Failures are remembered on
// disk with the time of the next try.
//
// # What it does not do
//
// It speaks neither ACME nor any server's language: issuers and installers come in through small interfaces.
package renewal
