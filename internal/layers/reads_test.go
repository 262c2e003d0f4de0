package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"
)

// raw has the files that may open a path or start a program without package vetted, and why no other user gains by it.
var raw = map[string]string{
	"cmd/acmed/report.go":                        "opens /etc/os-release alone",
	"cmd/acmed/internal/web/process.go":          "opens /proc/self/statm alone",
	"cmd/acmed/internal/daemon/asked.go":         "a hash of the content and of the rest of the configuration stays in the state directory; whoever uses the file vets it",
	"pkg/installers/webserver/leaf.go":           "opens /var/lib/dpkg/status alone and looks for one line",
	"pkg/installers/command.go":                  "starts what vetted.Program has judged; nobody else can replace it afterwards",
	"pkg/installers/apache/listen.go":            "opens the kernel's tables of sockets alone",
	"pkg/installers/configfile.go":               "opens command lines in /proc alone",
	"pkg/challenges/dns01/process.go":            "starts what vetted.Program has judged; nobody else can replace it afterwards",
	"pkg/challenges/internal/listener/holder.go": "opens the kernel's tables of sockets, and the names of processes, of which printable ASCII is kept",
	"pkg/config/fleet.go":                        "opens /etc/machine-id alone",
	"pkg/installers/ssh/host.go":                 "the parser of known_hosts takes a name: it gets that of the descriptor that vetted.Open returned",
	"internal/schema/schema.go":                  "runs in the build, on the source",
	"internal/manual/manual.go":                  "runs in the build, on the source",
	"pkg/challenges/dns01/catalog/gen.go":        "runs by hand, on the source of a module",
}

// TestReadsAreVetted: no other file of the product opens a path, has a library open it, or starts a program; and those that
// may still do.
func TestReadsAreVetted(t *testing.T) {
	calls := map[string][]string{
		"os": {"ReadFile", "Open", "OpenFile", "OpenRoot", "OpenInRoot", "DirFS", "StartProcess"}, "exec": {"Command", "CommandContext"},
		"syscall": {"Open", "Exec", "ForkExec"}, "unix": {"Open", "Openat", "Openat2", "Exec"}, "ioutil": {"ReadFile"},
		"tls": {"LoadX509KeyPair"}, "knownhosts": {"New"}, "template": {"ParseFiles", "ParseGlob"},
	}
	idle := maps.Clone(raw)
	for _, name := range sources(t) {
		short := strings.TrimPrefix(name, "../../")
		if strings.HasPrefix(short, "internal/vetted/") || strings.HasPrefix(short, "cmd/acmed-dns/") {
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
			pkg, ok := sel.X.(*ast.Ident)
			if !ok || !slices.Contains(calls[pkg.Name], sel.Sel.Name) {
				return true
			}
			if _, allowed := raw[short]; !allowed {
				t.Errorf("%s: %s.%s: use package vetted, or say here why not", set.Position(n.Pos()), pkg.Name, sel.Sel.Name)
			}
			delete(idle, short)
			return true
		})
	}
	for _, name := range slices.Sorted(maps.Keys(idle)) {
		t.Errorf("%s opens nothing itself: take it off the list", name)
	}
}
