package webserver

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

// applyHunks makes one list out of the other by the hunks alone.
func applyHunks(before, after []string, hunks []Hunk) []string {
	var out []string
	at := 0
	for _, h := range hunks {
		out = append(out, before[at:h.A]...)
		out = append(out, after[h.C:h.D]...)
		at = h.B
	}
	return append(out, before[at:]...)
}

func TestCompareLines(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 6))
	random := func() []string {
		list := make([]string, rng.IntN(12))
		for i := range list {
			list[i] = string(rune('a' + rng.IntN(4)))
		}
		return list
	}
	for range 5000 {
		before, after := random(), random()
		hunks, ok := CompareLines(before, after)
		if got := applyHunks(before, after, hunks); !ok || !slices.Equal(got, after) {
			t.Fatalf("%q to %q: %v gives %q", before, after, hunks, got)
		}
		changed := 0
		for _, h := range hunks {
			changed += h.B - h.A + h.D - h.C
		}
		if want := len(before) + len(after) - 2*longestCommon(before, after); changed != want {
			t.Fatalf("%q to %q: %v changes %d lines, %d are enough", before, after, hunks, changed, want)
		}
	}
	many := func(prefix string) []string {
		list := make([]string, MaxDistance)
		for i := range list {
			list[i] = fmt.Sprint(prefix, i)
		}
		return list
	}
	if _, ok := CompareLines(many("a"), many("b")); ok {
		t.Error("files without a common line were compared")
	}
}

func longestCommon(a, b []string) int {
	row := make([]int, len(b)+1)
	for i := range a {
		diagonal := 0
		for j := range b {
			above := row[j+1]
			if a[i] == b[j] {
				row[j+1] = diagonal + 1
			} else {
				row[j+1] = max(row[j], above)
			}
			diagonal = above
		}
	}
	return row[len(b)]
}
