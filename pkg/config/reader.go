package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/acmed/acmed/internal/text"
)

// The bounds on one file. A sensible file of the largest size stays below half of maxWork; with aliases, a few lines can
// mean billions of values.
const (
	maxWork     = 500_000 // values and keys, counted each time that an alias repeats them
	maxProblems = 1000
)

// position is where a key path is defined.
type position struct {
	file string
	line int // 0 when it is not known
}

// String returns "file:line".
func (p position) String() string {
	if p.line == 0 {
		return p.file
	}
	return fmt.Sprintf("%s:%d", p.file, p.line)
}

// source is one file, read and checked against the Go types, but neither merged nor validated.
type source struct {
	file     string
	text     []byte
	values   map[string]any      // for the decoder: maps, lists, strings, booleans, numbers, durations
	where    map[string]position // key path → its line
	problems []Problem
	suspects []string        // key paths without their values: wrong ones, and those that a misspelt key probably meant
	lost     bool            // nothing of the file could be read
	names    map[string]bool // of entries; see mentions
}

// entries is a list whose items have names, so that the lists of several files can be joined.
type entries []map[string]any

// reader walks the YAML of one file along the Go types. It never descends into what the types do not have, so neither
// depth nor cycles in the input matter.
type reader struct {
	*source
	work   int                   // values and keys looked at
	listed map[reflect.Type]bool // sections whose keys a problem lists
}

// parse reads one file's text as a value of the struct type t.
func parse(file string, text []byte, t reflect.Type) *source {
	r := reader{source: &source{file: file, values: map[string]any{}, where: map[string]position{}}, listed: map[reflect.Type]bool{}}
	root, err := document(text)
	if err != nil {
		r.lost = true
		r.report(errorLine(err), "", "%s", strings.TrimPrefix(yamlLine.ReplaceAllString(err.Error(), ""), "yaml: "))
		return r.source
	}
	if root != nil {
		if v, ok := r.value(root, t, ""); ok {
			r.values = v.(map[string]any)
		}
	}
	return r.source
}

var yamlLine = regexp.MustCompile(`^yaml: line (\d+): `)

func errorLine(err error) int {
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		line, _ := strconv.Atoi(m[1]) // 0 is "not known"
		return line
	}
	return 0
}

// document returns the root of the only document, or nil when there is none.
func document(text []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	if err := decoder.Decode(&doc); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, nil
		}
		return nil, err
	}
	switch err := decoder.Decode(&more); {
	case err == nil:
		return nil, fmt.Errorf("yaml: line %d: a second document begins here; use one document in each file", more.Line)
	case !errors.Is(err, io.EOF):
		return nil, err
	}
	root := doc.Content[0]
	if root.Kind == yaml.ScalarNode && root.ShortTag() == "!!null" {
		return nil, nil
	}
	return root, nil
}

// report adds a problem. The last one that fits says that there are more.
func (r *reader) report(line int, path, format string, args ...any) {
	if len(r.problems) == maxProblems {
		return
	}
	p := Problem{File: r.file, Line: line, Path: path, Message: fmt.Sprintf(format, args...)}
	if len(r.problems) == maxProblems-1 {
		p = Problem{File: r.file, Line: line, Message: "there are more problems from here on; fix the others first"}
	}
	r.problems = append(r.problems, p)
}

// done reports that the rest of the file is not worth looking at.
func (r *reader) done() bool { return r.work > maxWork || len(r.problems) == maxProblems }

// reject reports a value that cannot be used.
func (r *reader) reject(n *yaml.Node, path, format string, args ...any) (any, bool) {
	r.suspects = append(r.suspects, path)
	r.report(n.Line, path, format, args...)
	return nil, false
}

// value reads a node as a value of type t; false means that a problem was reported.
func (r *reader) value(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if r.work += 1 + len(n.Content); r.work > maxWork {
		r.report(n.Line, "", "the file has more than %d values, those repeated by aliases included", maxWork)
		return nil, false
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch t.Kind() {
	case reflect.Struct:
		return r.section(n, t, path)
	case reflect.Slice:
		return r.list(n, t, path)
	}
	v, err := scalar(n, t)
	if err != nil {
		return r.reject(n, path, "%s", err)
	}
	return v, true
}

// section reads a mapping whose keys are the fields of a struct. An empty value is a section without keys.
func (r *reader) section(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	if n.Kind != yaml.MappingNode && kind(n) != "nothing" {
		return r.reject(n, path, "expected a section of keys and values, found %s", kind(n))
	}
	values := map[string]any{}
	fields := fieldsOf(t)
	var strange []*yaml.Node
	for i := 0; i+1 < len(n.Content) && !r.done(); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		at := join(path, key.Value)
		valueType, known := fields.types[key.Value]
		switch first, twice := r.where[at]; {
		case key.Kind != yaml.ScalarNode:
			r.report(key.Line, path, "expected a key, found %s", kind(key))
		case key.Value == "<<":
			r.report(key.Line, path, "merge keys (<<) are not supported; use the defaults section")
		case !known:
			strange = append(strange, key)
		case twice:
			r.report(key.Line, at, "the key is already in line %d", first.line)
		default:
			r.where[at] = position{r.file, key.Line}
			if v, ok := r.value(value, valueType, at); ok {
				values[key.Value] = v
			}
		}
	}
	for _, near := range r.unknown(strange, t, path) {
		if _, given := values[near]; !given {
			r.suspects = append(r.suspects, join(path, near))
		}
	}
	return values, true
}

// maxUnknown is how many unknown keys of a section are named. More are in the file of another program.
const maxUnknown = 3

