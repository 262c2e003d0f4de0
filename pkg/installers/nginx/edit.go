package nginx

import (
	"bytes"
	"strings"

	"github.com/acmed/acmed/pkg/installers/change"
)

// lineStart is the offset at which the line with pos begins.
func lineStart(text []byte, pos int) int { return bytes.LastIndexByte(text[:pos], '\n') + 1 }

// lineEnd is the offset behind the line with pos, its newline included.
func lineEnd(text []byte, pos int) int {
	if n := bytes.IndexByte(text[pos:], '\n'); n >= 0 {
		return pos + n + 1
	}
	return len(text)
}

// newline is the line ending in use at pos.
func newline(text []byte, pos int) string {
	end := lineEnd(text, pos)
	if end == len(text) && !bytes.HasSuffix(text, []byte{'\n'}) {
		end = lineStart(text, pos)
	}
	if bytes.HasSuffix(text[:end], []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// indentAt is the white space that begins the line with pos, and whether nothing else stands before pos.
func indentAt(text []byte, pos int) (indent string, first bool) {
	line := text[lineStart(text, pos):pos]
	rest := bytes.TrimLeft(line, " \t")
	return string(line[:len(line)-len(rest)]), len(rest) == 0
}

// blanks is the white space of nginx. A form feed, a vertical tab and a no-break space belong to words.
const blanks = " \t\r\n"

// comment is what stands in the comment behind end on the same line. ok is false when something else stands there.
func comment(text []byte, end int) (words string, ok bool) {
	rest := strings.Trim(string(text[end:lineEnd(text, end)]), blanks)
	if rest == "" {
		return "", true
	}
	words, ok = strings.CutPrefix(rest, "#")
	return strings.Trim(words, blanks), ok
}

// insertAfter puts whole lines behind offset pos, with the indentation given: on the next line when the rest of the line
// is blank or a comment, else by breaking the line.
func insertAfter(text []byte, pos int, indent string, lines []string) change.Edit {
	nl := newline(text, pos)
	var b strings.Builder
	for _, line := range lines {
		b.WriteString(indent + line + nl)
	}
	if _, free := comment(text, pos); free && lineEnd(text, pos) < len(text) {
		pos = lineEnd(text, pos)
		return change.Edit{Start: pos, End: pos, Text: b.String()}
	}
	return change.Edit{Start: pos, End: pos, Text: nl + b.String()}
}

// removeDirective takes a directive away, with its line when nothing else but a comment of ours stands on it.
func removeDirective(d *directive) change.Edit {
	text := d.src.text
	_, first := indentAt(text, d.start)
	_, last := comment(text, d.end)
	if first && last {
		return change.Edit{Start: lineStart(text, d.start), End: lineEnd(text, d.end), Text: ""}
	}
	return change.Edit{Start: d.start, End: d.end, Text: ""}
}

// safe are the characters that need no quotes in a parameter.
const safe = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+@:=,"

// quote writes a path so that nginx reads it as one parameter without variables. ok is false when that is impossible.
func quote(path string) (text string, ok bool) {
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f || r == '$' }) {
		return "", false
	}
	if strings.Trim(path, safe) == "" {
		return path, true
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`, true
}
