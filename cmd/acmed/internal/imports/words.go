package imports

import "strings"

// splitter splits a command line.
type splitter struct {
	list    []string
	word    strings.Builder
	quote   rune // 0 outside of quotes
	inWord  bool
	escaped bool
	special bool // a shell would do more
}

// words splits a command line as a shell does. Nothing is expanded. plain is false when a shell would do more than split
// it: expand a variable, redirect, or run several commands.
func words(line string) (list []string, plain bool) {
	s := &splitter{}
	for _, r := range line {
		switch {
		case s.escaped:
			s.add(r)
			s.escaped = false
		case s.quote != '\'' && r == '\\':
			s.escaped, s.inWord = true, true
		case s.quote != 0:
			s.quoted(r)
		default:
			s.bare(r)
		}
	}
	s.end()
	return s.list, !s.special && s.quote == 0 && !s.escaped
}

func (s *splitter) add(r rune) {
	s.word.WriteRune(r)
	s.inWord = true
}

func (s *splitter) quoted(r rune) {
	if r == s.quote {
		s.quote = 0
		return
	}
	s.special = s.special || s.quote == '"' && strings.ContainsRune("$`", r)
	s.add(r)
}

func (s *splitter) bare(r rune) {
	switch r {
	case '\'', '"':
		s.quote, s.inWord = r, true
	case ' ', '\t', '\n':
		s.end()
	default:
		s.special = s.special || strings.ContainsRune("$`|&;<>(){}*?[]~!#", r)
		s.add(r)
	}
}

// end ends the word, if there is one.
func (s *splitter) end() {
	if s.inWord {
		s.list = append(s.list, s.word.String())
	}
	s.word.Reset()
	s.inWord = false
}

// assignment splits NAME=value.
func assignment(word string) (name, value string, ok bool) {
	name, value, ok = strings.Cut(strings.TrimPrefix(word, "export "), "=")
	if !ok || name == "" {
		return "", "", false
	}
	for i, c := range name {
		if (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') && c != '_' && (i == 0 || c < '0' || c > '9') {
			return "", "", false
		}
	}
	return name, value, true
}

// settings reads the assignments of a shell script that consists of them, as configurations do: NAME=value, one on each
// line, with or without quotes and export. Variables that were set before are expanded as $NAME or ${NAME}; all else stays
// as it is. Other lines are skipped.
func settings(text string, known map[string]string) map[string]string {
	text = strings.ReplaceAll(text, "\\\n", " ")
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		name, raw, ok := assignment(line)
		if !ok {
			continue
		}
		value := ""
		if list, _ := words(raw); len(list) > 0 {
			value = list[0]
		}
		if !strings.HasPrefix(raw, "'") {
			value = expand(value, known)
		}
		known[name] = value
	}
	return known
}

// expand replaces $NAME and ${NAME} of known variables.
func expand(text string, known map[string]string) string {
	for name, value := range known {
		text = strings.ReplaceAll(text, "${"+name+"}", value)
		if text == "$"+name || strings.HasPrefix(text, "$"+name+"/") {
			text = value + text[1+len(name):]
		}
	}
	return text
}

// Command is a program with its arguments, found by find, which returns "" for a name that it does not know. What only a
// shell can do is left to one.
func (h Hook) Command(find func(name string) string) []string {
	if len(h.Argv) > 0 {
		return h.Argv
	}
	if argv, plain := words(h.Text); plain && len(argv) > 0 {
		if program := find(argv[0]); program != "" {
			return append([]string{program}, argv[1:]...)
		}
	}
	return []string{"/bin/sh", "-c", h.Text}
}
