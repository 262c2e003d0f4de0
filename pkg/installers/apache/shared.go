package apache

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// The shared file has what the certificates of one Apache need together. Its lines stay until the last of them goes.
const (
	sharedHeader  = "# Written by acmed. It goes with the last certificate that acmed installs here.\n"
	sharedModules = "# acmed modules "
)

// sharedFiles enables modules and adds Listen directives where they are missing.
func (p *planner) sharedFiles() ([]change.File, error) {
	listens, err := p.missingListens()
	if err != nil {
		return nil, err
	}
	if len(p.enable) == 0 && len(listens) == 0 {
		return nil, nil
	}
	var files []change.File
	var ids []string
	for _, m := range p.enable {
		links, err := p.files.links(m)
		if err != nil {
			return nil, err
		}
		files = append(files, links...)
		ids = append(ids, m.id)
	}
	shared, err := p.sharedFile(ids, listens)
	return append(files, shared...), err
}

// sharedFile adds to the shared file, or makes it.
func (p *planner) sharedFile(modules, listens []string) ([]change.File, error) {
	lines := slices.Clone(listens)
	if len(modules) > 0 {
		lines = append([]string{sharedModules + strings.Join(modules, " ")}, lines...)
	}
	text := strings.Join(lines, "\n") + "\n"
	if src := p.m.shared(p.files); src != nil {
		return []change.File{{
			Path: filepath.Clean(src.path), Content: append(slices.Clone(src.disk), text...), Was: change.Hash(src.disk), Follow: true,
		}}, nil
	}
	path, link, err := p.files.newShared()
	if err != nil {
		return nil, err
	}
	for _, name := range []string{path, link} {
		if exists(name) {
			return nil, fmt.Errorf("%s exists, and Apache does not include it: remove it, or enable it", name)
		}
	}
	files := []change.File{{Path: path, Content: []byte(sharedHeader + text), Was: change.Absent}}
	if link != "" {
		files = append(files, relativeLink(link, path))
	}
	return files, nil
}

// shared is the shared file as Apache reads it, or nil.
func (m *model) shared(files *layout) *source {
	for _, src := range m.order {
		if files.isShared(src.path) {
			return src
		}
	}
	return nil
}

// enabledModules are the modules that acmed enabled, as the shared file says.
func enabledModules(shared []byte) []string {
	var list []string
	for line := range strings.Lines(string(shared)) {
		if names, ok := strings.CutPrefix(line, sharedModules); ok {
			list = append(list, strings.Fields(names)...)
		}
	}
	return list
}

// takeShared takes the shared file away, and the modules that it lists, when no other certificate is left.
func (m *model) takeShared(files *layout) ([]change.File, error) {
	shared := m.shared(files)
	if shared == nil || m.hasOthers(files.certificate) {
		return nil, nil
	}
	for line := range strings.Lines(string(shared.disk)) {
		if line != sharedHeader && !strings.HasPrefix(line, sharedModules) && !strings.HasPrefix(line, "Listen ") {
			return nil, &installers.ConflictError{Path: shared.real, Reason: "this file was modified since acmed created it: revert the change, or remove the file"}
		}
	}
	list := files.removal(shared)
	for _, id := range enabledModules(shared.disk) {
		for _, ext := range []string{".load", ".conf"} {
			link := filepath.Join(files.dir, "mods-enabled", id+ext)
			want := filepath.Join("..", "mods-available", id+ext)
			if target, err := os.Readlink(link); err == nil && target == want {
				list = append(list, change.File{Path: link, Link: target, Remove: true, Was: change.LinkHash(target)})
			}
		}
	}
	return list, nil
}

// hasOthers reports whether acmed serves another certificate in this configuration.
func (m *model) hasOthers(certificate string) bool {
	return slices.ContainsFunc(m.order, func(src *source) bool {
		for line := range strings.Lines(string(src.disk)) {
			name, ok := strings.CutPrefix(strings.TrimSpace(line), markBegin)
			if ok && name != certificate {
				return true
			}
		}
		return false
	})
}
