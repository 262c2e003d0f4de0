package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"slices"
	"strings"
	"testing"
)

// raw lists the files that may open a path or start a program without package vetted, each because of what it opens: the
// kernel's and the distribution's own files, what was vetted just before, and configurations of servers, which are judged
// by their own package.
var raw = []string{
	"cmd/acmed/credentials.go", "cmd/acmed/report.go", "cmd/acmed/internal/daemon/asked.go", "cmd/acmed/internal/web/process.go",
	"pkg/notify/state.go", "pkg/installers/file/encode.go", "pkg/installers/imperva/imperva.go", "pkg/installers/webserver/leaf.go",
	"pkg/installers/command.go", "pkg/installers/apache/listen.go", "pkg/installers/configfile.go", "pkg/installers/change/journal.go",
	"pkg/store/store.go", "pkg/challenges/dns01/process.go", "pkg/challenges/internal/listener/holder.go", "pkg/fleet/etcd/tls.go",
	"cmd/acmed/internal/daemon/fleet.go", "cmd/acmed/internal/setup/translate.go", "pkg/config/fleet.go", "internal/schema/schema.go", "internal/manual/manual.go", "pkg/challenges/dns01/catalog/gen.go",
}

// TestReadsAreVetted: no other file of the product reads a file by its path or starts a program directly.
func TestReadsAreVetted(t *testing.T) {
	calls := map[string][]string{"os": {"ReadFile", "Open", "OpenFile", "StartProcess"}, "exec": {"Command", "CommandContext"}}
	for _, name := range sources(t) {
		short := strings.TrimPrefix(name, "../../")
		if slices.Contains(raw, short) || strings.HasPrefix(short, "internal/vetted/") || strings.HasPrefix(short, "cmd/acmed-dns/") {
			continue
		}
		set := token.NewFileSet()
		tree, err := parser.ParseFile(set, name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(tree, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok {
				return true
			}
			if pkg, ok := sel.X.(*ast.Ident); ok && slices.Contains(calls[pkg.Name], sel.Sel.Name) {
				t.Errorf("%s: %s.%s: use package vetted, or say here why not", set.Position(n.Pos()), pkg.Name, sel.Sel.Name)
			}
			return true
		})
	}
}
