package main

import (
	"errors"
	"maps"
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
		seen, known := map[string]bool{}, map[int]*process{}
		for {
			look(seen, known)
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

// process is what is known of one. It is looked at often in the beginning, because what forked becomes another program, and
// seldom later.
type process struct{ parent, looks int }

const enoughLooks, seldom = 10, 50

// look adds the arguments of all descendants. A process that ends meanwhile is not there.
func look(seen map[string]bool, known map[int]*process) {
	entries, _ := os.ReadDir("/proc")
	alive := map[int]bool{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if alive[pid] = true; known[pid] == nil {
			text, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "stat"))
			if _, parent, err := relation(string(text)); err == nil {
				known[pid] = &process{parent: parent}
			}
		}
	}
	maps.DeleteFunc(known, func(pid int, _ *process) bool { return !alive[pid] })
	for pid, p := range known {
		if p.looks++; p.looks > enoughLooks && p.looks%seldom != 0 || !descends(known, p) {
			continue
		}
		if text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); err == nil && len(text) > 0 {
			seen[strings.ReplaceAll(strings.TrimRight(string(text), "\x00"), "\x00", " ")] = true
		}
	}
}

func descends(known map[int]*process, p *process) bool {
	for p != nil && p.parent != os.Getpid() {
		p = known[p.parent]
	}
	return p != nil
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
