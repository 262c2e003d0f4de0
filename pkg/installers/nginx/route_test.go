package nginx

import (
	"os"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
)

// TestRouteOfTwoCertificates: two certificates with names of one site share the route, which stays until the last one goes.
func TestRouteOfTwoCertificates(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"server {\n    listen 127.0.0.1:{plain};\n    server_name a.example www.a.example;\n    return 301 https://a.example;\n}\n",
		"server { listen 127.0.0.1:{plain}; server_name a.example www.a.example; }\n",
	} {
		for _, together := range []bool{false, true} {
			n := newInstance(t, map[string]string{"sites/a.conf": text})
			first := installers.ChallengeRoute{Certificate: "first", Names: []string{"a.example"}, Upstream: "127.0.0.1:5080"}
			second := installers.ChallengeRoute{Certificate: "second", Names: []string{"www.a.example"}, Upstream: "127.0.0.1:5080"}
			steps := [][]installers.ChallengeRoute{{first}, {second}, {first, second}}
			if together {
				steps = steps[2:]
			}
			for _, step := range steps {
				routes, err := RouteChallenges(t.Context(), n.config(), step)
				must(t, err)
				for _, f := range routes.Files {
					if f.Link == "" {
						must(t, os.WriteFile(f.Path, f.Content, 0o644))
					} else {
						must(t, os.Symlink(f.Link, f.Path))
					}
				}
			}
			if _, err := RouteChallenges(t.Context(), n.config(), []installers.ChallengeRoute{{Certificate: "third", Names: first.Names, Upstream: "127.0.0.1:1"}}); err == nil {
				t.Error("another upstream was accepted")
			}
			for _, certificate := range []string{"first", "second"} {
				now := n.read("sites/a.conf")
				if strings.Count(now, "127.0.0.1:5080") != 1 {
					t.Errorf("before %s goes, the site is\n%s", certificate, now)
				}
				left, err := installers.RemoveRoute("x", []byte(now), certificate)
				must(t, err)
				must(t, os.WriteFile(n.path("sites/a.conf"), left, 0o644))
			}
			if got := n.read("sites/a.conf"); got != n.expand(text) {
				t.Errorf("afterwards the site is\n%s", got)
			}
		}
	}
}
