package nginx

import (
	"bytes"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/webserver"
)

// markedLine is one line of an edited file and the kinds of directives that stand on it.
type markedLine struct {
	text    string
	number  int
	added   bool // a directive that acmed added
	pointed bool // a directive of the operator's that acmed pointed at the lineage
	others  bool // anything else
}

func (l markedLine) isOurs() bool { return !l.others && (l.added || l.pointed) }

// unmerge takes acmed's lines out of a file that was edited after they were written. It compares the file with the
// original, and of each difference takes back what is acmed's.
func (e *editor) unmerge(path string, original, now []byte) ([]byte, error) {
	p := &planner{cfg: e.cfg, target: e.target, bundle: &certs.Bundle{RSA: &certs.Bundle{}}}
	lines, err := p.markLines(path, bytes.ReplaceAll(now, []byte(p.offMark()), nil))
	if err != nil {
		return nil, err
	}
	old := webserver.SplitLines(original)
	lines = p.rejoin(old, lines)
	hunks, ok := webserver.CompareLines(old, texts(lines))
	if !ok {
		return nil, &SyntaxError{File: path, Line: 1, Reason: "the file was rewritten since acmed edited it: take acmed's lines out by hand"}
	}
	var out []string
	at := 0
	for _, h := range hunks {
		out = append(out, texts(lines[at:h.C])...)
		back, ok := p.revert(old[h.A:h.B], lines[h.C:h.D])
		if !ok {
			line := 1
			if h.C > 0 {
				line = lines[h.C-1].number + 1
			}
			return nil, &SyntaxError{File: path, Line: line, Reason: "acmed's lines and later changes meet here: take acmed's out by hand"}
		}
		out = append(out, back...)
		at = h.D
	}
	content := []byte(strings.Join(append(out, texts(lines[at:])...), ""))
	return content, p.checkGone(path, content)
}

// revert is what becomes of lines that were others before. Lines that acmed added go, whatever else changed beside them.
// Certificate directives that acmed pointed at the lineage come back if nothing else changed with them. When it cannot be
// told who changed such directives, or took them away, ok is false.
func (p *planner) revert(before []string, now []markedLine) (back []string, ok bool) {
	var kept []markedLine
	ours, pointed := len(now) > 0, false
	for _, l := range now {
		if !l.added || l.others {
			kept = append(kept, l)
		}
		ours = ours && l.isOurs()
		pointed = pointed || l.pointed
	}
	pairs := countPairs(before)
	onlyPairs := pairs > 0 && !slices.ContainsFunc(before, func(line string) bool { return countPairs([]string{line}) == 0 })
	switch {
	case p.isRewrap(before, texts(kept)), ours && onlyPairs:
		return before, true
	case pointed, pairs > countPairs(texts(now)):
		return nil, false
	}
	return texts(kept), true
}

// rejoin makes lines one again that were one until acmed put its own between them.
func (p *planner) rejoin(before []string, now []markedLine) []markedLine {
	var out []markedLine
	start := -1 // where acmed's lines before this one begin in out
	for _, l := range now {
		ours := l.added && !l.others
		if !ours && start > 0 && strings.TrimSpace(l.text) != "" && strings.TrimSpace(out[start-1].text) != "" {
			halves := []string{out[start-1].text, l.text}
			whole := func(line string) bool { return p.isRewrap([]string{line}, halves) }
			if i := slices.IndexFunc(before, whole); i >= 0 {
				out = out[:start-1]
				l = markedLine{text: before[i], others: true, number: l.number}
			}
		}
		if !ours {
			start = -1
		} else if start < 0 {
			start = len(out)
		}
		out = append(out, l)
	}
	return out
}

// countPairs counts certificate directives of the operator's.
func countPairs(lines []string) int {
	n := 0
	for _, line := range lines {
		if !strings.Contains(line, "# "+markerPrefix) {
			n += strings.Count(line, "ssl_certificate")
		}
	}
	return n
}

// isRewrap reports whether lines differ from what they were only in where acmed broke one to put its own behind, and in
// the word that it added to a listen directive.
func (p *planner) isRewrap(before, now []string) bool {
	joined := func(lines []string) string {
		text := strings.NewReplacer("\r", "", "\n", "").Replace(strings.Join(lines, ""))
		if p.cfg.HTTP2 {
			text = strings.ReplaceAll(text, http2Word, "")
		}
		return text
	}
	return len(now) >= len(before) && joined(now) == joined(before)
}

// checkGone makes sure that the text is sound and has nothing of the lineage in it.
func (p *planner) checkGone(path string, text []byte) error {
	lines, err := p.markLines(path, text)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(lines, func(l markedLine) bool { return l.added || l.pointed }); i >= 0 {
		return &SyntaxError{File: path, Line: i + 1, Reason: "this line is acmed's and would stay: take it out by hand"}
	}
	return nil
}

// markLines cuts a file into lines and notes what stands on them.
func (p *planner) markLines(path string, text []byte) ([]markedLine, error) {
	src, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	var lines []markedLine
	var ends []int // offset behind each line
	at := 0
	for _, line := range webserver.SplitLines(text) {
		at += len(line)
		lines = append(lines, markedLine{text: line, number: len(lines) + 1})
		ends = append(ends, at)
	}
	p.markAll(src.root, func(start, end int, kind markedLine) {
		first, _ := slices.BinarySearch(ends, start+1)
		last, _ := slices.BinarySearch(ends, end)
		for i := first; i <= last; i++ {
			l := &lines[i]
			l.added, l.pointed, l.others = l.added || kind.added, l.pointed || kind.pointed, l.others || kind.others
		}
	})
	return lines, nil
}

// markAll calls note for the text of every directive; of a block that acmed did not add, for its head and its end.
func (p *planner) markAll(ds []*directive, note func(start, end int, kind markedLine)) {
	for _, d := range ds {
		kind := markedLine{added: p.isManaged(d)}
		kind.pointed = !kind.added && p.pointsHere(d)
		kind.others = !kind.added && !kind.pointed
		if d.open < 0 || kind.added {
			note(d.start, d.end, kind)
			continue
		}
		note(d.start, d.open, kind)
		p.markAll(d.children, note)
		note(d.end-1, d.end, kind)
	}
}

// pointsHere reports whether a directive names a file of the lineage.
func (p *planner) pointsHere(d *directive) bool {
	if !d.is("ssl_certificate") && !d.is("ssl_certificate_key") {
		return false
	}
	return slices.ContainsFunc(p.pairs(), func(f installers.Pair) bool { return d.words[1].value == f.Cert || d.words[1].value == f.Key })
}

func texts(lines []markedLine) []string {
	list := make([]string, len(lines))
	for i, l := range lines {
		list[i] = l.text
	}
	return list
}
