// Package dns01 answers dns-01 challenges (RFC 8555 section 8.4): it puts a TXT record where the CA will look, waits until
// every authoritative server of the zone has it, and takes it away again.
//
// It owns
//   - the [Solver], which finds the effective name behind CNAME delegations, serialises the changes of one name, polls
//     for propagation and gives up with an error, without telling the CA to validate, when a server stays stale;
//   - the [Journal], which knows every record that was set, so that one left behind by a killed process is removed by
//     [Solver.Recover];
//   - the providers that need no vendor's library: rfc2136, acme-dns, httpreq and exec;
//   - the parent's side of acmed-dns, the child process in which all other providers run (docs/DNS-WORKER.md), with
//     one child per credential and nothing but that credential's variables in its environment.
//
// It promises that only the value of the challenge is added and removed, never a whole set of records: a wildcard and its
// apex, or two certificates for one name, can be validated at the same time. Whatever a DNS server, an HTTP service or a
// child sends is bounded in size and time, and no secret of a credential appears in an error.
//
// It does not talk to the CA, does not log, and never constructs a provider to check a configuration: see [Config.Check].
package dns01
