package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/go-viper/mapstructure/v2"
	"github.com/spf13/viper"
)

// Option changes what [Load] does.
type Option int

// The options of [Load].
const (
	// Lenient leaves out every included file that has a problem, as long as the rest makes a sound configuration.
	Lenient Option = iota + 1
	// WithoutFiles does not look at the files that the configuration names (CAs, CSRs, secrets), so that it can be checked
	// on another machine. The result is not fit to run.
	WithoutFiles
)

// Load reads the file at path and what it includes. Each file must be a regular file of at most 1 MiB, or a symbolic link
// to one, that belongs to root or to the present user and that neither group nor others can write.
//
// The error for a bad configuration is an [*Error] with every problem that was found, and the Config is nil. With
// [Lenient] there may be both a Config and an [*Error]: the Config is the good rest and the Error says what was left out.
func Load(path string, opts ...Option) (*Config, []Warning, error) {
	l := &loader{schema: reflect.TypeFor[Config](), order: map[string]int{}, files: !slices.Contains(opts, WithoutFiles), lenient: slices.Contains(opts, Lenient)}
	return l.load(path)
}

// Examiner checks what this package cannot know; see [Check]. Each function may be nil.
type Examiner struct {
	Target func(c *Config, cert *Certificate, in *Install) error // whether the target can be made
	Solver func(s *Solver) error                                 // whether what the solver needs is on this machine
}

// Check reads the configuration like [Load] to report everything that is wrong with it, even what is no reason to leave out
// a file: what every CA will reject, and what e finds.
func Check(path string, e Examiner) (*Config, []Warning, error) {
	l := &loader{schema: reflect.TypeFor[Config](), order: map[string]int{}, files: true, examine: &e}
	return l.load(path)
}

// Preview is [Load] of what the configuration will be once files are written: planned has their texts by absolute path, in
// the place of what is on disk. Nothing is written. With [WithoutFiles] the files that the configuration names are not looked at.
func Preview(path string, planned map[string][]byte, opts ...Option) (*Config, []Warning, error) {
	l := &loader{schema: reflect.TypeFor[Config](), order: map[string]int{}, files: !slices.Contains(opts, WithoutFiles), planned: planned}
	return l.load(path)
}

// Reload reads the file at path and what it includes in the place of the configuration that runs, like [Load] with
// [Lenient]. An included file that has a problem is not left out if the running configuration has an earlier text of it
// which still fits: that stays in use, and [Config.Kept] names the file. The [*Error] says what is wrong in any case.
func Reload(path string, running *Config) (*Config, []Warning, error) {
	l := &loader{schema: reflect.TypeFor[Config](), order: map[string]int{}, files: true, lenient: true, before: running.texts}
	return l.load(path)
}

// Kept lists the included files that have a problem and of which an earlier text is in use; see [Reload].
func (c *Config) Kept() []string { return c.kept }

func (l *loader) load(path string) (*Config, []Warning, error) {
	main := l.read(path)
	sources := append([]*source{main}, l.included(main)...)
	var dropped []Problem
	var kept []string
	var lost []lostFile
	for {
		c, warnings, problems := l.assemble(sources)
		if len(problems) == 0 {
			c.keep(sources[1:], kept)
			c.lost = lost
			return c, warnings, asError(dropped, l.order)
		}
		bad := map[string]bool{}
		for _, p := range problems {
			bad[p.File] = true
		}
		if bad[path] || !l.lenient {
			return nil, nil, asError(append(dropped, problems...), l.order)
		}
		// Earlier texts come first: what they bring back may be all that the other files miss.
		if back := l.bringBack(sources, bad); len(back) > 0 {
			kept = append(kept, back...)
			problems = slices.DeleteFunc(problems, func(p Problem) bool { return !slices.Contains(back, p.File) })
		} else {
			kept = slices.DeleteFunc(kept, func(file string) bool { return bad[file] })
			for _, s := range sources {
				if bad[s.file] {
					lost = append(lost, lostFile{s.file, s.text})
				}
			}
			sources = slices.DeleteFunc(sources, func(s *source) bool { return bad[s.file] })
		}
		dropped = append(dropped, problems...)
	}
}

// bringBack puts the earlier texts of bad files in the place of the present ones, and says of which files.
func (l *loader) bringBack(sources []*source, bad map[string]bool) (files []string) {
	for i, s := range sources {
		text, known := l.before[s.file]
		if !bad[s.file] || !known || bytes.Equal(text, s.text) {
			continue
		}
		sources[i] = l.parse(s.file, text)
		files = append(files, s.file)
	}
	return files
}

