// Package text makes foreign text fit for a log, an error, a terminal or a page: shortened, and with everything escaped that
// could be taken for more than text. Results are valid UTF-8, and what was escaped is valid inside a JSON string as well.
package text

import (
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"
)

// Most is how many bytes of foreign text an error shows.
const Most = 2000

// Stamp writes a time for people. The zone is always UTC, as in certificates and logs of CAs.
func Stamp(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// Value is how much of a value from a file or a message an error shows.
const Value = 80

// ellipsis stands where something was left out.
const ellipsis = "…"

// Short returns the beginning of s on one line with unprintable characters escaped, at most most bytes of it. It reads no
// further than it shows.
func Short(s string, most int) string {
	if len(s) <= most && printable(s, "") {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		part := escape(r, "")
		if b.Len()+len(part) > most {
			return b.String() + ellipsis
		}
		b.WriteString(part)
	}
	return b.String()
}

// Count says how many there are of something: "1 certificate", "2 certificates". The plural of one is one with an s.
func Count[N ~int | ~int64](n N, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

// Line is [Short] of s with every run of white space and control characters replaced by one space.
func Line(s string, most int) string {
	fields := strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) })
	return Short(strings.Join(fields, " "), most)
}

// Tail returns the end of s on one line, at most most bytes of it, with unprintable characters escaped. A program reports
// last why it failed, so of its output the end counts.
func Tail(s string, most int) string {
	s = strings.TrimSpace(s)
	from, size := len(s), 0
	for from > 0 {
		r, n := utf8.DecodeLastRuneInString(s[:from])
		if size += len(escape(r, "")); size > most {
			return ellipsis + Printable(s[from:])
		}
		from -= n
	}
	return Printable(s)
}

// Cut returns s, or as much of its beginning and an ellipsis as make width characters. It escapes nothing: the result is
// for %q, or s is printable already.
func Cut(s string, width int) string {
	last := 0 // where the ellipsis would stand
	n := 0
	for i := range s {
		if n++; n == width {
			last = i
		} else if n > width {
			return strings.ToValidUTF8(s[:last], "") + ellipsis
		}
	}
	return s
}

// Printable returns s with every character escaped that a terminal or a log could take for more than text.
func Printable(s string) string { return Escape(s, "") }

// Lines is [Printable] for text of several lines: line ends and tabs stay.
func Lines(s string) string { return Escape(s, "\n\t") }

// Escape is [Printable], but leaves the characters in keep.
func Escape(s, keep string) string {
	if printable(s, keep) {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		b.WriteString(escape(r, keep))
	}
	return b.String()
}

// plain reports whether a character is shown as it is. The replacement character may stand for a byte that is no UTF-8.
func plain(r rune, keep string) bool {
	return unicode.IsPrint(r) && r != utf8.RuneError || strings.ContainsRune(keep, r) && r != utf8.RuneError
}

func printable(s, keep string) bool {
	return strings.IndexFunc(s, func(r rune) bool { return !plain(r, keep) }) < 0
}

func escape(r rune, keep string) string {
	switch {
	case plain(r, keep):
		return string(r)
	case r == '\n':
		return `\n`
	case r == '\r':
		return `\r`
	case r == '\t':
		return `\t`
	}
	if high, low := utf16.EncodeRune(r); high != utf8.RuneError {
		return fmt.Sprintf(`\u%04x\u%04x`, high, low)
	}
	return fmt.Sprintf(`\u%04x`, r)
}
