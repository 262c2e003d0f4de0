package main

import (
	"cmp"
	"os"
	"regexp"
	"slices"
	"strings"
)

// The lines of strace -y that matter: a call, whether it was harmed, and the end of a process by a kill. A call that
// another thread interrupted is told in two lines, of which the first has the arguments.
var (
	callLine = regexp.MustCompile(`^(\d+) +(\w+)\((.*)$`)
	quoted   = regexp.MustCompile(`"([^"]*)"|<(/[^>]*)>`)
	varying  = regexp.MustCompile(`\d{8}T\d{6}Z-[0-9a-f]+|\.acmed-[a-z0-9]+\.tmp|[0-9a-f]{12,}|127\.0\.0\.1_\d+`)
)

// trace is what strace wrote.
type trace struct {
	most    map[string]int   // call → how often the thread with the most of them made it
	changes map[string][]int // call and file of all calls that change a file in the directory, each with its number in its thread
	harmed  []string         // those that were harmed, and "elsewhere" if it was another call
}

// readTrace reads what strace wrote of a run in dir.
func readTrace(path, dir string) (t trace, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return trace{}, err
	}
	t.most, t.changes = map[string]int{}, map[string][]int{}
	counts := map[[2]string]int{} // thread and call
	last := map[string]string{}   // thread → the last change it began
	for line := range strings.SplitSeq(string(text), "\n") {
		thread, _, _ := strings.Cut(line, " ")
		if m := callLine.FindStringSubmatch(line); m != nil {
			here := [2]string{thread, m[2]}
			counts[here]++
			t.most[m[2]] = max(t.most[m[2]], counts[here])
			last[thread] = point(m[2], m[3], dir)
			if p := last[thread]; p != "" && !slices.Contains(t.changes[p], counts[here]) {
				t.changes[p] = append(t.changes[p], counts[here])
			}
		}
		killed := strings.HasSuffix(line, "= ?") || strings.Contains(line, "killed by SIGKILL") // all threads end, one in its call
		if strings.Contains(line, "(INJECTED)") || killed && len(t.harmed) == 0 {
			where := last[thread]
			if where == "" {
				where = "elsewhere"
			}
			t.harmed = append(t.harmed, where)
		}
	}
	return t, nil
}

// point names a change so that it has the same name in every run: the call and the file, without what differs from run to
// run. It is "" if no file in dir is changed.
func point(call, args, dir string) string {
	if call == "openat" && !strings.Contains(args, "O_CREAT") {
		return ""
	}
	args, _, _ = strings.Cut(args, ") = ") // what it returned depends on the harm
	var at []string
	for _, m := range quoted.FindAllStringSubmatch(args, -1) {
		name := m[1] + m[2]
		if strings.Contains(call, "write") && m[1] != "" { // what is written
			continue
		}
		if rest, ok := strings.CutPrefix(name, dir); ok {
			name = rest
		} else if strings.HasPrefix(name, "/") {
			continue
		}
		at = append(at, varying.ReplaceAllString(cmp.Or(name, "."), "*"))
	}
	if len(at) == 0 {
		return ""
	}
	return call + " " + strings.Join(at, " ")
}
