package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/acmed/acmed/internal/text"
)

// Problem is one thing that is wrong with the configuration, and where.
type Problem struct {
	File    string // as it was opened; "" when the Config was not read from a file
	Line    int    // from 1; 0 when the problem is not at one line
	Path    string // key path such as certificates[www].names[1]; "" when the problem is the file itself
	Message string // what is wrong and what to do
}

// Warning is a Problem that stops nothing.
type Warning = Problem

// String returns "file:line: path: message" without the parts that are not known. What cannot be printed, which a file
// name or a plugin's message may have, is escaped.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(position{p.File, p.Line}.String() + ": ")
	}
	if p.Path != "" {
		b.WriteString(text.Short(p.Path, text.Value) + ": ")
	}
	return text.Printable(b.String() + p.Message)
}

// Error holds everything that is wrong with a configuration, ordered by file and line. It has at least one problem.
type Error struct{ Problems []Problem }

// Error returns one line for each problem.
func (e *Error) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// asError sorts the problems by file, in the order in which the files were read, and by line.
func asError(problems []Problem, files map[string]int) error {
	if len(problems) == 0 {
		return nil
	}
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(cmp.Compare(files[a.File], files[b.File]), cmp.Compare(a.Line, b.Line))
	})
	return &Error{Problems: problems}
}

// quote returns the value short and quoted, with control characters escaped.
func quote(value string) string { return fmt.Sprintf("%q", text.Cut(value, text.Value)) }

// suggest returns `; did you mean "x"?` for the candidate nearest to word, or "" when none is near.
func suggest(word string, candidates []string) string {
	if near := Nearest(word, candidates); near != "" {
		return fmt.Sprintf("; did you mean %q?", near)
	}
	return ""
}

// Nearest returns the candidate that differs from word by the fewest typing errors: at most one in three characters,
// case aside. The first of equals wins.
func Nearest(word string, candidates []string) string {
	if len(word) > text.Value {
		return ""
	}
	word = strings.ToLower(word)
	best, least := "", max(1, len(word)/3)+1
	for _, c := range candidates {
		if d := distance(word, strings.ToLower(c)); d < least {
			best, least = c, d
		}
	}
	return best
}

// distance counts the characters to insert, delete, replace or swap with their neighbour to turn a into b.
func distance(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row := make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			replace := last[j-1]
			if a[i-1] != b[j-1] {
				replace++
			}
			row[j] = min(replace, last[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
