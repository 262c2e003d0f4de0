package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/acmed/acmed/"

// floors gives each package its floor; a package imports only lower ones. The patterns of one row, in their order, are
// steps of one floor: a package may import those to its left. Patterns are those of path.Match, the first that matches
// counts. docs/ARCHITECTURE.md shows the same table.
var floors = [][]string{
	0: {"docs", "internal/text", "internal/vetted", "internal/*", "pkg/advice", "pkg/certs"},
	1: {"pkg/store", "pkg/challenges", "pkg/trust", "pkg/notify"},
	2: {"pkg/issuer", "pkg/fleet", "pkg/fleet/etcd", "pkg/installers", "pkg/installers/endpoint", "pkg/installers/change", "pkg/installers/webserver", "pkg/installers/fileset", "pkg/installers/*"},
	3: {"pkg/renewal/plan", "pkg/renewal"},
	4: {"pkg/config", "pkg/client"},
	5: {"cmd/acmed/internal/imports", "cmd/acmed/internal/control", "cmd/acmed/internal/web", "cmd/acmed/internal/daemon", "cmd/acmed/internal/setup"},
	6: {"cmd/acmed"},
}

// parents lists packages whose subpackages belong to the same floor and may import them.
var parents = []string{"pkg/challenges"}

// soleImporters says which packages alone may import a library.
var soleImporters = map[string][]string{
	"github.com/spf13/viper":         {"pkg/config"},
	"github.com/robfig/cron":         {"pkg/renewal"},
	"github.com/go-acme/lego":        {"pkg/issuer", "pkg/challenges"},
	"github.com/letsencrypt":         {},
	"github.com/spf13/cobra":         {"cmd/acmed", "internal/manual"},
	"github.com/coreos/go-systemd":   {"internal/systemd"},
	"github.com/miekg/dns":           {"pkg/challenges"},
	"github.com/go-jose/go-jose":     {"pkg/issuer"},
	"go.etcd.io/etcd":                {"pkg/fleet/etcd"},
	"github.com/pires/go-proxyproto": {"pkg/challenges"},
	"github.com/nicholas-fedor":      {"pkg/notify"},
}

// free are the packages made for tests; they may import anything, and nothing but tests may import them.
func free(pkg string) bool {
	return strings.HasPrefix(pkg, "internal/acmetest") || strings.HasPrefix(pkg, "test/") || strings.HasPrefix(pkg, "bench") ||
		pkg == "pkg/installers/installertest" || pkg == "pkg/fleet/fleettest" || pkg == "internal/layers" || pkg == "internal/manual" || strings.HasPrefix(pkg, "internal/schema")
}

// floorOf returns the floor of a package and its step there.
func floorOf(pkg string) (floor, step int, ok bool) {
	for _, parent := range parents {
		if strings.HasPrefix(pkg, parent+"/") {
			pkg = parent
		}
	}
	for floor, steps := range floors {
		if step := slices.Index(steps, pkg); step >= 0 {
			return floor, step, true
		}
		for step, pattern := range steps {
			if ok, _ := path.Match(pattern, pkg); ok {
				return floor, step, true
			}
		}
	}
	return 0, 0, false
}

type listed struct {
	ImportPath string
	Imports    []string
}

func packages(t *testing.T) []listed {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Imports", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var all []listed
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestFloorsExist keeps the table free of packages that are gone.
func TestFloorsExist(t *testing.T) {
	all := packages(t)
	for _, steps := range floors {
		for _, pattern := range steps {
			exists := slices.ContainsFunc(all, func(p listed) bool {
				name := strings.TrimPrefix(p.ImportPath, module)
				ok, _ := path.Match(pattern, name)
				return ok || strings.HasPrefix(name, pattern+"/") && slices.Contains(parents, pattern)
			})
			if !exists {
				t.Errorf("the floors name %s, which does not exist", pattern)
			}
		}
	}
}

func TestFloors(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if free(name) {
			continue
		}
		floor, step, ok := floorOf(name)
		if !ok {
			t.Errorf("%s has no floor; give it one", name)
			continue
		}
		for _, imp := range p.Imports {
			checkLibrary(t, name, imp)
			other, ours := strings.CutPrefix(imp, module)
			if !ours {
				continue
			}
			if free(other) {
				t.Errorf("%s imports %s, which is for tests", name, other)
				continue
			}
			below, left, _ := floorOf(other)
			if (below > floor || below == floor && left >= step) && !family(name, other) {
				t.Errorf("%s (floor %d) imports %s (floor %d)", name, floor, other, below)
			}
		}
	}
}

func family(a, b string) bool {
	for _, parent := range parents {
		if strings.HasPrefix(a, parent) && strings.HasPrefix(b, parent) {
			return true
		}
	}
	return false
}

func checkLibrary(t *testing.T, pkg, imp string) {
	t.Helper()
	for library, allowed := range soleImporters {
		if !strings.HasPrefix(imp, library) {
			continue
		}
		ok := false
		for _, a := range allowed {
			ok = ok || pkg == a || strings.HasPrefix(pkg, a+"/")
		}
		if !ok {
			t.Errorf("%s imports %s, which only %v may", pkg, imp, allowed)
		}
	}
}
