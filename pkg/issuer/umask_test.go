package issuer

import "syscall"

var _ = syscall.Umask(0o022) // so that others cannot write into the directories of tests, which acmed refuses
