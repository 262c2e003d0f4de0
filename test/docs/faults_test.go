package docs_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	faultRow  = regexp.MustCompile(`(?m)^\| ([FB]\d+) \|(.*)\|$`)
	faultTest = regexp.MustCompile("`([a-z0-9/_-]+)\\.(Test\\w+|txtar)`")
)

// TestFaults: every row of docs/FAULTS.md names tests, and each of them exists.
func TestFaults(t *testing.T) {
	known := map[string]string{} // the tests of a directory
	tests := func(dir string) string {
		if text, ok := known[dir]; ok {
			return text
		}
		files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		if err != nil {
			t.Fatal(err)
		}
		var all strings.Builder
		for _, file := range files {
			all.WriteString(read(t, file))
		}
		known[dir] = all.String()
		return all.String()
	}
	rows := faultRow.FindAllStringSubmatch(read(t, filepath.Join(root, "docs/FAULTS.md")), -1)
	seen := map[string]bool{}
	for _, row := range rows {
		if seen[row[1]] {
			t.Errorf("%s is there twice", row[1])
		}
		seen[row[1]] = true
		columns := strings.Split(row[2], "|")
		if len(columns) != 3 {
			t.Errorf("%s has %d columns", row[1], len(columns)+1)
			continue
		}
		names := faultTest.FindAllStringSubmatch(columns[2], -1)
		if len(names) == 0 || len(names) != strings.Count(columns[2], "`")/2 {
			t.Errorf("%s names no test, or one in another form: %s", row[1], columns[2])
		}
		for _, name := range names {
			if script, ok := strings.CutPrefix(name[1], "script/"); ok {
				if _, err := os.Stat(filepath.Join(root, "cmd/acmed/testdata/script", script+".txtar")); err != nil {
					t.Errorf("%s: %v", row[1], err)
				}
			} else if !strings.Contains(tests(name[1]), "\nfunc "+name[2]+"(") {
				t.Errorf("%s: %s has no %s", row[1], name[1], name[2])
			}
		}
	}
	if len(rows) < 160 {
		t.Errorf("only %d rows", len(rows))
	}
}
