// Package installers is the contract between a certificate and the servers that serve it.
//
// It owns what every plugin implements ([Installer], with [Uninstaller], [Previewer] and [Recoverer] on top), what a
// plugin learns about its certificate ([Target]), and what plugins of one machine share:
//
//   - [Server] is one server of this machine: it serializes edits and shares reloads.
//   - [Command] runs one program without a shell, with a clean environment, a deadline and bounded output. No other
//     package starts a program, except for DNS providers.
//
// Package change edits files all or nothing, package endpoint makes the handshakes that prove what is served.
//
// It never starts a server that is stopped, and it knows nothing of any configuration syntax: that is the plugins' part.
package installers
