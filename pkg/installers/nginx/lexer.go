package nginx

import (
	"bytes"
	"fmt"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// maxParameter is nginx's read buffer: a parameter or a comment that does not end within it is refused
// (NGX_CONF_BUFFER in ngx_conf_file.c).
const maxParameter = 4096

// SyntaxError says where a configuration file cannot be read or edited.
type SyntaxError = webserver.SyntaxError

// word is one parameter as it stands in the text, quotes included, and what nginx makes of it.
type word struct {
	start, end int // span in the text
	value      string
}

// statement is what nginx reads at once: words up to ';', '{', '}' or the end of the file.
type statement struct {
	words []word
	term  byte // ';', '{', '}' or 0 at the end of the file
	pos   int  // offset of term
}

// lexer reads statements as ngx_conf_read_token does. It never copies or changes the text.
type lexer struct {
	path string
	text []byte
	pos  int
}

func (l *lexer) errorAt(pos int, format string, args ...any) error {
	return &SyntaxError{File: l.path, Line: lineAt(l.text, pos), Reason: fmt.Sprintf(format, args...)}
}

// lineAt is the number of the line, from 1, that holds offset pos.
func lineAt(text []byte, pos int) int {
	return 1 + bytes.Count(text[:min(pos, len(text))], []byte{'\n'})
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// next reads one statement.
func (l *lexer) next() (statement, error) {
	var s statement
	for {
		if err := l.skipBlank(); err != nil {
			return s, err
		}
		s.pos = l.pos
		if l.pos == len(l.text) {
			if len(s.words) > 0 {
				return s, l.errorAt(s.words[0].start, "%q has no terminating \";\" or \"}\"", text.Cut(s.words[0].value, text.Value))
			}
			return s, nil
		}
		switch c := l.text[l.pos]; c {
		case ';', '{', '}':
			if (c == '}') != (len(s.words) == 0) {
				return s, l.errorAt(l.pos, "unexpected %q", string(c))
			}
			s.term = c
			l.pos++
			return s, nil
		}
		w, err := l.word()
		if err != nil {
			return s, err
		}
		s.words = append(s.words, w)
	}
}

// skipBlank passes white space and comments. A '#' begins a comment only where a word could begin.
func (l *lexer) skipBlank() error {
	for l.pos < len(l.text) {
		c := l.text[l.pos]
		if c == '#' {
			if err := l.skipComment(); err != nil {
				return err
			}
			continue
		}
		if !isBlank(c) {
			return nil
		}
		l.pos++
	}
	return nil
}

func (l *lexer) skipComment() error {
	rest := l.text[l.pos:]
	n := bytes.IndexByte(rest, '\n')
	if n >= maxParameter || n < 0 && len(rest) > maxParameter {
		return l.errorAt(l.pos, "a comment longer than %d bytes, which nginx does not read", maxParameter)
	}
	if n < 0 {
		n = len(rest) - 1
	}
	l.pos += n + 1
	return nil
}

func (l *lexer) word() (word, error) {
	if c := l.text[l.pos]; c == '"' || c == '\'' {
		return l.quotedWord(c)
	}
	return l.plainWord()
}

// plainWord reads a word that does not begin with a quote. Quotes, '#' and '}' inside it are ordinary characters, a
// backslash protects the next one, and '{' belongs to it after '$'.
func (l *lexer) plainWord() (word, error) {
	start := l.pos
	variable := false
	for first := true; l.pos < len(l.text); first = false {
		c := l.text[l.pos]
		switch {
		case c == '{' && variable:
			l.pos++
			continue
		case c == '\\':
			l.pos++
		case !first && (isBlank(c) || c == ';' || c == '{'):
			if l.tooFar(start) {
				return word{}, l.tooLong(start)
			}
			return word{start, l.pos, unescape(l.text[start:l.pos])}, nil
		}
		variable = c == '$'
		l.pos++
	}
	l.pos = len(l.text)
	return word{}, l.errorAt(start, "%q has no terminating \";\" or \"}\"", text.Cut(string(l.text[start:]), text.Value))
}

// quotedWord reads a word in quotes, which must be followed by white space, ';', '{' or ')'.
func (l *lexer) quotedWord(quote byte) (word, error) {
	start := l.pos
	for l.pos++; l.pos < len(l.text) && l.text[l.pos] != quote; l.pos++ {
		if l.text[l.pos] == '\\' {
			l.pos++
		}
	}
	inside := start + 1
	if l.pos >= len(l.text)-1 {
		l.pos = len(l.text)
		return word{}, l.errorAt(start, "a quoted parameter has no terminating %c", quote)
	}
	w := word{start, l.pos + 1, unescape(l.text[inside:l.pos])}
	l.pos++
	if l.tooFar(inside) {
		return word{}, l.tooLong(start)
	}
	if c := l.text[l.pos]; !isBlank(c) && c != ';' && c != '{' && c != ')' {
		return word{}, l.errorAt(l.pos, "unexpected %q after a quoted parameter", string(rune(c)))
	}
	return w, nil
}

// tooFar reports whether nginx's buffer, which begins at start, is full before nginx knows that the word ends at the
// present character: after white space it reads one more.
func (l *lexer) tooFar(start int) bool {
	last := l.pos - start
	if isBlank(l.text[l.pos]) {
		last++
	}
	return last >= maxParameter
}

func (l *lexer) tooLong(start int) error {
	return l.errorAt(start, "a parameter longer than %d bytes, which nginx does not read", maxParameter)
}

// unescape resolves the escapes that nginx knows: \" \' \\ \t \r \n. Any other backslash stays.
func unescape(raw []byte) string {
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw)
	}
	out := make([]byte, 0, len(raw))
	for i := 0; i < len(raw); i++ {
		if raw[i] == '\\' && i+1 < len(raw) {
			switch raw[i+1] {
			case '"', '\'', '\\':
				i++
			case 't', 'r', 'n':
				i++
				out = append(out, map[byte]byte{'t': '\t', 'r': '\r', 'n': '\n'}[raw[i]])
				continue
			}
		}
		out = append(out, raw[i])
	}
	return string(out)
}
