package nginx

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestPlantedInclude: nginx includes a directory of another user, who has a link there to a file that only root can read.
// nginx prints its first word, and so does a parser of its language. Nothing of it is in the error, which names the place.
func TestPlantedInclude(t *testing.T) {
	t.Parallel()
	for content, place := range map[string]string{"$6$saltandhash on;": "x.conf:1", "$6$saltandhash": "x.conf:"} {
		dir := acmetest.TheirDir(t)
		n := start(t, map[string]string{"sites/a.conf": site("a.example", "hello"), "sites/theirs.conf": "include " + dir + "/*.conf;\n"})
		if err := os.WriteFile(filepath.Join(dir, "../secret"), []byte(content+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		acmetest.AsNobody(t, dir, "ln -s ../secret x.conf")
		l := newLineage(t, "a.example")
		b := installertest.Bundle(t, "a.example")
		l.publish(b)
		i := n.installer(n.config(), l)
		_, preview := i.Preview(t.Context(), b)
		for what, err := range map[string]error{"Install": i.Install(t.Context(), b), "Preview": preview, "Verify": i.Verify(t.Context(), b)} {
			if err == nil || strings.Contains(err.Error(), "$6$") || !strings.Contains(err.Error(), filepath.Dir(dir)) || what == "Install" && !strings.Contains(err.Error(), place) {
				t.Errorf("%s = %v", what, err)
			}
		}
	}
}
