package webserver

import "slices"

// Hunk is one difference between two lists of lines: before[A:B] became after[C:D].
type Hunk struct{ A, B, C, D int }

// MaxDistance bounds the work of a comparison. Files that differ in more lines are no longer the same file edited.
const MaxDistance = 2000

// CompareLines finds a shortest list of differences (Myers, "An O(ND) Difference Algorithm and Its Variations", 1986).
// ok is false when there are too many.
func CompareLines(before, after []string) (hunks []Hunk, ok bool) {
	head := commonHead(before, after)
	before, after = before[head:], after[head:]
	tail := commonTail(before, after)
	steps, ok := shortest(before[:len(before)-tail], after[:len(after)-tail])
	if !ok {
		return nil, false
	}
	for _, s := range steps {
		h := Hunk{s.x + head, s.x + head, s.y + head, s.y + head}
		if s.insert {
			h.D++
		} else {
			h.B++
		}
		if n := len(hunks); n > 0 && hunks[n-1].B == h.A && hunks[n-1].D == h.C {
			hunks[n-1].B, hunks[n-1].D = h.B, h.D
			continue
		}
		hunks = append(hunks, h)
	}
	return hunks, true
}

func commonHead(a, b []string) int {
	n := 0
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}

func commonTail(a, b []string) int {
	n := 0
	for n < min(len(a), len(b)) && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}

// step is one line deleted at before[x], or inserted as after[y].
type step struct {
	x, y   int
	insert bool
}

// shortest finds a shortest edit script: reach[k] is how far along the old lines one gets on diagonal k = x - y.
func shortest(before, after []string) ([]step, bool) {
	limit := min(len(before)+len(after), MaxDistance)
	reach := make([]int, 2*limit+3)
	at := func(k int) *int { return &reach[k+limit+1] }
	var history [][]int
	for d := 0; d <= limit; d++ {
		history = append(history, slices.Clone(reach[limit+1-d:limit+2+d]))
		for k := -d; k <= d; k += 2 {
			x := *at(k - 1) + 1
			if insertsAt(k, d, *at(k - 1), *at(k + 1)) {
				x = *at(k + 1)
			}
			y := x - k
			for x < len(before) && y < len(after) && before[x] == after[y] {
				x, y = x+1, y+1
			}
			*at(k) = x
			if x >= len(before) && y >= len(after) {
				return trace(history, len(before), len(after)), true
			}
		}
	}
	return nil, false
}

// insertsAt reports whether diagonal k is reached after d steps by an insertion from the diagonal above it.
func insertsAt(k, d, below, above int) bool { return k == -d || k != d && below < above }

// trace walks the history of [shortest] back from the end.
func trace(history [][]int, x, y int) []step {
	var steps []step
	for d := len(history) - 1; d > 0; d-- {
		before := history[d]
		at := func(k int) int { return before[k+d] }
		k := x - y
		below, above := 0, 0
		if k > -d {
			below = at(k - 1)
		}
		if k < d {
			above = at(k + 1)
		}
		if insertsAt(k, d, below, above) {
			x, y = above, above-k-1
			steps = append(steps, step{x, y, true})
		} else {
			x, y = below, below-k+1
			steps = append(steps, step{x, y, false})
		}
	}
	slices.Reverse(steps)
	return steps
}