// unknown reports keys that a section of type t does not have, and returns those that were probably meant. The known ones
// are listed once in each file.
func (r *reader) unknown(keys []*yaml.Node, t reflect.Type, path string) (meant []string) {
	known := fieldsOf(t).keys
	var others []*yaml.Node
	for _, key := range keys {
		near := Nearest(key.Value, known)
		if near == "" {
			others = append(others, key)
			continue
		}
		r.report(key.Line, path, "unknown key %s; did you mean %q?", quote(key.Value), near)
		meant = append(meant, near)
	}
	for i, key := range others {
		switch {
		case i == maxUnknown:
			r.report(key.Line, path, "and %s", text.Count(len(others)-i, "more unknown key"))
			return meant
		case r.listed[t]:
			r.report(key.Line, path, "unknown key %s", quote(key.Value))
		default:
			r.report(key.Line, path, "unknown key %s; known are %s", quote(key.Value), strings.Join(known, ", "))
			r.listed[t] = true
		}
	}
	return meant
}

// list reads a sequence. A slice type with a name of its own also takes a single value, as a list of one.
func (r *reader) list(n *yaml.Node, t reflect.Type, path string) (any, bool) {
	items, named := n.Content, hasName(t.Elem())
	switch {
	case n.Kind == yaml.SequenceNode:
	case kind(n) == "nothing":
		items = nil
	case n.Kind == yaml.ScalarNode && t.Name() != "":
		items = []*yaml.Node{n}
	case named:
		return r.reject(n, path, "expected a list of entries that begin with \"- name:\", found %s", kind(n))
	default:
		return r.reject(n, path, "expected a list, found %s", kind(n))
	}
	if named {
		return r.named(items, t.Elem(), path)
	}
	list := make([]any, 0, len(items))
	for i, item := range items {
		if r.done() {
			return nil, false
		}
		at := fmt.Sprintf("%s[%d]", path, i)
		r.where[at] = position{r.file, item.Line}
		v, _ := r.value(item, t.Elem(), at)
		list = append(list, v) // nil in the place of a wrong one, so that the others keep their numbers
	}
	return list, true
}

// named reads a list of sections that are known by their key "name".
func (r *reader) named(items []*yaml.Node, t reflect.Type, path string) (any, bool) {
	list := make(entries, 0, len(items))
	for i, item := range items {
		if r.done() {
			return nil, false
		}
		name, line := nameOf(item)
		at, label := entryPath(path, name), name
		if first, twice := r.where[at]; name == "" {
			r.report(line, fmt.Sprintf("%s[%d]", path, i), "each entry needs a name")
			if label = fmt.Sprintf("#%d", i+1); !isSection(item) {
				continue
			}
		} else if twice {
			r.report(line, at, "the name is already used in line %d", first.line)
			label = fmt.Sprintf("%s #%d", name, i+1)
		}
		if label != name { // the rest of the entry is checked all the same
			at = entryPath(path, label)
			r.suspects = append(r.suspects, at+".name")
		}
		r.where[at] = position{r.file, line}
		if v, ok := r.value(item, t, at); ok {
			entry := v.(map[string]any)
			entry["name"] = label // also where it is no text
			list = append(list, entry)
		}
	}
	return list, true
}

func isSection(n *yaml.Node) bool {
	return n.Kind == yaml.MappingNode || n.Kind == yaml.AliasNode && n.Alias.Kind == yaml.MappingNode
}

// nameOf returns the text of the key "name" of a mapping, and the line to speak of.
func nameOf(n *yaml.Node) (name string, line int) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n.Kind != yaml.MappingNode {
		return "", n.Line
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == "name" && n.Content[i+1].Kind == yaml.ScalarNode {
			return n.Content[i+1].Value, n.Line
		}
	}
	return "", n.Line
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

var plainName = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)

// entryPath is the key path of an entry with a name; names that could be mistaken for something else are quoted.
func entryPath(path, name string) string {
	if !plainName.MatchString(name) {
		name = strconv.Quote(name)
	}
	return path + "[" + name + "]"
}

// fields are the keys that a struct type has in YAML.
type fields struct {
	keys  []string // in the order of the declaration
	types map[string]reflect.Type
}

func fieldsOf(t reflect.Type) fields {
	f := fields{types: map[string]reflect.Type{}}
	for i := range t.NumField() {
		if key := t.Field(i).Tag.Get("mapstructure"); key != "" {
			f.keys = append(f.keys, key)
			f.types[key] = t.Field(i).Type
		}
	}
	return f
}

// isEntryList reports whether a key path is that of a list that several files may add to.
func isEntryList(path string) bool {
	for _, t := range []reflect.Type{reflect.TypeFor[Config](), reflect.TypeFor[Helper]()} {
		if list := fieldsOf(t).types[path]; list != nil && list.Kind() == reflect.Slice && hasName(list.Elem()) {
			return true
		}
	}
	return false
}

var anyName = regexp.MustCompile(`(?m)(?:^|[\s{,-])name:\s*["']?([^"'\s,}#]+)`)

// mentions reports whether the text has an entry with the name, even where it cannot be parsed.
func (s *source) mentions(name string) bool {
	if s.names == nil {
		s.names = map[string]bool{}
		for _, m := range anyName.FindAllSubmatch(s.text, -1) {
			s.names[string(m[1])] = true
		}
	}
	return s.names[name]
}

// hasName reports whether a type is a struct with a key "name".
func hasName(t reflect.Type) bool {
	return t.Kind() == reflect.Struct && fieldsOf(t).types["name"] != nil
}
