// Package fileset is what the plugins that write certificate files have in common: the settings for owner, mode, reload and
// proof, and the way of an installation from comparing the files to the proof.
//
// A plugin brings the rest: which files there are with which content, and how its server is made to read them.
package fileset
