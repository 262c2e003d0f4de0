//go:build linux && amd64

// Command sweep breaks the real acmed at every system call that changes a file, of a first issuance, which edits a running
// nginx, of a renewal, of uninstall, rollback and activate, and of enable, disable and import: by killing it before the
// call, by a full disk and by an I/O error. After each it looks at what a server would read, runs the command again, and
// looks once more. It prints how many runs there were and how many left something
// broken behind, and fails unless that is none, or if one of the changes that an unharmed run makes was never harmed.
//
//	sweep [-stride N] [-parallel N] ACMED
//
// It traces acmed itself, because strace counts the calls of each thread apart: what a thread does after another did the
// same could not be harmed. It needs nginx and Linux on amd64, and runs CAs of its own on loopback.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// harms are what is done at a call. The program cannot tell the errors from real ones.
func harms() []string { return []string{"KILL", "ENOSPC", "EIO"} }

func (k task) injury() injury {
	switch k.harm {
	case "ENOSPC":
		return injury{errno: syscall.ENOSPC}
	case "EIO":
		return injury{errno: syscall.EIO}
	}
	return injury{kill: true}
}

func main() {
	stride := flag.Int("stride", 1, "break at every N-th change only")
	parallel := flag.Int("parallel", 2, "runs at a time")
	flag.Parse()
	if flag.NArg() != 1 || *stride < 1 || *parallel < 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *stride, *parallel); err != nil {
		fmt.Fprintln(os.Stderr, "sweep:", err)
		os.Exit(1)
	}
}

// task is one change of one scenario, harmed in one way.
type task struct{ scenario, harm, point string }

// tally is what all runs came to.
type tally struct {
	mu     sync.Mutex
	usual  map[string]map[string]bool // by scenario: the changes of an unharmed run
	runs   map[[2]string]int          // by scenario and harm
	broken int
	missed []task // changes that did not come again
}

func run(acmed string, stride, parallel int) (err error) {
	dir, err := os.MkdirTemp("", "acmed-sweep")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if acmed, err = filepath.Abs(acmed); err != nil {
		return err
	}
	sum := &tally{runs: map[[2]string]int{}, usual: map[string]map[string]bool{}}
	var workers []*worker
	defer func() {
		for _, w := range workers {
			err = errors.Join(err, w.close())
		}
	}()
	for i := range parallel {
		w, err := newWorker(acmed, filepath.Join(dir, fmt.Sprintf("w%d", i)), sum)
		if w != nil {
			workers = append(workers, w)
		}
		if err != nil {
			return err
		}
	}
	if err := work(workers, sum.tasks(stride)); err != nil {
		return err
	}
	return sum.report()
}

// work shares tasks among workers.
func work(workers []*worker, all []task) error {
	tasks := make(chan task)
	group := errgroup.Group{}
	for _, w := range workers {
		group.Go(func() error { return w.work(tasks) })
	}
	for _, t := range all {
		tasks <- t
	}
	close(tasks)
	return group.Wait()
}

// tasks are every change of every scenario, each harmed in every way.
func (t *tally) tasks(stride int) (tasks []task) {
	for _, sc := range scenarios() {
		s := sc.name
		for _, harm := range harms() {
			for i, point := range slices.Sorted(maps.Keys(t.usual[s])) {
				if i%stride == 0 {
					tasks = append(tasks, task{s, harm, point})
				}
			}
		}
	}
	return tasks
}

// report prints the figures and says whether they are as they should be.
func (t *tally) report() error {
	all := 0
	for _, sc := range scenarios() {
		s := sc.name
		for _, harm := range harms() {
			n := t.runs[[2]string{s, harm}]
			fmt.Printf("%-9s %-7s %4d runs; an unharmed run changes files %d times\n", s, harm, n, len(t.usual[s]))
			all += n
		}
	}
	for _, k := range t.missed {
		fmt.Printf("never harmed: %s, %s at %s\n", k.scenario, k.harm, k.point)
	}
	fmt.Printf("%d broken of %d\n", t.broken, all)
	switch {
	case t.broken > 0 || all == 0:
		return fmt.Errorf("%d of %d runs left something broken", t.broken, all)
	case len(t.missed) > 0:
		return fmt.Errorf("%d changes were never harmed", len(t.missed))
	}
	return nil
}

func (t *tally) ran(k task, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs[[2]string{k.scenario, k.harm}]++
	if err != nil {
		t.broken++
		fmt.Printf("BROKEN: %s, %s at %s: %v\n", k.scenario, k.harm, k.point, err)
	}
}

func (t *tally) miss(k task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed = append(t.missed, k)
}

// unharmed notes a change of an unharmed run.
func (t *tally) unharmed(scenario, point string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.usual[scenario] == nil {
		t.usual[scenario] = map[string]bool{}
	}
	t.usual[scenario][point] = true
}
