package web

import (
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process writes the metrics that every exporter has, under their usual names. What the kernel does not tell is left out.
func (e *exposition) process() {
	e.family("go_goroutines", "gauge", "Number of goroutines.")
	e.sample(float64(runtime.NumGoroutine()))
	if pages, ok := resident(); ok {
		e.family("process_resident_memory_bytes", "gauge", "Resident memory.")
		e.sample(float64(pages * os.Getpagesize()))
	}
	if open, err := os.ReadDir("/proc/self/fd"); err == nil {
		e.family("process_open_fds", "gauge", "Number of open file descriptors.")
		e.sample(float64(len(open)))
	}
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) == nil {
		e.family("process_cpu_seconds_total", "counter", "Processor time, user and system.")
		e.sample(time.Duration(usage.Utime.Nano() + usage.Stime.Nano()).Seconds())
	}
}

// resident is the resident memory in pages (proc_pid_statm(5)).
func resident() (int, bool) {
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0, false
	}
	fields := strings.Fields(string(text))
	if len(fields) < 2 {
		return 0, false
	}
	pages, err := strconv.Atoi(fields[1])
	return pages, err == nil
}
