package apache

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// vhost is one virtual host as Apache sees it, with its section.
type vhost struct {
	file   string
	line   int
	server string   // ServerName, or what Apache takes for it
	names  []string // lower case: ServerName, aliases, wildcards included
	listed bool     // Apache listed its aliases, which it does where several virtual hosts share an address

	d        *directive // its section; nil when it has none in a file, and then err says why
	err      error
	body     []*directive // its directives: conditions that hold and included files in place
	engine   string       // SSLEngine in lower case; "" when it is not set here
	catchAll bool         // it has no name of its own
}

func (v *vhost) addName(name string) {
	if name = strings.ToLower(name); !slices.Contains(v.names, name) {
		v.names = append(v.names, name)
	}
}

// errorf makes an error that begins with file and line of the virtual host.
func (v *vhost) errorf(format string, args ...any) error {
	return &SyntaxError{File: v.file, Line: v.line, Reason: fmt.Sprintf(format, args...)}
}

// own are the directives of these names in the virtual host.
func (v *vhost) own(names ...string) []*directive { return named(v.body, names...) }

func named(ds []*directive, names ...string) []*directive {
	var list []*directive
	for _, d := range ds {
		if slices.ContainsFunc(names, d.is) {
			list = append(list, d)
		}
	}
	return list
}

// model is the configuration: what Apache said, and the files.
type model struct {
	*facts
	certificate string
	sources     map[string]*source  // by the path that Apache opens
	first       map[string]*include // the first reading of a path
	order       []*source           // in the order in which Apache reads them
	global      []*directive        // the directives outside sections other than conditions
	users       map[*source][]*vhost
	defined     map[string]int // how often the files define a variable
	sslOn       bool           // SSLEngine is on for all that do not say otherwise
}

// The bounds on one configuration, far above any real one.
const (
	maxFiles = 20_000
	maxTotal = 256 << 20 // bytes in all files
)

// buildModel reads all files that Apache read. Files in which nothing was written for the certificate are those of a model
// that was made before, unless that is nil.
func buildModel(f *facts, certificate string, before *model) (*model, error) {
	m := &model{facts: f, certificate: certificate, sources: map[string]*source{}, first: map[string]*include{}, users: map[*source][]*vhost{}, defined: map[string]int{}}
	total := 0
	if err := m.read(f.main, &total, before); err != nil {
		return nil, err
	}
	for _, src := range m.order {
		m.countDefines(src.root)
	}
	m.global = m.walk(f.main, m.sources[f.main.path].root, nil)
	for _, d := range named(m.global, "SSLEngine") {
		m.sslOn = strings.EqualFold(m.value(d), "on")
	}
	for _, v := range f.vhosts {
		m.find(v)
	}
	return m, nil
}

func (m *model) countDefines(ds []*directive) {
	for _, d := range ds {
		if d.is("Define") {
			name, value := word(d.args)
			if name != "" && value != "" {
				m.defined[name]++
			}
		}
		m.countDefines(d.children)
	}
}

func (m *model) read(inc *include, total *int, before *model) error {
	if m.sources[inc.path] == nil {
		src, err := m.source(inc.path, before)
		if err != nil {
			return err
		}
		if *total += len(src.disk); len(m.order) == maxFiles || *total > maxTotal {
			return fmt.Errorf("%s: the configuration has more than %d files or %d bytes", inc.path, maxFiles, maxTotal)
		}
		m.sources[inc.path], m.first[inc.path] = src, inc
		m.order = append(m.order, src)
	}
	for _, child := range inc.children {
		if err := m.read(child, total, before); err != nil {
			return err
		}
	}
	return nil
}

// source reads one file, or takes over what is known of it.
func (m *model) source(path string, before *model) (*source, error) {
	if before == nil || before.sources[path] == nil {
		return readSource(path, m.certificate)
	}
	old := before.sources[path]
	if !old.mayHaveMarks(m.certificate) {
		return old, nil
	}
	src := newSource(path, old.disk, m.certificate)
	src.real = old.real
	return src, nil
}

// walk lists directives in Apache's order, with conditions that hold and included files replaced by what is in them.
// What a condition hides is left out when it surely does not hold.
func (m *model) walk(inc *include, ds, list []*directive) []*directive {
	for _, d := range ds {
		switch {
		case d.isCondition():
			if m.holds(d) != no {
				list = m.walk(inc, d.children, list)
			}
		case d.is("Include"), d.is("IncludeOptional"):
			for _, child := range inc.children {
				if d.src.clean(child.line) == d.line {
					list = m.walk(child, m.sources[child.path].root, list)
				}
			}
		default:
			list = append(list, d)
		}
	}
	return list
}

