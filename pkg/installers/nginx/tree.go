package nginx

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/installers"
)

// The bounds on one configuration, far above any real one.
const (
	maxFiles      = 20_000
	maxTotal      = 256 << 20 // bytes in all files
	maxIncludes   = 64        // includes within includes
	maxDirectives = 4_000_000 // directives looked at, counting a file once for each time it is included
)

// tree is a configuration: the main file and what it includes, each file read once.
type tree struct {
	main    *source
	prefix  string                   // directory of the main file: relative includes and certificates start there
	sources map[string]*source       // by path as nginx opens it
	dirs    map[string]bool          // directories that were searched for files
	found   map[*directive][]*source // the files of include directives
	overlay map[string][]byte        // by real path: read instead of the file, to look at an edit before it is made
	total   int                      // bytes read
	walked  int                      // directives walked
}

// load reads the main file. Includes are followed when the directives around them are looked at.
func load(path string, overlay map[string][]byte) (*tree, error) {
	t := &tree{prefix: filepath.Dir(path), sources: map[string]*source{}, dirs: map[string]bool{}, found: map[*directive][]*source{}, overlay: overlay}
	var err error
	t.main, err = t.read(path)
	return t, err
}

func (t *tree) read(path string) (*source, error) {
	if src := t.sources[path]; src != nil {
		return src, nil
	}
	if len(t.sources) == maxFiles {
		return nil, fmt.Errorf("%s: the configuration has more than %d files", path, maxFiles)
	}
	file, text, err := t.open(path)
	if err != nil {
		return nil, fmt.Errorf("read the nginx configuration: %w", err)
	}
	if t.total += len(text); t.total > maxTotal {
		return nil, fmt.Errorf("%s: the configuration has more than %d bytes", path, maxTotal)
	}
	src, err := parse(path, text)
	if err != nil {
		return nil, err
	}
	src.real = file
	t.sources[path] = src
	return src, nil
}

// open reads a file through the overlay and resolves the links in its path.
func (t *tree) open(path string) (file string, text []byte, err error) {
	if text, ok := t.overlay[path]; ok {
		return path, text, nil
	}
	if file, err = filepath.EvalSymlinks(path); err != nil {
		return "", nil, err
	}
	if text, ok := t.overlay[file]; ok {
		return file, text, nil
	}
	text, err = installers.ReadRegular(path) // which judges the links on the way
	return file, text, err
}

// walk calls visit for every directive of one level in nginx's order, with includes replaced by what they include.
func (t *tree) walk(ds []*directive, visit func(*directive) error) error {
	return t.walkFrom(ds, nil, visit)
}

func (t *tree) walkFrom(ds []*directive, above []*source, visit func(*directive) error) error {
	for _, d := range ds {
		if t.walked++; t.walked > maxDirectives {
			return d.errorf("the configuration has more than %d directives", maxDirectives)
		}
		if !d.is("include") {
			if err := visit(d); err != nil {
				return err
			}
			continue
		}
		if err := t.resolve(d); err != nil {
			return err
		}
		for _, src := range t.found[d] {
			if err := enterInclude(d, src, above); err != nil {
				return err
			}
			if err := t.walkFrom(src.root, append(above, src), visit); err != nil {
				return err
			}
		}
	}
	return nil
}

func enterInclude(d *directive, src *source, above []*source) error {
	loop := src.real == d.src.real || slices.ContainsFunc(above, func(s *source) bool { return s.real == src.real })
	if loop {
		return d.errorf("%s is included from within itself", src.path)
	}
	if len(above) == maxIncludes {
		return d.errorf("includes are nested more than %d deep", maxIncludes)
	}
	return nil
}

// resolve finds the files of an include directive as ngx_conf_include does: relative to the directory of the main file,
// wildcards in glob's order and possibly none, any other name as it is.
func (t *tree) resolve(d *directive) error {
	if _, done := t.found[d]; done {
		return nil
	}
	if len(d.words) != 2 {
		return d.errorf("include takes one file or pattern")
	}
	name := d.words[1].value
	if !strings.HasPrefix(name, "/") {
		name = t.prefix + "/" + name
	}
	names := []string{name}
	if strings.ContainsAny(name, "*?[") {
		var err error
		if names, err = glob(name); err != nil {
			return d.errorf("include %s: %v", text.Cut(name, text.Value), err)
		}
		t.search(name)
	}
	for _, name := range names {
		src, err := t.read(name)
		if err != nil {
			return includeError(d, err)
		}
		t.found[d] = append(t.found[d], src)
	}
	if len(names) == 0 {
		t.found[d] = nil
	}
	return nil
}

// search notes the directories in which a pattern may find other files later.
func (t *tree) search(pattern string) {
	for dir := filepath.Dir(pattern); ; dir = filepath.Dir(dir) {
		if !strings.ContainsAny(dir, "*?[") {
			t.dirs[dir] = true
			return
		}
		matches, _ := filepath.Glob(dir)
		for _, m := range matches {
			t.dirs[m] = true
		}
	}
}

// with is the tree with other content in some files, by real path. What is the same is not read again.
func (t *tree) with(overlay map[string][]byte) (*tree, error) {
	after := &tree{prefix: t.prefix, sources: map[string]*source{}, dirs: t.dirs, found: map[*directive][]*source{}, overlay: overlay}
	for path, src := range t.sources {
		if _, other := overlay[src.real]; !other {
			after.sources[path] = src
		}
	}
	var err error
	after.main, err = after.read(t.main.path)
	return after, err
}

// includeError adds the include's place unless the error has one inside the included file.
func includeError(d *directive, err error) error {
	if syntax := (*SyntaxError)(nil); errors.As(err, &syntax) {
		return err
	}
	return d.errorf("include: %v", err)
}
