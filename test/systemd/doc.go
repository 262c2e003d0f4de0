// Package systemd tests what the package installs: the unit files by themselves, and, with ACMED_SYSTEMD=1 as "make
// test-systemd" sets it, the whole under a real systemd in a container that has no network but its own loopback. "make
// test" sets it to "try": where no container can be made, the test is skipped and says why.
package systemd
