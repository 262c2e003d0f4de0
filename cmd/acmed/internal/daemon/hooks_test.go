package daemon

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/config"
	"github.com/acmed/acmed/pkg/installers"
)

// TestHooksKnowTheNode: hooks learn which node of the fleet they run on, and post hooks whether it obtained the version.
func TestHooksKnowTheNode(t *testing.T) {
	out := filepath.Join(t.TempDir(), "env")
	argv := []string{"/bin/sh", "-c", "env >" + out}
	for _, tc := range []struct {
		node     string
		obtained bool
		want     []string
	}{
		{"web1", true, []string{"ACMED_NODE=web1", "ACMED_OBTAINED=true"}},
		{"web2", false, []string{"ACMED_NODE=web2", "ACMED_OBTAINED=false"}},
		{"", true, []string{"ACMED_OBTAINED=true"}},
	} {
		h := hooks(&config.Hooks{Pre: argv, Post: argv}, installers.Target{Certificate: "www"}, tc.node)
		for event, run := range map[string]func() error{"pre": func() error { return h.Pre(t.Context()) }, "post": func() error { return h.Post(t.Context(), nil, tc.obtained) }} {
			if err := run(); err != nil {
				t.Fatal(err)
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for line := range strings.Lines(string(text)) {
				if strings.HasPrefix(line, "ACMED_NODE=") || strings.HasPrefix(line, "ACMED_OBTAINED=") {
					got = append(got, strings.TrimSpace(line))
				}
			}
			want := map[string]int{"pre": len(tc.want) - 1, "post": len(tc.want)}[event]
			if len(got) != want {
				t.Errorf("%s on %q: %v", event, tc.node, got)
			}
			for _, line := range tc.want[:want] {
				if !strings.Contains(string(text), line+"\n") {
					t.Errorf("%s on %q lacks %s: %v", event, tc.node, line, got)
				}
			}
		}
	}
}
