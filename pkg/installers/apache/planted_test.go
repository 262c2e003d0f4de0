package apache

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestPlantedInclude: Apache includes a directory of another user, who has a link there to a file that only root can read.
// Apache prints its first word. Nothing of it is in the error, which names the place.
func TestPlantedInclude(t *testing.T) {
	dir := acmetest.TheirDir(t)
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "hello"), "conf-enabled/theirs.conf": "IncludeOptional " + dir + "/*.conf\n"})
	must(t, os.WriteFile(filepath.Join(dir, "../secret"), []byte("root:$6$saltandhash:19000:0:99999:7:::\n"), 0o600))
	acmetest.AsNobody(t, dir, "ln -s ../secret x.conf")
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	cfg := a.config()
	cfg.Test = nil // Apache's own
	err := a.installer(cfg, l).Install(t.Context(), b)
	if err == nil || strings.Contains(err.Error(), "$6$") || !strings.Contains(err.Error(), "line 1 of "+dir+"/x.conf") {
		t.Errorf("Install = %v", err)
	}
}
