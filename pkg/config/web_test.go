package config_test

import (
	"testing"

	"github.com/acmed/acmed/pkg/config"
)

// TestWebWarning: a status page for more than this machine is allowed, and said.
func TestWebWarning(t *testing.T) {
	for listen, want := range map[string]int{"": 0, "127.0.0.1:9540": 0, "[::1]:9540": 0, ":9540": 1, "192.0.2.1:9540": 1, "[2001:db8::1]:80": 1} {
		c := config.Config{Web: config.Web{Listen: listen}}
		warnings, _ := c.Validate()
		n := 0
		for _, w := range warnings {
			if w.Path == "web.listen" {
				n++
			}
		}
		if n != want {
			t.Errorf("%q: %v", listen, warnings)
		}
	}
}
