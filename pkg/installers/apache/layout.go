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
	kind        string // layoutDebian, layoutRHEL for any with one directory, or "" for neither
	dir         string // that of the main file, or with layoutRHEL the one for new files
	certificate string
}

// freeBSD is where FreeBSD keeps what its packages bring.
const freeBSD = "/usr/local/etc/"

// newLayout follows the operator, or looks for the directories that make a layout. New files go only where the configuration
// includes them; without included directories nothing is known about that.
func newLayout(kind string, main, certificate string, included []string) *layout {
	dir := filepath.Dir(main)
	l := &layout{kind: kind, dir: dir, certificate: certificate}
	switch enabled := filepath.Join(dir, "sites-enabled"); {
	case kind == layoutRHEL:
		l.dir = filepath.Join(filepath.Dir(dir), "conf.d")
	case kind != layoutAuto:
	case isDir(enabled) && isDir(filepath.Join(dir, "sites-available")) && (included == nil || slices.Contains(included, enabled)):
		l.kind = layoutDebian
	default:
		l.kind = ""
		for _, base := range []string{"vhosts.d", "conf.d", "sites-enabled"} {
			i := slices.IndexFunc(included, func(d string) bool { return filepath.Base(d) == base && isDir(d) })
			if i >= 0 && !strings.HasPrefix(main, freeBSD) {
				l.kind, l.dir = layoutRHEL, included[i]
				return l
			}
		}
	}
	return l
}

// includedDirs are the directories of which the configuration includes all files whose names end in .conf.
func (m *model) includedDirs() []string {
	list := []string{}
	for _, src := range m.order {
		if len(m.users[src]) > 0 {
			continue // included in virtual hosts
		}
		for _, d := range named(outside(src.root), "Include", "IncludeOptional") {
			path := m.path(d)
			if ok, err := filepath.Match(filepath.Base(path), "x.conf"); ok && err == nil {
				path = filepath.Dir(path)
			}
			if isDir(path) {
				list = append(list, path)
			}
		}
	}
	return list
}

// outside are the directives outside sections other than conditions.
func outside(ds []*directive) (list []*directive) {
	for _, d := range ds {
		if d.isCondition() {
			list = append(list, outside(d.children)...)
		} else {
			list = append(list, d)
		}
	}
	return list
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

func exists(path string) bool {
	_, err := os.Lstat(path)
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
		return filepath.Dir(path) == l.dir
	}
	return false
}

// isOwn reports a file that acmed made.
func (l *layout) isOwn(path string) bool { return l.isTwins(path) || l.isShared(path) }

// newTwins is where the file of twins goes, and the link that enables it or "". It must be read after the given file.
func (l *layout) newTwins(after string) (path, link string, err error) {
	base := l.certificate + twinsSuffix
	enabled := l.dir
	if l.kind == layoutDebian {
		enabled = filepath.Join(l.dir, "sites-enabled")
	}
	if filepath.Dir(after) == enabled && base < filepath.Base(after) {
		base = lastPrefix + base
	}
	switch l.kind {
	case layoutDebian:
		return filepath.Join(l.dir, "sites-available", base), filepath.Join(enabled, base), nil
	case layoutRHEL:
		return filepath.Join(enabled, base), "", nil
	}
	return "", "", fmt.Errorf("%s: the site has no virtual host with TLS, and a new one has no place here: write one by hand, or set \"layout\" "+
		"to debian or rhel%s", l.dir, l.why())
}

// newShared is where the shared file goes, and the link that enables it or "".
func (l *layout) newShared() (path, link string, err error) {
	switch l.kind {
	case layoutDebian:
		return filepath.Join(l.dir, "conf-available", sharedName), filepath.Join(l.dir, "conf-enabled", sharedName), nil
	case layoutRHEL:
		return filepath.Join(l.dir, sharedName), "", nil
	}
	return "", "", fmt.Errorf("%s: a Listen directive is missing, and has no place here: write it by hand, or set \"layout\" to debian or rhel%s", l.dir, l.why())
}

// why there is no place for new files.
func (l *layout) why() string {
	if strings.HasPrefix(l.dir+"/", freeBSD) {
		return "; acmed adds no files to the layout of FreeBSD"
	}
	return "; the configuration includes no directory vhosts.d, conf.d or sites-enabled"
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
