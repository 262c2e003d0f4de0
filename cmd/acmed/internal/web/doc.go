// Package web is the read-only view of a daemon over HTTP: the status page for people, metrics in the Prometheus text
// format, and a health check.
//
// It owns what is shown and how. It promises that no request changes anything, that a page made by somebody else cannot
// read it through a visitor's browser, and that slow or many clients cost a bounded amount of memory and time: all
// certificates are looked at once in a while, whatever is asked, and never while a lock of a renewal is held. It shows
// names, times and errors; secrets never reach it. There is no login: who can reach the address can read.
//
// What it shows comes from a [Source]; what it counts is told to a [Recorder].
package web
