package apache

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
		"<VirtualHost *:{plain}>\n    ServerName a.example\n    ServerAlias www.a.example\n    RewriteEngine on\n</VirtualHost>\n",
	} {
		for _, together := range []bool{false, true} {
			n := newInstance(t, map[string]string{"sites-enabled/a.conf": text})
			n.enableModule("rewrite")
			installertest.SharedRoute(t, n.path("sites-enabled/a.conf"), together, func(list []installers.ChallengeRoute) ([]change.File, error) {
				routes, err := RouteChallenges(t.Context(), n.config(), list)
				if err != nil {
					return nil, err
				}
				return routes.Files, nil
			})
		}
	}
}
