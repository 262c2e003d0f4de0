package config

import (
	"maps"
	"slices"
	"strings"
)

// merger joins the values of several files. What one file defines, no other may define again.
type merger struct {
	values   map[string]any
	where    map[string]position
	problems []Problem
	repeated map[*source][]string // key paths that an earlier file defines
}

func newMerger() *merger {
	return &merger{values: map[string]any{}, where: map[string]position{}, repeated: map[*source][]string{}}
}

// add joins one file. A definition that is already there stays, and the new one is reported.
func (m *merger) add(s *source) {
	m.section(s, m.values, s.values, "")
	for path, pos := range s.where {
		if _, taken := m.where[path]; !taken {
			m.where[path] = pos
		}
	}
}

func (m *merger) section(s *source, into, from map[string]any, path string) {
	for _, key := range slices.Sorted(maps.Keys(from)) {
		at := join(path, key)
		switch v := from[key].(type) {
		case entries:
			m.entries(s, into, key, v)
		case map[string]any:
			inner, ok := into[key].(map[string]any)
			if !ok {
				inner = map[string]any{}
				into[key] = inner
			}
			m.section(s, inner, v, at)
		default:
			if !m.taken(s, at) {
				into[key] = v
			}
		}
	}
}

func (m *merger) entries(s *source, into map[string]any, key string, items entries) {
	list, _ := into[key].([]any)
	for _, item := range items {
		// A name that is not text was reported when the file was read.
		if name, ok := item["name"].(string); ok && !m.taken(s, entryPath(key, name)) {
			list = append(list, item)
		}
	}
	into[key] = list
}

// taken reports whether an earlier file defines path, which is a problem.
func (m *merger) taken(s *source, path string) bool {
	first, taken := m.where[path]
	if taken {
		pos := s.where[path]
		m.repeated[s] = append(m.repeated[s], path)
		m.problems = append(m.problems, Problem{File: pos.file, Line: pos.line, Path: path,
			Message: "already defined in " + first.String()})
	}
	return taken
}

// find returns where a key path, or the nearest part of it, is defined.
func (m *merger) find(path string) (position, bool) {
	for path != "" {
		if pos, ok := m.where[path]; ok {
			return pos, true
		}
		path = parent(path)
	}
	return position{}, false
}

// parent cuts the last part off a key path: certificates[www].names[1], certificates[www].names, certificates[www],
// certificates.
func parent(path string) string {
	return path[:max(0, strings.LastIndexAny(path, ".["))]
}
