package nginx

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
)

// maxMatches bounds what one include pattern may name.
const maxMatches = 20_000

var (
	errPattern = errors.New("the pattern cannot be resolved (a bad bracket or a character class)")
	errMatches = errors.New("the pattern names too many files")
)

// glob lists what pattern names, as glob(3) does without flags in the C locale, which is what nginx calls: byte order, a
// leading dot only by a dot in the pattern, "!" as well as "^" for a negated bracket. No match is an empty list.
func glob(pattern string) ([]string, error) {
	found := []string{"/"}
	for part := range strings.SplitSeq(strings.TrimPrefix(pattern, "/"), "/") {
		var next []string
		for _, dir := range found {
			names, err := globPart(dir, part)
			if err != nil {
				return nil, err
			}
			next = append(next, names...)
			if len(next) > maxMatches {
				return nil, errMatches
			}
		}
		found = next
	}
	slices.Sort(found)
	return found, nil
}

// globPart lists the entries of dir that one component of a pattern names.
func globPart(dir, part string) ([]string, error) {
	if !strings.ContainsAny(part, `*?[\`) {
		name := join(dir, part)
		if _, err := os.Lstat(name); err != nil {
			return nil, ignoreAbsent(err)
		}
		return []string{name}, nil
	}
	translated := strings.ReplaceAll(part, "[!", "[^")
	if _, err := path.Match(translated, ""); err != nil || strings.Contains(part, "[:") {
		return nil, errPattern
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, ignoreAbsent(err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), ".") && !strings.HasPrefix(part, ".") {
			continue
		}
		if ok, err := path.Match(translated, e.Name()); err == nil && ok {
			names = append(names, join(dir, e.Name()))
		}
	}
	return names, nil
}

// join keeps "..", which means something else behind a symbolic link once it is cleaned away.
func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

// ignoreAbsent keeps only errors that say more than that there is nothing by that name.
func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) || strings.HasSuffix(err.Error(), "not a directory") {
		return nil
	}
	return err
}
