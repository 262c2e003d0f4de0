package apache

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// maxDepth bounds sections within sections. Real files stay below a tenth of it.
const maxDepth = 100

// SyntaxError says where a configuration file cannot be read or edited.
type SyntaxError = webserver.SyntaxError

// directive is one directive or section with its place in the text.
type directive struct {
	src      *source
	parent   *directive
	name     string // as written, of a section without the '<'
	args     string // the rest of the line, continuations joined, of a section with everything up to the last '>'
	section  bool
	start    int // its first character
	end      int // behind its line, the line ending and continuation lines included
	line     int // number of its last line, by which Apache calls it
	close    int // of a section: where its closing line begins; the end of the text when it has none
	closeEnd int // behind its closing line
	children []*directive
}

// is compares the name as Apache does, without regard to case.
func (d *directive) is(name string) bool { return !d.section && strings.EqualFold(d.name, name) }

func (d *directive) isSection(name string) bool { return d.section && strings.EqualFold(d.name, name) }

// errorf makes an error that begins with the directive's file and line.
func (d *directive) errorf(format string, args ...any) error {
	return &SyntaxError{File: d.src.path, Line: d.src.actual(d.line), Reason: fmt.Sprintf(format, args...)}
}

// logical is what Apache reads as one line: physical lines joined where one ends in a backslash.
type logical struct {
	text       string // without white space at both ends
	start, end int
	first      int // its first character that is not white space
	number     int // of its last physical line
}

// lineReader reads lines as ap_cfg_getline does. It never copies or changes the text.
type lineReader struct {
	text   []byte
	pos    int
	number int
}

const blanks = " \t\n\v\f\r"

