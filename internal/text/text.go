// Package text makes foreign text fit for one line of a log, an error or a terminal: shortened, and with everything
// escaped that could be taken for more than text. It promises that its results hold no control character and are valid
// UTF-8.
package text

import (
	"strconv"
	"strings"
	"unicode"
)

// Most is how many bytes of foreign text an error shows.
const Most = 2000

// Tail returns the end of s on one line, at most most bytes of it, with unprintable characters escaped. A program says
// last why it failed, so of its output the end counts.
func Tail(s string, most int) string {
	s = strings.TrimSpace(s)
	if len(s) > most {
		s = "…" + s[len(s)-most:]
	}
	return Printable(s)
}

// Printable returns s with every character escaped, as in a Go string, that a terminal or a log could take for more
// than text.
func Printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