// keep remembers the texts of the included files for the next [Reload].
func (c *Config) keep(included []*source, kept []string) {
	c.kept, c.texts = kept, make(map[string][]byte, len(included))
	for _, s := range included {
		c.texts[s.file] = s.text
	}
}

// loader reads the files of one configuration.
type loader struct {
	order   map[string]int    // file → its place in the order of reading
	files   bool              // look at the files that the configuration names
	lenient bool              // leave out included files that have problems
	before  map[string][]byte // included file → its text in the configuration that runs
	planned map[string][]byte // absolute path → text that will be written there
	schema  reflect.Type      // what a file holds
	examine *Examiner         // report also what is no reason to leave out a file
}

// read reads and parses one file. What is wrong with it is in the source's problems.
func (l *loader) read(path string) *source {
	l.order[path] = len(l.order)
	if text, ok := l.planned[path]; ok {
		return l.parse(path, text)
	}
	text, err := readFile(path, 0o022, maxFile)
	if err != nil {
		return &source{file: path, lost: true, problems: []Problem{{File: path, Message: plain(path, err)}}}
	}
	return l.parse(path, text)
}

func (l *loader) parse(path string, text []byte) *source {
	s := parse(path, text, l.schema)
	s.text = text
	return s
}

// plain is an error's text without the path that Problem shows anyway.
func plain(path string, err error) string {
	text := strings.TrimPrefix(err.Error(), "open "+path+": ")
	return strings.TrimPrefix(strings.TrimPrefix(text, path+": "), path+" ")
}

// included reads the files that main includes.
func (l *loader) included(main *source) []*source {
	patterns, _ := main.values["include"].([]any)
	guessed := patterns == nil && (main.lost || slices.Contains(main.suspects, "include"))
	if guessed {
		patterns = guessIncludes(main.text)
	}
	var sources []*source
	for i, p := range patterns {
		at := fmt.Sprintf("include[%d]", i)
		pattern, ok := p.(string)
		if !ok { // reported already
			continue
		}
		files, err := match(filepath.Dir(main.file), pattern, l.planned)
		if err != nil && !guessed {
			main.problems = append(main.problems, Problem{File: main.file, Line: main.where[at].line, Path: at, Message: err.Error()})
		}
		for _, file := range files {
			if _, read := l.order[file]; !read {
				sources = append(sources, l.drop(file))
			}
		}
	}
	return sources
}

// guessIncludes finds what a main file that cannot be parsed probably includes, so that the problems of those files are
// reported in the same run. Nothing of them is used.
func guessIncludes(text []byte) []any {
	patterns := []any{}
	for _, p := range yamlFile.FindAllString(string(text), 100) {
		patterns = append(patterns, p)
	}
	if len(patterns) == 0 {
		patterns = append(patterns, "conf.d/*.yaml")
	}
	return patterns
}

var yamlFile = regexp.MustCompile(`[^\s"',\[\]{}#]+\.yaml\b`)

// drop reads one included file, which must not include others.
func (l *loader) drop(path string) *source {
	s := l.read(path)
	if pos, found := s.where["include"]; found {
		s.problems = append(s.problems, Problem{File: path, Line: pos.line, Path: "include", Message: "only the main file may include others"})
		delete(s.values, "include")
	}
	return s
}

