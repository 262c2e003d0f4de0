package acmetest

import (
	"syscall"
	"testing"
	"time"
)

// Spent returns the processor time that this process has used. Tests bound it instead of the time on the wall, which other
// programs on the machine use up as well. Only what runs beside the measured code in the same process counts with it.
func Spent(t testing.TB) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
