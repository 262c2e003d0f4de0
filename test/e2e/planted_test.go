package e2e

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// TestPlantedDropIns: another user owns a directory of drop-ins and has links there to files that only root can read. Nothing
// of them is on the unauthenticated page, in metrics, in what a command prints or in the log, and no command of them runs. The
// certificates of root are served.
func TestPlantedDropIns(t *testing.T) {
	theirs := acmetest.TheirDir(t)
	s, web := newSite(t), acmetest.FreePort(t)
	s.startNginx()
	ran := filepath.Join(s.dir, "ran")
	for name, text := range map[string]string{
		"shadow":        "root:$6$saltandhash:19000:0:99999:7:::\n",
		"rootonly.yaml": "certificates: [{name: hidden-name, names: [hidden.example.com], hooks: {pre: [/bin/touch, " + ran + "]}}]\n",
	} {
		if err := os.WriteFile(filepath.Join(theirs, "..", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	acmetest.AsNobody(t, theirs, "ln -s ../shadow a.yaml; ln -s ../rootonly.yaml b.yaml")
	main, err := os.ReadFile(filepath.Join(s.dir, "acmed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("acmed.yaml", fmt.Sprintf("include: %s/*.yaml\nweb: { listen: \"127.0.0.1:%d\" }\n%s", theirs, web, main))
	s.start()
	s.waitFor("served", isOK)
	seen := map[string]string{}
	for _, path := range []string{"/", "/metrics", "/healthz", "/certificate/www"} {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d%s", web, path))
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		seen[path] = string(text)
	}
	for _, command := range []string{"status", "check", "doctor", "reload"} {
		seen[command], _ = s.run(command)
	}
	s.kill(syscall.SIGTERM)
	seen["the log"] = s.log.String()
	for where, text := range seen {
		if strings.Contains(text, "$6$") || strings.Contains(text, "saltandhash") || strings.Contains(text, "hidden") {
			t.Errorf("%s shows what only root may read:\n%s", where, text)
		}
	}
	for _, where := range []string{"check", "the log"} {
		if !strings.Contains(seen[where], "belongs to user 65534") {
			t.Errorf("%s does not say why:\n%s", where, seen[where])
		}
	}
	if _, err := os.Stat(ran); err == nil {
		t.Error("a command of a file that another user chose was run")
	}
}
