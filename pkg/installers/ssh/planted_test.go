package ssh

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// TestPlantedKnownHosts: host keys come from a file that nobody else can change or replace, and from nothing that another
// user puts into its place after it was judged. Nothing of a file is in the error.
func TestPlantedKnownHosts(t *testing.T) {
	dir := acmetest.TheirDir(t)
	top := filepath.Dir(dir)
	for name, text := range map[string]string{"shadow": "root:$6$saltandhash:19000:0:99999:7:::\n", "good": "", "bad": "one two\n"} {
		if err := os.WriteFile(filepath.Join(top, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acmetest.AsNobody(t, dir, "ln -s ../shadow link; : >own")
	for path, want := range map[string]string{
		dir + "/link": "belongs to user 65534", dir + "/own": "belongs to user 65534", top + "/good": "", top + "/bad": top + "/bad:1:", top + "/none": "no such file",
	} {
		known, err := knownHosts(path)
		if want == "" && (err != nil || known == nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "$6$")) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
