// Package acmetest runs certificate authorities for tests and for the demonstration: Pebble inside the test's process
// with its own DNS, Pebble as processes, step-ca as a second implementation, and faults on any endpoint of the
// embedded one, so that a test can be the CA of its nightmares.
//
// It promises that every CA listens on 127.0.0.1 only, at ports which were free, that several of them can live in one
// process, and that all of them end with their test. It does not validate anything itself and is never linked into
// the daemon.
package acmetest
