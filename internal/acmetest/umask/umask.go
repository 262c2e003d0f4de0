// Package umask is imported by tests that make directories: others cannot write into them, which acmed refuses, whatever the
// umask of the machine is.
package umask

import "syscall"

var _ = syscall.Umask(0o022)
