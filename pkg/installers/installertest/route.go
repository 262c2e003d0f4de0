package installertest

import (
	"os"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
)

// SharedRoute checks that two certificates with names of one site share the route, which stays until the last one goes.
// The file at path has that site, for a.example and www.a.example; plan says which files a server's routes change. The
// certificates come one after another and then together, or together at once.
func SharedRoute(t testing.TB, path string, together bool, plan func([]installers.ChallengeRoute) ([]change.File, error)) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	read := func() string {
		t.Helper()
		text, err := os.ReadFile(path)
		must(err)
		return string(text)
	}
	before := read()
	first := installers.ChallengeRoute{Certificate: "first", Names: []string{"a.example"}, Upstream: "127.0.0.1:5080"}
	second := installers.ChallengeRoute{Certificate: "second", Names: []string{"www.a.example"}, Upstream: "127.0.0.1:5080"}
	steps := [][]installers.ChallengeRoute{{first}, {second}, {first, second}}
	if together {
		steps = steps[2:]
	}
	for _, step := range steps {
		files, err := plan(step)
		must(err)
		for _, f := range files {
			if f.Link == "" {
				must(os.WriteFile(f.Path, f.Content, 0o644))
			} else {
				must(os.Symlink(f.Link, f.Path))
			}
		}
	}
	if _, err := plan([]installers.ChallengeRoute{{Certificate: "third", Names: first.Names, Upstream: "127.0.0.1:1"}}); err == nil {
		t.Error("another upstream was accepted")
	}
	for _, certificate := range []string{"first", "second"} {
		now := read()
		if strings.Count(now, "127.0.0.1:5080") != 1 {
			t.Errorf("before %s goes, the site is\n%s", certificate, now)
		}
		left, err := installers.RemoveRoute("x", []byte(now), certificate)
		must(err)
		must(os.WriteFile(path, left, 0o644))
	}
	if got := read(); got != before {
		t.Errorf("afterwards the site is\n%s", got)
	}
}
