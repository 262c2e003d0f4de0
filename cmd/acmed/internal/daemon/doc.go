// Package daemon puts the parts together: it builds issuers, solvers and installers from the configuration, runs the
// scheduler and the control socket, reloads, and stops in good order.
//
// It promises that a reload builds everything new before anything live is touched, so that a broken configuration
// changes nothing, and that stopping gives running orders a bounded time to end or to clean up. The same [Daemon] serves
// the command line in its own process when no daemon runs. It holds no policy: what is due is package renewal's matter.
package daemon
