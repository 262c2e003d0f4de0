package change

import (
	"bytes"
	"fmt"
	"slices"
)

// Edit replaces the bytes from Start up to End by Text.
type Edit struct {
	Start, End int
	Text       string
}

// Splice returns text with the edits made. Bytes outside the edits stay as they are. Edits at the same offset are made in
// the order given; edits that overlap are a mistake of the caller.
func Splice(text []byte, edits []Edit) ([]byte, error) {
	edits = slices.Clone(edits)
	slices.SortStableFunc(edits, func(a, b Edit) int { return a.Start - b.Start })
	var out bytes.Buffer
	at := 0
	for _, e := range edits {
		if e.Start < at || e.End < e.Start || e.End > len(text) {
			return nil, fmt.Errorf("overlapping edits at offset %d", e.Start)
		}
		out.Write(text[at:e.Start])
		out.WriteString(e.Text)
		at = e.End
	}
	out.Write(text[at:])
	return out.Bytes(), nil
}
