// Package trust answers one question: does this chain verify for these clients? A client is a [Store], the certificates
// that its firmware, its trust bundle or its operating system holds.
//
// It judges as an unhelpful client does. What the server presents is all there is, nothing is fetched. Every certificate
// of the store is an anchor, also an intermediate or a leaf. One path is looked for, first in the store, and the first
// that is found counts: the rule of OpenSSL (with partial chains allowed). Names, times, key usage for TLS servers and
// constraints are checked along that path, at any time that is asked for. In two points it is stricter than OpenSSL: an
// issuer that does not say in its basic constraints that it is a CA is none, and a wildcard breaks the exclusion of any
// host below it.
//
// Other software accepts less: GnuTLS does not stop at a pinned intermediate when more is presented above it, Python wants a
// self-signed root, neither knows pinned leaves. A [Client] adds such rules to those of OpenSSL. A yes is meant to be a yes
// of the program; a no may be stricter than it. Without a client, the strictest counts.
//
// It reads no clock, network or file, except for the roots of this machine in [System]. Revocation is not its matter.
package trust
