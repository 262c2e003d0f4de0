package webserver

import (
	"cmp"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// maxMerged bounds the memory of one round, in bytes of new content. What is beyond it comes in the next one.
const maxMerged = 64 << 20

// merger puts the edits of several targets together, which were all planned from the same files.
type merger struct {
	files map[string]*mergedFile
	order []string
	total int
}

// mergedFile is a file with the edits of all targets so far.
type mergedFile struct {
	change.File            // as the last target leaves it
	was         string     // of the file on disk
	base        []string   // the lines on disk; nil until a second target edits it
	edits       []lineEdit // in the order of the lines
}

// lineEdit puts lines in the place of base[from:to].
type lineEdit struct {
	from, to int
	lines    []string
}

func newMerger() *merger { return &merger{files: map[string]*mergedFile{}} }

// add returns the files of a target as a [change.Part] wants them: with the edits of those before it. ok is false when the
// two cannot be made together; then nothing was added.
func (m *merger) add(files []change.File) (part []change.File, ok bool) {
	fresh := make([]*mergedFile, len(files))
	size := 0
	for i, f := range files {
		old := m.files[key(f.Path)]
		merged, ok := old.with(f)
		if !ok {
			return nil, false
		}
		fresh[i] = merged
		size += len(merged.Content)
	}
	if m.total > 0 && m.total+size > maxMerged {
		return nil, false
	}
	m.total += size
	for i := range files {
		path := key(files[i].Path)
		one := fresh[i].File
		if old := m.files[path]; old != nil {
			one.Was = change.Hash(old.Content)
		} else {
			m.order = append(m.order, path)
		}
		m.files[path] = fresh[i]
		part = append(part, one)
	}
	return part, true
}

// key is one name for a file that is reached by several.
func key(path string) string {
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		return resolved
	}
	return path
}

// result is what becomes of every file.
func (m *merger) result() []change.File {
	list := make([]change.File, len(m.order))
	for i, path := range m.order {
		list[i] = m.files[path].File
	}
	return list
}

// with is the file with one more target's edit.
func (m *mergedFile) with(f change.File) (*mergedFile, bool) {
	if m == nil {
		return &mergedFile{File: f, was: f.Was}, true
	}
	if !mergeable(m.File) || !mergeable(f) || f.Was != m.was {
		return nil, false
	}
	base, edits, ok := m.read(f.Path)
	if !ok {
		return nil, false
	}
	more, ok := editsOf(base, f.Content)
	if !ok {
		return nil, false
	}
	edits = slices.Concat(edits, more)
	slices.SortStableFunc(edits, func(a, b lineEdit) int {
		return cmp.Or(a.from-b.from, a.to-b.to)
	})
	for i := 1; i < len(edits); i++ {
		if a, b := edits[i-1], edits[i]; b.from < a.to || a.from == b.from {
			return nil, false
		}
	}
	f.Content = apply(base, edits)
	return &mergedFile{File: f, was: m.was, base: base, edits: edits}, true
}

// read returns the lines on disk and the edits so far. ok is false when the file is not the one that they were planned from.
func (m *mergedFile) read(path string) (base []string, edits []lineEdit, ok bool) {
	if m.base != nil {
		return m.base, m.edits, true
	}
	disk, err := installers.ReadRegular(path)
	if err != nil || change.Hash(disk) != m.was {
		return nil, nil, false
	}
	base = SplitLines(disk)
	edits, ok = editsOf(base, m.Content)
	return base, edits, ok
}

// mergeable reports whether the file is one that exists and is edited.
func mergeable(f change.File) bool {
	return f.Link == "" && !f.Remove && f.Was != change.Absent && f.Was != "" && !f.Secret
}

func editsOf(base []string, content []byte) ([]lineEdit, bool) {
	now := SplitLines(content)
	hunks, ok := CompareLines(base, now)
	edits := make([]lineEdit, len(hunks))
	for i, h := range hunks {
		edits[i] = lineEdit{h.A, h.B, now[h.C:h.D]}
	}
	return edits, ok
}

func apply(base []string, edits []lineEdit) []byte {
	var out strings.Builder
	at := 0
	write := func(lines []string) {
		for _, line := range lines {
			out.WriteString(line)
		}
	}
	for _, e := range edits {
		write(base[at:e.from])
		write(e.lines)
		at = e.to
	}
	write(base[at:])
	return []byte(out.String())
}

// SplitLines cuts text behind every newline.
func SplitLines(text []byte) []string {
	lines := strings.SplitAfter(string(text), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}
