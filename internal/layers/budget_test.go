package layers

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The budgets. golangci-lint keeps the bounds on a single function; the shape of the whole is kept here.
const (
	fileP90, fileMax = 350, 500
	funcP90, funcMax = 40, 80
	methodsMax       = 4
)

func TestBudgets(t *testing.T) {
	var files, funcs []int
	for _, name := range sources(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, name, text, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		if ast.IsGenerated(tree) || bytes.HasPrefix(text, []byte("//go:build ignore")) {
			continue
		}
		lines := bytes.Count(text, []byte("\n"))
		files = append(files, lines)
		if lines > fileMax {
			t.Errorf("%s has %d lines, at most %d", name, lines, fileMax)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncDecl:
				size := set.Position(n.End()).Line - set.Position(n.Pos()).Line + 1
				funcs = append(funcs, size)
				if size > funcMax {
					t.Errorf("%s: %s has %d lines, at most %d", name, n.Name.Name, size, funcMax)
				}
			case *ast.InterfaceType:
				if len(n.Methods.List) > methodsMax {
					t.Errorf("%s: an interface of %d methods, at most %d", set.Position(n.Pos()), len(n.Methods.List), methodsMax)
				}
			}
			return true
		})
		checkState(t, set, tree)
	}
	t.Logf("%d files, p90 %d lines; %d functions, p90 %d lines", len(files), p90(files), len(funcs), p90(funcs))
	if p := p90(files); p > fileP90 {
		t.Errorf("nine files in ten have up to %d lines, the budget is %d", p, fileP90)
	}
	if p := p90(funcs); p > funcP90 {
		t.Errorf("nine functions in ten have up to %d lines, the budget is %d", p, funcP90)
	}
}

// checkState finds package-level variables. Allowed are interface guards, error values, regular expressions, embedded
// files and what the linker sets: none of them changes.
func checkState(t *testing.T, set *token.FileSet, tree *ast.File) {
	t.Helper()
	for _, decl := range tree.Decls {
		gen, ok := decl.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		for _, spec := range gen.Specs {
			v := spec.(*ast.ValueSpec)
			for _, name := range v.Names {
				embedded := gen.Doc != nil && strings.Contains(gen.Doc.List[len(gen.Doc.List)-1].Text, "go:embed")
				if name.Name == "_" || compiled(v) || strings.HasPrefix(name.Name, "Err") || strings.HasPrefix(name.Name, "err") || embedded ||
					tree.Name.Name == "main" && name.Name == "version" {
					continue
				}
				t.Errorf("%s: package-level variable %s", set.Position(name.Pos()), name.Name)
			}
		}
	}
}

// compiled reports whether the variable is a compiled regular expression.
func compiled(v *ast.ValueSpec) bool {
	if len(v.Values) != 1 {
		return false
	}
	call, ok := v.Values[0].(*ast.CallExpr)
	if !ok {
		return false
	}
	sel, ok := call.Fun.(*ast.SelectorExpr)
	return ok && sel.Sel.Name == "MustCompile"
}

// sources lists the Go files of the product: no tests, no test helpers, no generated code.
func sources(t *testing.T) []string {
	t.Helper()
	var list []string
	for _, root := range []string{"../../cmd", "../../pkg", "../../internal"} {
		err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (d.Name() == "testdata" || d.Name() == "acmetest" || d.Name() == "installertest" || d.Name() == "fleettest" || d.Name() == "etcdtest"):
				return filepath.SkipDir
			case strings.HasSuffix(name, ".go") && !strings.HasSuffix(name, "_test.go"):
				list = append(list, name)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return list
}

func p90(list []int) int {
	slices.Sort(list)
	return list[len(list)*9/10]
}

// bare are the files whose goroutines are started without package guard: they end by themselves, hold a recover of their
// own, or run in programs that no one waits for.
var bare = []string{
	"pkg/notify/url.go", "pkg/installers/webserver/route.go", "pkg/installers/helper/guard.go", "pkg/installers/helper/server.go", "pkg/installers/server.go",
	"pkg/issuer/prove.go", "pkg/issuer/order.go", "pkg/renewal/engine.go", "pkg/fleet/member.go", "pkg/challenges/dns01/worker.go", "pkg/challenges/dns01/process.go",
	"cmd/acmed/credentials.go", "cmd/acmed/ask.go", "cmd/acmed/internal/daemon/run.go", "cmd/acmed/internal/control/listen.go", "cmd/acmed/internal/control/server.go",
	"internal/atomicfile/dir.go", "internal/guard/guard.go", "cmd/acmed-dns/internal/serve/pin.go", "cmd/acmed-dns/internal/serve/serve.go",
}

// TestGoroutinesAreGuarded: a panic in a goroutine ends the daemon unless something catches it.
func TestGoroutinesAreGuarded(t *testing.T) {
	loose := regexp.MustCompile(`(?m)^\s*go |sync\.WaitGroup|errgroup\.`)
	for _, name := range sources(t) {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if short := strings.TrimPrefix(name, "../../"); loose.Match(text) != slices.Contains(bare, short) {
			t.Errorf("%s: goroutines without package guard: %q; start them with guard.Group or guard.Go, or list the file with a reason", short, loose.Find(text))
		}
	}
}