// next reads one logical line; ok is false at the end of the text.
func (r *lineReader) next() (l logical, ok bool) {
	if r.pos == len(r.text) {
		return l, false
	}
	l.start = r.pos
	var joined []byte
	for more := true; more && r.pos < len(r.text); {
		r.number++
		line, _, ended := bytes.Cut(r.text[r.pos:], []byte("\n"))
		joined = append(joined, line...)
		r.pos += len(line)
		more = false
		if ended {
			r.pos++
			// Apache looks at the end of what it has joined: of two backslashes one is left, and counts before an empty line.
			var rest []byte
			if rest, more = bytes.CutSuffix(bytes.TrimSuffix(joined, []byte("\r")), []byte(`\`)); more {
				joined = rest
			}
		}
	}
	raw := r.text[l.start:r.pos]
	l.first = l.start + len(raw) - len(bytes.TrimLeft(raw, blanks))
	l.text, l.end, l.number = strings.Trim(string(joined), blanks), r.pos, r.number
	return l, true
}

// isComment reports whether Apache ignores the line. A continued comment goes on in the next line.
func (l *logical) isComment() bool { return l.text == "" || l.text[0] == '#' }

// word reads the first word of a line as ap_getword_conf does: in quotes or up to white space, a backslash protects
// itself and, in quotes, the quote. A missing closing quote is closed by the end of the line.
func word(line string) (value, rest string) {
	line = strings.TrimLeft(line, blanks)
	ends, escaped := blanks, `\`
	quoted := line != "" && (line[0] == '"' || line[0] == '\'')
	if quoted {
		ends, escaped = line[:1], `\`+line[:1]
		line = line[1:]
	}
	var b strings.Builder
	i := 0
	for ; i < len(line) && strings.IndexByte(ends, line[i]) < 0; i++ {
		if line[i] == '\\' && i+1 < len(line) && strings.IndexByte(escaped, line[i+1]) >= 0 {
			i++
		}
		b.WriteByte(line[i])
	}
	if quoted && i < len(line) {
		i++
	}
	return b.String(), strings.TrimLeft(line[i:], blanks)
}

// words are all words of a line.
func words(line string) []string {
	var list []string
	for line = strings.TrimLeft(line, blanks); line != ""; {
		var w string
		w, line = word(line)
		list = append(list, w)
	}
	return list
}

// parser builds the sections of one file.
type parser struct {
	src    *source
	reader lineReader
	open   *directive // the innermost section; nil at the top
	depth  int
}

// parse reads the directives of s.text. Their spans lie within it.
func (s *source) parse() error {
	if err := s.checkText(); err != nil {
		return err
	}
	p := &parser{src: s, reader: lineReader{text: s.text}}
	for {
		l, ok := p.reader.next()
		if !ok {
			return p.finish()
		}
		if l.isComment() {
			continue
		}
		if err := p.line(l); err != nil {
			return err
		}
	}
}

func (s *source) checkText() error {
	if bytes.HasPrefix(s.text, []byte("\xef\xbb\xbf")) {
		return &SyntaxError{File: s.path, Line: 1, Reason: "the file begins with a byte order mark, which Apache takes for part of the first directive"}
	}
	if i := bytes.IndexByte(s.text, 0); i >= 0 {
		return &SyntaxError{File: s.path, Line: s.actual(1 + bytes.Count(s.text[:i], []byte{'\n'})), Reason: "the file has a NUL byte"}
	}
	return nil
}

func (p *parser) errorf(l logical, format string, args ...any) error {
	return &SyntaxError{File: p.src.path, Line: p.src.actual(l.number), Reason: fmt.Sprintf(format, args...)}
}

func (p *parser) line(l logical) error {
	name, rest := word(l.text)
	switch {
	case strings.HasPrefix(name, "</"):
		return p.closing(l, name)
	case strings.HasPrefix(name, "<"):
		return p.opening(l, name, rest)
	}
	p.add(&directive{src: p.src, name: name, args: rest, start: l.first, end: l.end, line: l.number})
	return nil
}

func (p *parser) add(d *directive) {
	d.parent = p.open
	if p.open == nil {
		p.src.root = append(p.src.root, d)
	} else {
		p.open.children = append(p.open.children, d)
	}
}

func (p *parser) opening(l logical, name, rest string) error {
	name = name[1:]
	if i := strings.LastIndexByte(rest, '>'); i >= 0 {
		rest = rest[:i]
	} else if bare, ok := strings.CutSuffix(name, ">"); ok {
		name, rest = bare, ""
	} else {
		return p.errorf(l, "the section <%s> has no closing >", text.Short(name, text.Value))
	}
	d := &directive{src: p.src, name: name, args: rest, section: true, start: l.first, end: l.end, line: l.number}
	p.add(d)
	if d.isSection("Macro") || d.isSection("Perl") {
		return p.skip(d)
	}
	if p.depth++; p.depth > maxDepth {
		return p.errorf(l, "sections are nested more than %d deep", maxDepth)
	}
	p.open = d
	return nil
}

// closing ends the innermost section. Apache ignores what stands behind the closing tag.
func (p *parser) closing(l logical, name string) error {
	tag, ok := strings.CutSuffix(name[2:], ">")
	switch {
	case !ok:
		return p.errorf(l, "%s has no closing >", text.Short(name, text.Value))
	case p.open == nil:
		return p.errorf(l, "%s without its section", text.Short(name, text.Value))
	case !strings.EqualFold(tag, p.open.name):
		return p.errorf(l, "expected </%s> but saw %s", text.Short(p.open.name, text.Value), text.Short(name, text.Value))
	}
	p.open.close, p.open.closeEnd = l.start, l.end
	p.open = p.open.parent
	p.depth--
	return nil
}

// skip passes a section whose lines are not directives: a macro's, whose parameters can be anything, or a program.
func (p *parser) skip(d *directive) error {
	for depth := 1; ; {
		l, ok := p.reader.next()
		if !ok {
			return d.errorf("<%s> is not closed", text.Short(d.name, text.Value))
		}
		switch name, _ := word(l.text); {
		case strings.EqualFold(name, "</"+d.name+">"):
			if depth--; depth == 0 {
				d.close, d.closeEnd = l.start, l.end
				return nil
			}
		case strings.EqualFold(name, "<"+d.name):
			depth++
		}
	}
}

// finish closes what may stay open: Apache ends a condition that holds with its file.
func (p *parser) finish() error {
	for d := p.open; d != nil; d = d.parent {
		if !d.isCondition() {
			return d.errorf("<%s> is not closed", text.Short(d.name, text.Value))
		}
		d.close, d.closeEnd = len(p.src.text), len(p.src.text)
	}
	return nil
}
