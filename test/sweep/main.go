// Command sweep breaks the real acmed at every state-changing system call of a first issuance, which edits a running
// nginx, and of a renewal: by killing it, by a full disk and by an I/O error. After each it looks at what a server would
// read, lets acmed go on, and looks again. It prints how many runs there were and how many left something broken behind,
// and fails unless that is none, or if more than a quarter of the places where an unharmed run changes a file were never
// harmed: threads share the work another way in every run, so a place may be out of reach.
//
//	sweep [-stride N] [-parallel N] ACMED
//
// It needs strace and nginx, and runs CAs of its own on loopback.
package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// calls are the system calls by which a Go program changes files, and openat, which makes them.
func calls() []string {
	return []string{
		"openat", "write", "pwrite64", "fsync", "fdatasync", "renameat", "renameat2", "linkat", "mkdirat", "symlinkat", "unlinkat",
		"fchmod", "fchmodat", "fchown", "fchownat", "ftruncate", "utimensat",
	}
}

// harms are what is done at a call. The program cannot tell the errors from real ones.
func harms() []string { return []string{"signal=KILL", "error=ENOSPC", "error=EIO"} }

func main() {
	stride := flag.Int("stride", 1, "break at every N-th call only")
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

// task is one call of one scenario, harmed in one way the first, second, third ... time that it happens; or, with a point,
// until it was harmed there.
type task struct{ scenario, harm, call, point string }

// tally is what all runs came to.
type tally struct {
	mu     sync.Mutex
	runs   map[[2]string]int // by scenario and harm
	broken int
	usual  map[string]map[string][]int // by scenario: the points of unharmed runs, with their numbers in their threads
	most   map[string]map[string]int   // by scenario and call: how often one thread makes it
	harmed map[string]map[string]bool  // by scenario and harm
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
	sum := &tally{
		runs: map[[2]string]int{}, usual: map[string]map[string][]int{}, most: map[string]map[string]int{}, harmed: map[string]map[string]bool{},
	}
	var workers []*worker
	defer func() {
		for _, w := range workers {
			err = errors.Join(err, w.close())
		}
	}()
	for i := range parallel {
		w, err := newWorker(acmed, filepath.Join(dir, fmt.Sprintf("w%d", i)), stride, sum)
		if w != nil {
			workers = append(workers, w)
		}
		if err != nil {
			return err
		}
	}
	var all []task
	for _, s := range scenarios() {
		for _, harm := range harms() {
			for _, call := range calls() {
				all = append(all, task{s, harm, call, ""})
			}
		}
	}
	if err := work(workers, all); err != nil {
		return err
	}
	if stride == 1 {
		if err := work(workers, sum.missed()); err != nil {
			return err
		}
	}
	return sum.report(stride)
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

// missed lists the points that were not harmed yet.
func (t *tally) missed() (tasks []task) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range scenarios() {
		for _, harm := range harms() {
			for _, p := range slices.Sorted(maps.Keys(t.usual[s])) {
				if call, _, _ := strings.Cut(p, " "); !t.harmed[s+harm][p] {
					tasks = append(tasks, task{s, harm, call, p})
				}
			}
		}
	}
	return tasks
}

// numbers are those that a point had in its thread.
func (t *tally) numbers(k task) []int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.usual[k.scenario][k.point]
}

// report prints the figures and says whether they are as they should be.
func (t *tally) report(stride int) error {
	left := map[string][]string{}
	missed := t.missed()
	for _, k := range missed {
		left[k.scenario+k.harm] = append(left[k.scenario+k.harm], k.point)
	}
	runs, places := 0, 0
	for _, s := range scenarios() {
		for _, harm := range harms() {
			runs += t.runs[[2]string{s, harm}]
			fmt.Printf("%-8s %-13s %4d runs, harmed at %d of the %d places where an unharmed run changes a file\n",
				s, harm, t.runs[[2]string{s, harm}], len(t.usual[s])-len(left[s+harm]), len(t.usual[s]))
			for _, p := range left[s+harm] {
				fmt.Println("         never at", p)
			}
			places += len(t.usual[s])
		}
	}
	fmt.Printf("%d broken of %d\n", t.broken, runs)
	switch {
	case t.broken > 0 || runs == 0:
		return fmt.Errorf("%d of %d runs left something broken", t.broken, runs)
	case stride == 1 && len(missed)*4 > places:
		return fmt.Errorf("%d of %d places were never harmed", len(missed), places)
	}
	return nil
}

func (t *tally) ran(k task, points []string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.runs[[2]string{k.scenario, k.harm}]++
	if t.harmed[k.scenario+k.harm] == nil {
		t.harmed[k.scenario+k.harm] = map[string]bool{}
	}
	for _, p := range points {
		t.harmed[k.scenario+k.harm][p] = true
	}
	if err != nil {
		t.broken++
		fmt.Printf("BROKEN: %s, %s at %v: %v\n", k.scenario, k.harm, points, err)
	}
}

// unharmed notes the places of an unharmed run.
func (t *tally) unharmed(scenario string, seen trace) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.usual[scenario] == nil {
		t.usual[scenario], t.most[scenario] = map[string][]int{}, map[string]int{}
	}
	for p, numbers := range seen.changes {
		t.usual[scenario][p] = append(t.usual[scenario][p], numbers...)
	}
	for call, n := range seen.most {
		t.most[scenario][call] = max(t.most[scenario][call], n)
	}
}

// times is how often a call has to be harmed, with a margin for threads that share the work another way.
func (t *tally) times(k task) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if most := t.most[k.scenario][k.call]; most > 0 {
		return most + most/4 + 2
	}
	return 0
}
