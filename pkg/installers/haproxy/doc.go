// Package haproxy installs a certificate into a running HAProxy without a reload: it writes the combined PEM file that
// HAProxy reads at its next start, hands the same bytes to the running process over its runtime socket, and proves the
// result by a handshake.
//
// The file and the process always agree in the end: when anything fails, the file gets its old bytes back and the process
// the old certificate. A dual unit is two files, with ".ecdsa" and ".rsa" after the name, as HAProxy wants its bundles.
//
// An operator may have HAProxy load a pair in any of its ways: one file, a key beside it, a bundle, a directory, a list. When
// a certificate becomes dual or single, HAProxy is reloaded once, unless it loaded the directory: it then reads other files.
//
// Without a runtime API, because nothing listens on the socket or HAProxy is older than 2.2, a running HAProxy is reloaded
// instead. A stopped one is never started. The package neither reads nor edits haproxy.cfg.
package haproxy
