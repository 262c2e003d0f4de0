// Package nginx installs certificates into nginx by editing its configuration files in place.
//
// It owns a lossless editor that reads files as nginx's own lexer does and changes nothing but the bytes it means to
// change, the rules by which nginx resolves includes and chooses a server block for a name, and the edits that make such
// a block serve a lineage. Every change goes through change.Change: the configuration is tested before and after,
// reloaded, and proved by a TLS handshake for every name, or every byte is put back. A renewal edits nothing, because
// the files already point at the lineage's current directory.
//
// Where it cannot know what nginx would do (a name that only a regular expression matches, a snippet shared with other
// sites, a port that another protocol uses) it refuses with file and line rather than guess. It never starts a server
// that is stopped, and never renders a file anew.
package nginx
