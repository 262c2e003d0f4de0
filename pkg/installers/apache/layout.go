package apache

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/acmed/acmed/pkg/installers"
)

// layout is where a distribution keeps the parts of Apache's configuration.
type layout struct {
	kind        string // layoutDebian, layoutRHEL, or "" for neither
	dir         string // that of the main file, or the one above it with layoutRHEL
	certificate string
}

// newLayout follows the operator, or looks for the directories that make a layout.
func newLayout(kind string, main, certificate string) *layout {
	dir := filepath.Dir(main)
	l := &layout{kind: kind, dir: dir, certificate: certificate}
	above := filepath.Dir(dir)
	switch {
	case kind == layoutRHEL || kind == layoutAuto && !isDir(filepath.Join(dir, "sites-enabled")) && isDir(filepath.Join(above, "conf.d")):
		l.kind, l.dir = layoutRHEL, above
	case kind == layoutAuto && isDir(filepath.Join(dir, "sites-enabled")) && isDir(filepath.Join(dir, "sites-available")):
		l.kind = layoutDebian
	case kind == layoutAuto:
		l.kind = ""
	}
	return l
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

func isLink(path string) bool {
	_, err := os.Readlink(path)
	return err == nil
}

// The names of acmed's own files. Apache reads a directory in the order of the names, so a site whose twin must not come
// first has another one.
const (
	twinsSuffix = "-acmed-ssl.conf"
	lastPrefix  = "zz-"
	sharedName  = "acmed.conf"
)

func (l *layout) isTwins(path string) bool {
	base := strings.TrimPrefix(filepath.Base(path), lastPrefix)
	return base == l.certificate+twinsSuffix && l.isOurs(path, "sites-enabled")
}

func (l *layout) isShared(path string) bool {
	return filepath.Base(path) == sharedName && l.isOurs(path, "conf-enabled")
}

func (l *layout) isOurs(path, debian string) bool {
	switch l.kind {
	case layoutDebian:
		return filepath.Dir(path) == filepath.Join(l.dir, debian)
	case layoutRHEL:
		return filepath.Dir(path) == filepath.Join(l.dir, "conf.d")
	}
	return false
}

// isOwn reports a file that acmed made.
func (l *layout) isOwn(path string) bool { return l.isTwins(path) || l.isShared(path) }

// newTwins is where the file of twins goes, and the link that enables it or "". It must be read after the given file.
func (l *layout) newTwins(after string) (path, link string, err error) {
	base := l.certificate + twinsSuffix
	enabled := "conf.d"
	if l.kind == layoutDebian {
		enabled = "sites-enabled"
	}
	if filepath.Dir(after) == filepath.Join(l.dir, enabled) && base < filepath.Base(after) {
		base = lastPrefix + base
	}
	switch l.kind {
	case layoutDebian:
		return filepath.Join(l.dir, "sites-available", base), filepath.Join(l.dir, enabled, base), nil
	case layoutRHEL:
		return filepath.Join(l.dir, enabled, base), "", nil
	}
	return "", "", fmt.Errorf("%s: the site has no virtual host with TLS, and a new one has no place here: write one by hand, "+
		"or set \"layout\" to debian or rhel", l.dir)
}

// newShared is where the shared file goes, and the link that enables it or "".
func (l *layout) newShared() (path, link string, err error) {
	switch l.kind {
	case layoutDebian:
		return filepath.Join(l.dir, "conf-available", sharedName), filepath.Join(l.dir, "conf-enabled", sharedName), nil
	case layoutRHEL:
		return filepath.Join(l.dir, "conf.d", sharedName), "", nil
	}
	return "", "", fmt.Errorf("%s: a Listen directive is missing, and has no place here: write it by hand, or set \"layout\" to debian or rhel", l.dir)
}

// removal takes one of acmed's own files away, and the link that enables it.
func (l *layout) removal(src *source) []change.File {
	gone := change.File{Path: src.real, Remove: true, Was: change.Hash(src.disk)}
	target, err := os.Readlink(src.path)
	if err != nil {
		return []change.File{gone}
	}
	return []change.File{{Path: filepath.Clean(src.path), Link: target, Remove: true, Was: change.LinkHash(target)}, gone}
}

// module is one loadable module of Apache.
type module struct {
	id   string // "ssl"
	name string // "ssl_module"
	file string // absolute
}

// resolve lists the modules that have to be enabled so that one is loaded, those that it depends on first. On Debian
// mods-available knows them; elsewhere modules come with their packages.
func (l *layout) resolve(id string, loaded map[string]bool, root string, list []module) ([]module, error) {
	name := id + "_module"
	if loaded[name] || slices.ContainsFunc(list, func(m module) bool { return m.id == id }) {
		return list, nil
	}
	if l.kind != layoutDebian {
		return nil, fmt.Errorf("%s is not loaded by Apache: install or enable mod_%s", name, id)
	}
	path := filepath.Join(l.dir, "mods-available", id+".load")
	text, err := installers.ReadRegular(path)
	if err != nil {
		return nil, fmt.Errorf("%s is not loaded by Apache, and cannot be enabled: %w", name, err)
	}
	m, err := findModule(id, path, text, root)
	if err != nil {
		return nil, err
	}
	for _, other := range dependencies(text) {
		if list, err = l.resolve(other, loaded, root, list); err != nil {
			return nil, err
		}
	}
	return append(list, m), nil
}

// findModule reads which file a module is in, and looks whether it is there.
func findModule(id, path string, text []byte, root string) (module, error) {
	m := module{id: id, name: id + "_module"}
	for _, d := range named(newSource(path, text, "").root, "LoadModule") {
		if w := words(d.args); len(w) == 2 && w[0] == m.name {
			m.file = w[1]
		}
	}
	if m.file == "" {
		return module{}, fmt.Errorf("%s does not load %s", path, m.name)
	}
	if !filepath.IsAbs(m.file) {
		m.file = filepath.Join(root, m.file)
	}
	if _, err := os.Stat(m.file); err != nil {
		return module{}, fmt.Errorf("the module %s cannot be enabled, install its package: %w", id, err)
	}
	return m, nil
}

// dependencies reads "# Depends: a b" as a2enmod does.
func dependencies(text []byte) []string {
	for line := range bytes.Lines(text) {
		if list, ok := bytes.CutPrefix(line, []byte("# Depends:")); ok {
			return strings.Fields(string(list))
		}
	}
	return nil
}

// links are the files that a2enmod makes.
func (l *layout) links(m module) ([]change.File, error) {
	var files []change.File
	for _, ext := range []string{".load", ".conf"} {
		target := filepath.Join(l.dir, "mods-available", m.id+ext)
		link := filepath.Join(l.dir, "mods-enabled", m.id+ext)
		switch {
		case !exists(target):
			continue
		case exists(link):
			return nil, fmt.Errorf("%s exists, but Apache does not load the module: look at it by hand", link)
		}
		files = append(files, relativeLink(link, target))
	}
	return files, nil
}
