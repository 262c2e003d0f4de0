package nginx

import (
	"testing"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/change"
	"github.com/acmed/acmed/pkg/installers/installertest"
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
			installertest.SharedRoute(t, n.path("sites/a.conf"), together, func(list []installers.ChallengeRoute) ([]change.File, error) {
				routes, err := RouteChallenges(t.Context(), n.config(), list)
				if err != nil {
					return nil, err
				}
				return routes.Files, nil
			})
		}
	}
}
