package apache

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// source is one configuration file. All planning happens on its text without what acmed wrote for the certificate; the
// file is then what that text becomes.
type source struct {
	path  string // as Apache opens it
	real  string // with symbolic links resolved
	disk  []byte // the file as it is
	text  []byte // the file without acmed's lines and marks
	lines []int  // for each line of disk its number in text; 0 for one of acmed's
	root  []*directive
	err   error // why root is not complete
}

// readSource reads and parses a file. A file that is not understood is an error only where it is needed ([source.err]).
func readSource(path, certificate string) (*source, error) {
	resolved, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil, fmt.Errorf("read the Apache configuration: %w", err)
	}
	disk, err := installers.ReadRegular(path) // which judges the links on the way
	if err != nil {
		return nil, fmt.Errorf("read the Apache configuration: %w", err)
	}
	s := newSource(path, disk, certificate)
	s.real = resolved
	return s, nil
}

func newSource(path string, disk []byte, certificate string) *source {
	s := &source{path: path, real: path, disk: disk}
	s.text, s.lines, s.err = withdraw(path, disk, certificate)
	if s.err == nil {
		s.err = s.parse()
	}
	return s
}

// clean is the number in text of a line on disk; 0 for one of acmed's.
func (s *source) clean(line int) int {
	if line < 1 || line > len(s.lines) {
		return 0
	}
	return s.lines[line-1]
}

// actual is the number on disk of a line of the text.
func (s *source) actual(line int) int {
	for i, n := range s.lines {
		if n == line {
			return i + 1
		}
	}
	return line
}

// The marks around and before lines, followed by the certificate's name. They are comments of their own, because Apache
// has none at the end of a line.
const (
	markBegin = "# acmed begin "
	markEnd   = "# acmed end "
	markOff   = "# acmed off "
)

// withdraw takes away all that acmed wrote for the certificate: marked blocks, and the marks that switch lines off.
// lines says for each line its number afterwards, 0 when it is gone.
func withdraw(path string, disk []byte, certificate string) (text []byte, lines []int, err error) {
	off := []byte(markOff + certificate + ": ")
	inside, number, opened := false, 0, 0
	for rest := disk; len(rest) > 0; {
		line := rest
		if i := bytes.IndexByte(rest, '\n'); i >= 0 {
			line = rest[:i+1]
		}
		rest = rest[len(line):]
		bare := string(bytes.TrimSpace(line))
		switch {
		case bare == markBegin+certificate && !inside:
			inside, opened = true, len(lines)+1
		case bare == markEnd+certificate && inside:
			inside = false
			lines = append(lines, 0)
			continue
		}
		if inside {
			lines = append(lines, 0)
			continue
		}
		number++
		lines = append(lines, number)
		if bytes.HasPrefix(bytes.TrimLeft(line, blanks), off) {
			line = bytes.Replace(line, off, nil, 1)
		}
		text = append(text, line...)
	}
	if inside {
		return disk, nil, &SyntaxError{File: path, Line: opened, Reason: fmt.Sprintf("there is no %q for this line", markEnd+certificate)}
	}
	return text, lines, nil
}

// mayHaveMarks reports whether acmed may have written something for a certificate.
func (s *source) mayHaveMarks(certificate string) bool {
	return bytes.Contains(s.disk, []byte(markBegin+certificate)) || bytes.Contains(s.disk, []byte(markOff+certificate))
}

// hasMarks reports whether acmed wrote something for the certificate.
func (s *source) hasMarks() bool { return !bytes.Equal(s.disk, s.text) }

// lineStart is the offset at which the line with pos begins.
func lineStart(text []byte, pos int) int { return bytes.LastIndexByte(text[:pos], '\n') + 1 }

// indentAt is the white space that begins the line with pos.
func indentAt(text []byte, pos int) string {
	line := text[lineStart(text, pos):pos]
	return string(line[:len(line)-len(bytes.TrimLeft(line, " \t"))])
}

// newline is the line ending of the line that ends before pos.
func newline(text []byte, pos int) string {
	if bytes.HasSuffix(text[:pos], []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}

// switchOff comments a directive out. Its continuation lines go on being part of the comment.
func switchOff(d *directive, certificate string) change.Edit {
	return change.Edit{Start: d.start, End: d.start, Text: markOff + certificate + ": "}
}

// block puts marked lines at pos, the beginning of a line of section d.
func block(d *directive, pos int, certificate string, lines []string) change.Edit {
	return change.Edit{Start: pos, End: pos, Text: marked(d.childIndent(), newline(d.src.text, pos), certificate, lines)}
}

// childIndent is how far the lines in a section are indented.
func (d *directive) childIndent() string {
	if len(d.children) > 0 {
		return indentAt(d.src.text, d.children[0].start)
	}
	return indentAt(d.src.text, d.start) + "    "
}

// marked are lines with the marks around them.
func marked(indent, nl, certificate string, lines []string) string {
	var b strings.Builder
	for _, line := range slices.Concat([]string{markBegin + certificate}, lines, []string{markEnd + certificate}) {
		b.WriteString(indent + line + nl)
	}
	return b.String()
}

// quote writes a path so that Apache reads it as one word without variables. ok is false when that is impossible.
func quote(path string) (text string, ok bool) {
	if path == "" || strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) || strings.Contains(path, "${") {
		return "", false
	}
	if !strings.ContainsAny(path, " \"'\\#<>") {
		return path, true
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(path) + `"`, true
}
