package nginx

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Uninstall gives the configuration back. Files that nobody else edited get their old bytes. From the others only what
// acmed wrote is taken, line by line; where that cannot be told from somebody else's edit the error says file and line,
// and nothing at all is changed.
func (n *Installer) Uninstall(ctx context.Context) error {
	unlock, err := n.server.Lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	err = installers.Undo(ctx, n.target.Journal, n.server.Test, n.server.Reload)
	if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) {
		return err
	}
	originals, err := installers.Originals(ctx, n.target.Journal)
	if err != nil {
		return err
	}
	var files []installers.File
	var errs []error
	for _, o := range originals {
		file, err := n.withdraw(o)
		errs = append(errs, err)
		if file != nil {
			files = append(files, *file)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	change := installers.Change{Journal: n.target.Journal, Files: files}
	if _, err := change.Apply(ctx); err != nil {
		return err
	}
	if err := installers.Forget(ctx, n.target.Journal); err != nil {
		return err
	}
	if err := n.server.Test(ctx); err != nil {
		return fmt.Errorf("acmed's lines are gone, but nginx was not reloaded because its test fails: %w", err)
	}
	err = n.server.Reload(ctx)
	if stopped := (*installers.NotRunningError)(nil); errors.As(err, &stopped) {
		return nil
	}
	return err
}

// withdraw is the file without what acmed wrote; nil when there is nothing of it.
func (n *Installer) withdraw(o installers.Original) (*installers.File, error) {
	now, err := readRegular(o.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	file := &installers.File{Path: o.Path, Was: installers.Hash(now), Content: o.Content}
	switch {
	case o.Existed && string(now) == string(o.Content):
		return nil, nil
	case !o.Existed && file.Was == o.Written:
		file.Remove = true
	case !o.Existed:
		return nil, &installers.ConflictError{Path: o.Path, Reason: "acmed made this file and somebody changed it: remove it by hand"}
	case file.Was != o.Written || o.Edited:
		file.Content, err = n.unmerge(o.Path, o.Content, now)
	}
	return file, err
}

// unmerge takes acmed's lines out of a file that was edited after they were written.
func (n *Installer) unmerge(path string, original, now []byte) ([]byte, error) {
	p := &planner{target: n.target, bundle: &certs.Bundle{RSA: &certs.Bundle{}}}
	src, err := parse(path, now)
	if err != nil {
		return nil, err
	}
	marks := p.mark(src)
	old, lines := splitLines(original), splitLines(now)
	hunks, ok := compareLines(old, lines)
	if !ok {
		return nil, &SyntaxError{File: path, Line: 1, Reason: "the file was rewritten since acmed edited it: take acmed's lines out by hand"}
	}
	var out strings.Builder
	at := 0
	for _, h := range hunks {
		out.WriteString(strings.Join(lines[at:h.c], ""))
		text, ok := marks.revert(h, old, lines)
		if !ok {
			return nil, &SyntaxError{File: path, Line: h.c + 1, Reason: "acmed's lines and later changes meet here: take acmed's out by hand"}
		}
		out.WriteString(text)
		at = h.d
	}
	out.WriteString(strings.Join(lines[at:], ""))
	return []byte(out.String()), p.checkGone(path, out.String())
}

// checkGone makes sure that the text is sound and has nothing of the lineage in it.
func (p *planner) checkGone(path, text string) error {
	src, err := parse(path, []byte(text))
	if err != nil {
		return err
	}
	marks := p.mark(src)
	for line := range splitLines(src.text) {
		if m := marks[line]; m.added || m.pointed {
			return &SyntaxError{File: path, Line: line + 1, Reason: "this line is acmed's and would stay: take it out by hand"}
		}
	}
	return nil
}

// lineMarks says of each line, from 0, what kinds of directives stand on it.
type lineMarks map[int]lineMark

type lineMark struct {
	added   bool // a directive that acmed added
	pointed bool // a directive of the operator's that acmed pointed at the lineage
	others  bool // anything else
}

// revert is what becomes of a hunk. Lines that acmed added go, whatever else changed beside them. Certificate directives
// that acmed pointed at the lineage come back only if nothing else changed with them. Of directives that are gone without
// a trace nobody knows who took them. In those cases ok is false.
func (m lineMarks) revert(h hunk, old, lines []string) (text string, ok bool) {
	var kept []string
	for i := h.c; i < h.d; i++ {
		if !m[i].added || m[i].others {
			kept = append(kept, lines[i])
		}
	}
	before := old[h.a:h.b]
	hadPair := slices.ContainsFunc(before, isPairLine)
	ours := m.allOurs(h)
	switch {
	case sameButLineBreaks(kept, before):
		return strings.Join(before, ""), true
	case hadPair && h.c == h.d:
		return "", false
	case !m.anyPointed(h) && (!ours || !hadPair):
		return strings.Join(kept, ""), true
	}
	onlyPairs := !slices.ContainsFunc(before, func(line string) bool { return !isPairLine(line) })
	return strings.Join(before, ""), ours && onlyPairs
}

// anyPointed reports whether a hunk has a directive that acmed pointed at the lineage.
func (m lineMarks) anyPointed(h hunk) bool {
	for i := h.c; i < h.d; i++ {
		if m[i].pointed {
			return true
		}
	}
	return false
}

// allOurs reports whether every line of a hunk has directives of acmed's and nothing else.
func (m lineMarks) allOurs(h hunk) bool {
	for i := h.c; i < h.d; i++ {
		if m[i].others || !m[i].added && !m[i].pointed {
			return false
		}
	}
	return h.c < h.d
}

// isPairLine reports whether a line has a certificate directive of the operator's.
func isPairLine(line string) bool {
	return strings.Contains(line, "ssl_certificate") && !strings.Contains(line, "# "+markerPrefix)
}

// sameButLineBreaks reports whether two pieces of text differ only in where acmed broke a line to put its own behind.
func sameButLineBreaks(a, b []string) bool {
	joined := func(lines []string) string {
		return strings.NewReplacer("\r", "", "\n", "").Replace(strings.Join(lines, ""))
	}
	return len(a) > len(b) && joined(a) == joined(b)
}

// mark looks at the lines of all directives of a file.
func (p *planner) mark(src *source) lineMarks {
	marks := lineMarks{}
	var ends []int // offset behind each line
	at := 0
	for _, line := range splitLines(src.text) {
		at += len(line)
		ends = append(ends, at)
	}
	p.markAll(src.root, func(start, end int, kind lineMark) {
		first, _ := slices.BinarySearch(ends, start+1)
		last, _ := slices.BinarySearch(ends, end)
		for line := first; line <= last; line++ {
			m := marks[line]
			marks[line] = lineMark{m.added || kind.added, m.pointed || kind.pointed, m.others || kind.others}
		}
	})
	return marks
}

// markAll calls note for the text of every directive; of a block that acmed did not add, for its head and its end.
func (p *planner) markAll(ds []*directive, note func(start, end int, kind lineMark)) {
	for _, d := range ds {
		kind := lineMark{added: p.isManaged(d)}
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
	return slices.ContainsFunc(p.pairs(), func(f pair) bool { return d.words[1].value == f.cert || d.words[1].value == f.key })
}

// splitLines cuts text behind every newline.
func splitLines(text []byte) []string {
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
