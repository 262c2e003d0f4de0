// Package helper splits the installation of certificates from the daemon that obtains them. The daemon speaks to the
// network and holds account keys, but may not change a server; a helper that runs as root changes servers, and hears
// nobody but the daemon. Between them is a unix socket with HTTP/1.1 and JSON (docs/INSTALLD.md).
//
// [Client] is an installers.Installer, so that nothing else knows of the split. [Server] takes a verb, the name of a target
// and a certificate with its key, never a path or a command: what a target is stands in the helper's own configuration.
// It promises that only root and the daemon's user are answered, that a certificate reaches a target only if it is sound
// and for exactly the target's names, and that a slow or hostile client costs a bounded amount of memory and time.
//
// Servers read the helper's own copies ([Target]), which it keeps in a package store below its own state directory: the
// daemon can neither replace a file under a running server nor read one of the helper's.
package helper
