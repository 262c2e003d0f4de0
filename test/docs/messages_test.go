package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// counted is a number before a plural. The words before it that make the number a bound, which is never one, come first.
var counted = regexp.MustCompile(`(\S+ )?%d (certificates|targets|sites|days|hours|minutes|seconds|names|times|files|events|nodes|issuers|versions|problems|targets)\b`)

// bounds are the words after which the plural is always right.
var bounds = map[string]bool{"than ": true, "most ": true, "least ": true, "to ": true, "first ": true, "allows ": true, "of ": true}

// TestMessages reads every text in the Go code that can reach an operator: the words of the field, and no "1 certificates".
func TestMessages(t *testing.T) {
	rules := glossary()
	const format = "# Written by acmed, which replaces or removes this file only as long as nobody edits it." // files on disk begin with it
	for _, m := range messages(t) {
		if found := counted.FindStringSubmatch(m.text); found != nil && !bounds[found[1]] {
			t.Errorf("%s: %q is wrong for one: use text.Count", m.place, found[0])
		}
		if strings.HasPrefix(m.text, format) || strings.HasPrefix(m.text, "POST /v1/") { // a verb of the API has its name for good
			continue
		}
		for _, r := range rules {
			if word := r.word.FindString(m.text); word != "" {
				t.Errorf("%s: %q: %s: %s", m.place, word, r.instead, m.text)
			}
		}
	}
}

type message struct{ place, text string }

// messages lists the string literals of the product that hold more than one word.
func messages(t *testing.T) []message {
	t.Helper()
	var list []message
	for _, root := range []string{"cmd", "pkg", "internal"} {
		err := filepath.WalkDir(filepath.Join("../..", root), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") || ofTests(path) {
				return err
			}
			files := token.NewFileSet()
			file, err := parser.ParseFile(files, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			ast.Inspect(file, func(n ast.Node) bool {
				switch n := n.(type) {
				case *ast.ImportSpec, *ast.Field:
					_, field := n.(*ast.Field)
					return field && n.(*ast.Field).Tag == nil
				case *ast.BasicLit:
					if s, err := strconv.Unquote(n.Value); n.Kind == token.STRING && err == nil && strings.Contains(s, " ") {
						list = append(list, message{files.Position(n.Pos()).String(), s})
					}
				}
				return true
			})
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

// ofTests is whether a file is part of the tests although its name does not say so.
func ofTests(path string) bool {
	for _, part := range []string{"acmetest", "installertest", "fleettest", "etcdtest", "testdata"} {
		if strings.Contains(path, "/"+part+"/") {
			return true
		}
	}
	return false
}
