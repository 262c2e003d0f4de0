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
	marks := lineMarks{}
	p.mark(src.root, marks)
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
	marks := lineMarks{}
	p.mark(src.root, marks)
	for line, m := range marks {
		if m.ours {
			return &SyntaxError{File: path, Line: line + 1, Reason: "this line is acmed's and would stay: take it out by hand"}
		}
	}
	return nil
}

// lineMarks says of each line, from 0, whether a directive of acmed's or of somebody else's stands on it.
type lineMarks map[int]struct{ ours, others bool }

func (m lineMarks) isOurs(line int) bool { return m[line].ours && !m[line].others }

// revert is what becomes of a hunk. ok is false when lines of acmed's and of somebody else's were changed as one.
func (m lineMarks) revert(h hunk, old, lines []string) (text string, ok bool) {
	var kept []string
	for i := h.c; i < h.d; i++ {
		if !m.isOurs(i) {
			kept = append(kept, lines[i])
		}
	}
	switch {
	case len(kept) == 0 && h.c < h.d:
		return strings.Join(old[h.a:h.b], ""), true
	case len(kept) == h.d-h.c:
		gone := slices.ContainsFunc(old[h.a:h.b], func(s string) bool { return strings.Contains(s, "ssl_certificate") })
		return strings.Join(kept, ""), !gone
	}
	return strings.Join(kept, ""), h.a == h.b
}

// mark notes the lines of all directives. A line with a directive of acmed's in the middle of another counts for both.
func (p *planner) mark(ds []*directive, marks lineMarks) {
	for _, d := range ds {
		ours := p.isManaged(d) || p.pointsHere(d)
		spans := [][2]int{{d.start, d.end}}
		if d.open >= 0 && !ours {
			spans = [][2]int{{d.start, d.open}, {d.end - 1, d.end}}
			p.mark(d.children, marks)
		}
		for _, span := range spans {
			for line := lineAt(d.src.text, span[0]); line <= lineAt(d.src.text, span[1]-1); line++ {
				m := marks[line-1]
				m.ours, m.others = m.ours || ours, m.others || !ours
				marks[line-1] = m
			}
		}
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
