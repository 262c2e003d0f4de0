// Package change edits files of the machine all or nothing.
//
// [Change] writes a set of files, tests, reloads and probes. When any step fails, or the process is killed anywhere, every
// byte goes back. [Undo] takes committed changes away again, [Recover] finishes what a crash left. The journal of a
// target keeps the first bytes that acmed found, through all later changes. It is the only package of the product that
// changes files outside the state directory.
//
// It never overwrites an edit that another process made, and it knows nothing of any configuration syntax.
package change
