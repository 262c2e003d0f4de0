package main

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// often is how long a process may live without being seen.
const often = 20 * time.Millisecond

// watch writes the arguments of all processes below this one to a file, each once, until stop is called.
func watch(file string) (stop func() error) {
	ended, done := make(chan struct{}), make(chan error)
	go func() {
		seen := map[string]bool{}
		for {
			look(seen)
			select {
			case <-ended:
				done <- os.WriteFile(file, []byte(strings.Join(keys(seen), "\n")), 0o600)
				return
			case <-time.After(often):
			}
		}
	}()
	return func() error {
		close(ended)
		return <-done
	}
}

func keys(seen map[string]bool) (all []string) {
	for k := range seen {
		all = append(all, k)
	}
	slices.Sort(all)
	return all
}

// look adds the arguments of all descendants. A process that ends meanwhile is not there.
func look(seen map[string]bool) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	parents := map[int]int{}
	for _, stat := range stats {
		text, err := os.ReadFile(stat)
		if err != nil {
			continue
		}
		pid, parent, err := relation(string(text))
		if err == nil {
			parents[pid] = parent
		}
	}
	for pid := range parents {
		p := parents[pid]
		for p > 1 && p != os.Getpid() {
			p = parents[p]
		}
		if p <= 1 {
			continue
		}
		if text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil && len(text) > 0 {
			seen[strings.ReplaceAll(strings.TrimRight(string(text), "\x00"), "\x00", " ")] = true
		}
	}
}

// relation reads a process and its parent from /proc/PID/stat; the name between them may hold anything (proc(5)).
func relation(stat string) (pid, parent int, err error) {
	head, _, _ := strings.Cut(stat, " ")
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:])
	if len(fields) < 2 {
		return 0, 0, errors.New("not a process")
	}
	pid, err1 := strconv.Atoi(head)
	parent, err2 := strconv.Atoi(fields[1])
	return pid, parent, errors.Join(err1, err2)
}
