// Package installers puts issued certificates where servers serve them, and proves that they are served.
//
// It owns the contract of every plugin ([Installer], with [Uninstaller] and [Previewer] on top), and it is the only
// package that changes files outside the state directory or starts a process:
//
//   - [Change] writes a set of files, tests, reloads and probes. It is all or nothing: when any step fails, or the
//     process is killed anywhere, every byte goes back. [Undo] takes committed changes away again, [Recover] finishes
//     what a crash left.
//   - [Command] runs one program without a shell, with a clean environment, a deadline and bounded output.
//   - [Server] stands for one web server of this machine: it serialises edits and shares reloads.
//   - [Handshake] and [VerifyEndpoints] look at what really answers.
//
// It never overwrites an edit that somebody else made, never starts a server that is stopped, and never judges whether a
// certificate is trusted. It knows nothing of any configuration syntax: that is the plugins' part.
package installers
