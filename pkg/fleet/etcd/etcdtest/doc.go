// Package etcdtest runs the suite of pkg/fleet/fleettest, and what only a real cluster can show, against three etcd members
// in the test's own process. It is a module of its own, so that the server's dependencies stay out of acmed's.
package etcdtest