// match lists the files that an include pattern stands for, in the order of their names. A directory or a plain file
// that does not exist is an error, because it is a mistyped one more often than not; a pattern that matches nothing is none.
// Planned files exist, and their directories too.
func match(dir, pattern string, planned map[string][]byte) ([]string, error) {
	if !strings.HasSuffix(pattern, ".yaml") {
		return nil, fmt.Errorf("%s does not end in .yaml; write for example conf.d/*.yaml", quote(pattern))
	}
	if !filepath.IsAbs(pattern) {
		pattern = filepath.Join(dir, pattern)
	}
	dir, base := filepath.Split(pattern)
	if strings.ContainsAny(dir, `*?[\`) {
		return nil, fmt.Errorf("%s has a wildcard in a directory; they are allowed in the last part only", quote(pattern))
	}
	if _, err := filepath.Match(base, ""); err != nil {
		return nil, fmt.Errorf("%s is not a valid pattern", quote(pattern))
	}
	if !strings.ContainsAny(base, `*?[\`) {
		return []string{pattern}, nil
	}
	found, err := filesIn(dir, planned)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, name := range found {
		if ok, _ := filepath.Match(base, name); ok && name[0] != '.' {
			files = append(files, filepath.Join(dir, name))
		}
	}
	return files, nil
}

// filesIn lists the names in a directory, in order.
func filesIn(dir string, planned map[string][]byte) ([]string, error) {
	var found []string
	for path := range planned {
		if filepath.Dir(path) == filepath.Clean(dir) {
			found = append(found, filepath.Base(path))
		}
	}
	list, err := os.ReadDir(dir)
	if err != nil && len(found) == 0 {
		return nil, err
	}
	for _, entry := range list {
		found = append(found, entry.Name())
	}
	slices.Sort(found)
	return slices.Compact(found), nil
}

// assemble merges, decodes and validates. The problems include those of the sources.
func (l *loader) assemble(sources []*source) (*Config, []Warning, []Problem) {
	m, problems := merge(sources)
	c, err := decode(m.values)
	if err != nil {
		return nil, nil, append(problems, Problem{File: sources[0].file, Message: err.Error()})
	}
	v := newValidator(c)
	v.lenient, v.sources, v.examine = l.lenient, sources, l.examine
	v.all()
	if l.files {
		v.files()
	}
	problems = append(problems, v.located(m)...)
	if len(m.problems) > 0 {
		problems = append(problems, l.repeated(m)...)
	}
	return c, v.warnings, problems
}

// merge joins the sources. The problems include theirs.
func merge(sources []*source) (*merger, []Problem) {
	m := newMerger()
	var problems []Problem
	for _, s := range sources {
		m.add(s)
		problems = append(problems, s.problems...)
	}
	return m, append(problems, m.problems...)
}

// repeated validates what earlier files define already, each file by itself.
func (l *loader) repeated(m *merger) []Problem {
	var problems []Problem
	for s, paths := range m.repeated {
		alone := newMerger()
		alone.add(s)
		c, err := decode(alone.values)
		if err != nil {
			continue
		}
		v := newValidator(c)
		v.sources, v.partial = []*source{s}, true
		v.all()
		taken := newMask(paths)
		problems = append(problems, slices.DeleteFunc(v.located(alone), func(p Problem) bool { return !taken.below(p.Path) })...)
	}
	return problems
}

// located gives the problems and warnings their file and line, and leaves out those that only follow from others. A list
// that could not be read hides nothing of the same list in another file.
func (v *validator) located(m *merger) []Problem {
	var all []string
	lists := map[string]mask{}
	for _, s := range v.sources {
		var whole []string
		for _, path := range s.suspects {
			if isEntryList(path) {
				whole = append(whole, path)
			} else {
				all = append(all, path)
			}
		}
		lists[s.file] = newMask(whole)
	}
	follow := newMask(all)
	for _, list := range [][]Problem{v.problems, v.warnings} {
		for i := range list {
			pos, found := m.find(list[i].Path)
			if !found {
				pos.file = v.sources[0].file
			}
			list[i].File, list[i].Line = pos.file, pos.line
		}
	}
	return slices.DeleteFunc(v.problems, func(p Problem) bool { return follow.covers(p.Path) || lists[p.File].covers(p.Path) })
}

// mask tells which problems only follow from others: those at a key path whose value could not be used, above it or
// below it.
type mask struct{ at, above map[string]bool }

func newMask(paths []string) mask {
	m := mask{at: map[string]bool{}, above: map[string]bool{}}
	for _, path := range paths {
		m.at[path] = true
		for p := parent(path); p != ""; p = parent(p) {
			m.above[p] = true
		}
	}
	return m
}

func (m mask) covers(path string) bool {
	return m.above[path] || m.below(path)
}

// below reports whether path is one of the mask's, or below one.
func (m mask) below(path string) bool {
	for ; path != ""; path = parent(path) {
		if m.at[path] {
			return true
		}
	}
	return false
}

// decode turns merged values into a Config on top of the defaults. The values were checked against the types, so an
// error here means that the two disagree.
func decode(values map[string]any) (*Config, error) {
	c := defaults()
	return c, decodeInto(values, c)
}

func decodeInto(values map[string]any, c any) error {
	v := viper.New()
	if err := v.MergeConfigMap(values); err != nil {
		return fmt.Errorf("merge the configuration: %w", err)
	}
	strict := func(d *mapstructure.DecoderConfig) { d.WeaklyTypedInput, d.DecodeHook = false, nil }
	if err := v.UnmarshalExact(c, strict); err != nil {
		return fmt.Errorf("decode the configuration: %w", err)
	}
	return nil
}
