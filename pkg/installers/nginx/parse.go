package nginx

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/acmed/acmed/internal/text"
)

// The bounds on what is read at all. Real files stay below a tenth of them; nginx itself has no bound on nesting, and a
// file that needs more is refused instead of edited.
const (
	maxFileSize = 16 << 20 // bytes
	maxDepth    = 100      // blocks within blocks
)

// source is one configuration file and the directives in it.
type source struct {
	path string // as nginx opens it, for messages
	real string // with symbolic links resolved: what an edit writes
	text []byte
	root []*directive
}

// directive is one directive with its place in the text.
type directive struct {
	src        *source
	words      []word // name and arguments
	start, end int    // from the name to behind the ';' or the closing '}'
	open       int    // offset behind '{', or -1 for a directive without a block
	children   []*directive
}

func (d *directive) name() string { return d.words[0].value }

// args are the values behind the name.
func (d *directive) args() []string {
	list := make([]string, 0, len(d.words)-1)
	for _, w := range d.words[1:] {
		list = append(list, w.value)
	}
	return list
}

// is reports whether d is a simple directive of that name with at least one argument.
func (d *directive) is(name string) bool {
	return d.open < 0 && len(d.words) > 1 && d.name() == name
}

func (d *directive) isBlock(name string) bool { return d.open >= 0 && d.name() == name }

// place is the directive's file and line, for messages.
func (d *directive) place() string {
	return fmt.Sprintf("%s:%d", d.src.path, lineAt(d.src.text, d.start))
}

// errorf makes an error that begins with the directive's file and line.
func (d *directive) errorf(format string, args ...any) error {
	l := lexer{path: d.src.path, text: d.src.text}
	return l.errorAt(d.start, format, args...)
}

// parse reads one file. The directives' spans lie within text, which is kept and never changed.
func parse(path string, content []byte) (*source, error) {
	src := &source{path: path, real: path, text: content}
	l := &lexer{path: path, text: content}
	if err := checkText(l); err != nil {
		return nil, err
	}
	var blocks []*directive
	for {
		s, err := l.next()
		if err != nil {
			return nil, err
		}
		switch s.term {
		case 0:
			if len(blocks) > 0 {
				return nil, blocks[len(blocks)-1].errorf("the block %q is not closed", text.Cut(blocks[len(blocks)-1].name(), text.Value))
			}
			return src, nil
		case '}':
			if len(blocks) == 0 {
				return nil, l.errorAt(s.pos, "unexpected \"}\"")
			}
			blocks[len(blocks)-1].end = l.pos
			blocks = blocks[:len(blocks)-1]
			continue
		}
		d := &directive{src: src, words: s.words, start: s.words[0].start, end: l.pos, open: -1}
		if len(blocks) > 0 {
			blocks[len(blocks)-1].children = append(blocks[len(blocks)-1].children, d)
		} else {
			src.root = append(src.root, d)
		}
		if s.term == ';' {
			continue
		}
		if blocks, err = l.enter(d, blocks); err != nil {
			return nil, err
		}
	}
}

// enter opens the block of d: the blocks that are open now, with d unless it holds Lua, which is skipped.
func (l *lexer) enter(d *directive, blocks []*directive) ([]*directive, error) {
	d.open = l.pos
	if strings.HasSuffix(d.name(), "_by_lua_block") {
		if d.end = luaEnd(l.text, l.pos); d.end < 0 {
			return nil, d.errorf("the Lua block is not closed")
		}
		l.pos = d.end
		return blocks, nil
	}
	if len(blocks) == maxDepth {
		return nil, d.errorf("blocks are nested more than %d deep", maxDepth)
	}
	return append(blocks, d), nil
}

func checkText(l *lexer) error {
	if len(l.text) > maxFileSize {
		return l.errorAt(0, "the file has %d bytes, at most %d are read", len(l.text), maxFileSize)
	}
	if bytes.HasPrefix(l.text, []byte("\xef\xbb\xbf")) {
		return l.errorAt(0, "the file begins with a byte order mark, which nginx takes for part of the first directive")
	}
	if i := bytes.IndexByte(l.text, 0); i >= 0 {
		return l.errorAt(i, "the file has a NUL byte")
	}
	return nil
}
