package nginx

import (
	"bytes"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// A file that several sites include, or that a package brings, is not edited. The server block stops including it: its line
// becomes a comment, and all that the file says besides the pair is copied into the block.

// copiedNote is behind the marker of such copies.
const copiedNote = " (copied)"

// offMark begins the comments that were include directives.
const offMark = "# acmed off "

// offMark begins those of this certificate.
func (p *planner) offMark() string { return offMark + p.target.Certificate + ": " }

// isCopied reports whether a directive is a copy.
func (p *planner) isCopied(d *directive) bool {
	words, _ := comment(d.src.text, d.end)
	return words == p.marker()+copiedNote
}

// isShared reports whether a directive of a block stands in a file that is not the block's alone. A file that another block
// stopped including is for that block too.
func (p *planner) isShared(d *directive, s *server) bool {
	return d.src != s.d.src && (webserver.FromPackage(d.src.real) || slices.ContainsFunc(p.m.servers, func(other *server) bool {
		isPicked := slices.ContainsFunc(p.picks, func(k *pick) bool { return k.Site == other })
		return other != s && (p.m.users[d.src][other] && !isPicked || bytes.Contains(other.d.src.text[other.d.start:other.d.end], []byte(offMark)))
	}))
}

// detach takes the includes of shared files with a pair out of a block, notes what has to be copied, and returns the
// directives of the pair that stay.
func (p *planner) detach(k *pick, pair []*directive) ([]*directive, error) {
	gone := map[*directive]bool{}
	for _, d := range pair {
		if gone[d] || !p.isShared(d, k.Site) {
			continue
		}
		include := p.includeOf(k.Site.d.children, d)
		if include == nil {
			return nil, d.errorf("this file is for several sites: give the server block at %s its own certificate directives", k.Site.d.place())
		}
		text := include.src.text
		_, first := indentAt(text, include.start)
		if _, free := comment(text, include.end); !first || !free {
			return nil, include.errorf("%s is for several sites and has the certificate of this one: put the include on a separate line", d.src.path)
		}
		p.edit(include.src, change.Edit{Start: include.start, End: include.start, Text: p.offMark()})
		p.copies[k.Site] = append(p.copies[k.Site], p.copiesOf(include, gone)...)
	}
	return slices.DeleteFunc(slices.Clone(pair), func(d *directive) bool { return gone[d] }), nil
}

// includeOf is the include directive among ds that leads to d, or nil.
func (p *planner) includeOf(ds []*directive, d *directive) *directive {
	for _, include := range ds {
		for _, src := range p.tree.found[include] {
			if src == d.src || p.includeOf(src.root, d) != nil {
				return include
			}
		}
	}
	return nil
}

// copiesOf are the directives that an include leads to, without pairs, which are noted as gone.
func (p *planner) copiesOf(include *directive, gone map[*directive]bool) (lines []string) {
	for _, src := range p.tree.found[include] {
		for _, d := range src.root {
			switch {
			case d.is("ssl_certificate"), d.is("ssl_certificate_key"):
				gone[d] = true
			case d.is("include") && p.hasPair(d):
				lines = append(lines, p.copiesOf(d, gone)...)
			default:
				lines = append(lines, string(src.text[d.start:d.end]))
			}
		}
	}
	return lines
}

// hasPair reports whether an include leads to a pair.
func (p *planner) hasPair(include *directive) bool {
	return slices.ContainsFunc(p.tree.found[include], func(src *source) bool {
		return slices.ContainsFunc(src.root, func(d *directive) bool {
			return d.is("ssl_certificate") || d.is("ssl_certificate_key") || d.is("include") && p.hasPair(d)
		})
	})
}

// keptCopies are the copies that a block has from before.
func (p *planner) keptCopies(s *server) (lines []string) {
	for _, d := range s.d.children {
		if p.isCopied(d) {
			lines = append(lines, string(s.d.src.text[d.start:d.end]))
		}
	}
	return lines
}

// attach makes a block include again what it stopped including.
func (p *planner) attach(s *server) {
	text, mark := s.d.src.text, p.offMark()
	for at := s.d.start; ; {
		i := strings.Index(string(text[at:s.d.end]), mark)
		if i < 0 {
			return
		}
		at += i + len(mark)
		p.edit(s.d.src, change.Edit{Start: at - len(mark), End: at})
	}
}
