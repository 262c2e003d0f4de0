// Package config reads acmed.yaml and its drop-in files into Go types. The types are the reference manual of the
// configuration: every field says what it means, its default and its unit.
//
// It promises that a configuration which loads is sound as far as that can be known without a network: no unknown key,
// no wrong type, no reference to something that does not exist, no name that a CA would refuse, no file that another user
// could have changed. All problems of all files are reported at once, each with its file, line and key path ([Error]).
//
// Reading goes in three steps: the YAML text becomes plain values that are checked against the Go types and remember
// their lines; the values of all files are merged, with every definition in one file only; the result is decoded and
// validated. [Load] does them all.
//
// It does not watch files, reads no environment besides $CREDENTIALS_DIRECTORY, keeps no secret in memory
// ([ReadSecret] fetches one when it is needed) and builds nothing: that is the daemon's work.
package config
