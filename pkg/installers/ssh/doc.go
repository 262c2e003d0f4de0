// Package ssh installs certificates on another machine: it writes files there over SFTP, or with a shell where the machine has
// no SFTP, runs a command that makes the server read them, and proves the result by a handshake from here.
//
// The machine's host key is pinned, by a known_hosts file or a fingerprint, and never taken blindly. A file is written under a
// temporary name, gets its owner and mode, and is renamed. When the command or the proof fails, the files of before come back,
// as on this machine: the same journal, kept here, knows them, also when the connection was cut in the middle.
//
// The targets of one machine share one connection and one command.
package ssh