// find looks up the section of a virtual host and reads what is in it.
func (m *model) find(v *vhost) {
	inc := m.first[v.file]
	if inc == nil {
		v.err = &SyntaxError{File: v.file, Line: v.line, Reason: "this virtual host is not written in a file itself (a macro made it): " +
			"write a <VirtualHost> with TLS for its names"}
		return
	}
	src := m.sources[v.file]
	if src.err != nil {
		v.err = src.err
		return
	}
	if v.d = sectionAt(src.root, src.clean(v.line)); v.d == nil {
		v.err = v.errorf("there is no <VirtualHost> at this line")
		return
	}
	v.body = m.walk(inc, v.d.children, nil)
	v.catchAll = true
	for _, d := range v.body {
		if d.src != src && !slices.Contains(m.users[d.src], v) {
			m.users[d.src] = append(m.users[d.src], v)
		}
		switch {
		case d.is("SSLEngine"):
			v.engine = strings.ToLower(m.value(d))
		case d.is("ServerName"):
			v.catchAll = false
		case d.is("ServerAlias"):
			v.catchAll = false
			m.addAliases(v, d)
		}
	}
}

// addAliases adds names that Apache did not list. What a variable stands for that is defined more than once only Apache
// knows, and whether a condition holds whose variable the files define, so such a name is left out.
func (m *model) addAliases(v *vhost, d *directive) {
	if v.listed || !m.isCertain(d) {
		return
	}
	for _, name := range words(d.args) {
		if name = m.expand(name); !strings.Contains(name, "${") {
			v.addName(name)
		}
	}
}

// isCertain reports whether all conditions around a directive surely hold.
func (m *model) isCertain(d *directive) bool {
	for p := d.parent; p != nil && p.isCondition(); p = p.parent {
		name, _ := word(p.args)
		if m.holds(p) != yes || p.isSection("IfDefine") && m.defined[strings.TrimPrefix(name, "!")] > 0 {
			return false
		}
	}
	return true
}

func sectionAt(ds []*directive, line int) *directive {
	for _, d := range ds {
		switch {
		case d.isSection("VirtualHost") && d.line == line:
			return d
		case d.isCondition():
			if found := sectionAt(d.children, line); found != nil {
				return found
			}
		}
	}
	return nil
}

// tls reports whether the virtual host speaks TLS.
func (m *model) tls(v *vhost) bool { return v.engine == "on" || v.engine == "" && m.sslOn }

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// expand replaces variables that have one meaning. Others, of the environment or defined more than once, stay.
func (m *model) expand(value string) string {
	return variable.ReplaceAllStringFunc(value, func(ref string) string {
		name := ref[2 : len(ref)-1]
		if v, ok := m.defines[name]; ok && m.defined[name] < 2 {
			return v
		}
		return ref
	})
}

// value is the first word of a directive's arguments.
func (m *model) value(d *directive) string {
	first, _ := word(d.args)
	return m.expand(first)
}

// path is the file that a directive names.
func (m *model) path(d *directive) string {
	name := m.value(d)
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(m.root, name)
}

// truth is what is known of a condition.
type truth int

const (
	no truth = iota
	maybe
	yes
)

// isCondition reports a section that only says whether its content counts.
func (d *directive) isCondition() bool {
	return slices.ContainsFunc([]string{"IfModule", "IfDefine", "IfVersion", "IfFile", "IfDirective", "IfSection"}, d.isSection)
}

// holds judges a condition by the modules and variables that Apache has in the end.
func (m *model) holds(d *directive) truth {
	name, _ := word(d.args)
	name, not := strings.CutPrefix(m.expand(name), "!")
	var t truth
	switch {
	case d.isSection("IfDefine"):
		_, ok := m.defines[name]
		t = known(ok)
	case d.isSection("IfModule"):
		t = m.loaded(name)
	case d.isSection("IfFile"):
		_, err := os.Stat(m.path(d))
		t = maybe
		if err == nil {
			t = yes
		}
	default:
		return maybe
	}
	if not {
		return yes - t
	}
	return t
}

func known(ok bool) truth {
	if ok {
		return yes
	}
	return no
}

// loaded knows a module by its identifier, or by its source file where that is named after the identifier as nearly all
// are: mod_ssl.c is ssl_module, event.c is mpm_event_module.
func (m *model) loaded(name string) truth {
	base, isFile := strings.CutSuffix(name, ".c")
	if !isFile {
		return known(m.modules[name])
	}
	base = strings.TrimPrefix(base, "mod_")
	if m.modules[base+"_module"] || m.modules["mpm_"+base+"_module"] {
		return yes
	}
	if strings.HasPrefix(name, "mod_") {
		return no
	}
	return maybe
}
