// Package setup makes first configurations: it finds the web servers of this machine and the sites they serve, writes
// files for conf.d, lets web servers forward challenges, and takes all of it back. [Enabling] is one run of "acmed enable"
// without its questions and its output.
//
// It promises that a file which somebody else wrote or edited is neither replaced nor removed: what it writes carries a
// hash of itself. Every [Change] is journaled: it happens as a whole or not at all, [Change.Revert] puts back what
// [Change.Apply] did, and [Recover] undoes what a killed process left.
//
// It prints nothing and asks nobody: that is up to the commands.
package setup
