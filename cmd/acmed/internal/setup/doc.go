// Package setup makes first configurations: it finds the web servers of this machine and the sites they serve, writes
// files for conf.d, and takes them back.
//
// It promises that a file which somebody else wrote or edited is neither replaced nor removed: what it writes carries a
// hash of itself. Every file appears complete or not at all, and [Change.Revert] puts back what [Change.Apply] did.
//
// It does not talk to a CA or a daemon, changes no web server, and asks nobody: that is up to the commands.
package setup
