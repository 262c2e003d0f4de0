package layers

import (
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path"
	"strings"
	"testing"
)

const module = "github.com/acmed/acmed/"

// floors gives each package its floor; a package imports only lower ones. Patterns are those of path.Match, the first
// that matches counts.
var floors = []struct {
	pattern string
	floor   int
}{
	{"cmd/acmed", 5},
	{"internal/daemon", 4},
	{"internal/setup", 4},
	{"pkg/config", 3},
	{"internal/control", 3},
	{"internal/web", 3},
	{"internal/probe", 2},
	{"pkg/renewal", 2},
	{"pkg/issuer", 2},
	{"pkg/fleet", 2},
	{"pkg/installers/*", 2},
	{"internal/installd", 2},
	{"internal/certbot", 1},
	{"pkg/store", 1},
	{"pkg/challenges", 1},
	{"pkg/installers", 1},
	{"pkg/trust", 1},
	{"pkg/notify", 1},
	{"docs", 0},
	{"pkg/certs", 0},
	{"internal/atomicfile", 0},
	{"internal/peer", 0},
	{"internal/systemd", 0},
	{"configs", 0},
	{"pkg/advice", -1}, // below even the vocabulary, whose errors say their codes
}

// parents lists packages whose subpackages belong to the same floor and may import them.
var parents = []string{"pkg/challenges"}

// soleImporters says which packages alone may import a library.
var soleImporters = map[string][]string{
	"github.com/spf13/viper":         {"pkg/config"},
	"github.com/robfig/cron":         {"pkg/renewal"},
	"github.com/go-acme/lego":        {"pkg/issuer", "pkg/challenges"},
	"github.com/letsencrypt":         {},
	"github.com/spf13/cobra":         {"cmd/acmed"},
	"github.com/miekg/dns":           {"pkg/challenges"},
	"github.com/go-jose/go-jose":     {"pkg/issuer"},
	"go.etcd.io/etcd":                {"pkg/fleet"},
	"github.com/pires/go-proxyproto": {"pkg/challenges"},
	"github.com/nicholas-fedor":      {"pkg/notify"},
}

// free are the packages made for tests; they may import anything, and nothing but tests may import them.
func free(pkg string) bool {
	return strings.HasPrefix(pkg, "internal/acmetest") || strings.HasPrefix(pkg, "test/") || strings.HasPrefix(pkg, "bench") ||
		pkg == "pkg/installers/installertest" || pkg == "internal/layers"
}

func floorOf(pkg string) (int, bool) {
	for _, parent := range parents {
		if strings.HasPrefix(pkg, parent+"/") {
			pkg = parent
		}
	}
	for _, f := range floors {
		if ok, _ := path.Match(f.pattern, pkg); ok {
			return f.floor, true
		}
	}
	return 0, false
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

func TestFloors(t *testing.T) {
	for _, p := range packages(t) {
		name := strings.TrimPrefix(p.ImportPath, module)
		if free(name) {
			continue
		}
		floor, ok := floorOf(name)
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
			if below, _ := floorOf(other); below >= floor && !family(name, other) {
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
