// Package systemd speaks the protocols that systemd offers its services: readiness, status and watchdog over the notify
// socket (sd_notify(3), sd_watchdog_enabled(3)), sockets that it opened for the service (sd_listen_fds(3)), and entries with
// fields for the journal (sd_journal_send(3)).
//
// It promises that without systemd nothing happens and nothing fails. It starts no goroutines and keeps no state.
package systemd
