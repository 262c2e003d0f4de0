package nginx

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

const absentPair = "ssl_certificate {run}/absent.pem; ssl_certificate_key {run}/absent.key;"

// TestFirstInstallation has configurations that nginx refuses until the site has its pair.
func TestFirstInstallation(t *testing.T) {
	t.Parallel()
	block := "server { listen 127.0.0.1:{tls} ssl; server_name a.example; %; location / { return 200 hello; } }\n"
	for name, files := range map[string]map[string]string{
		"absent files":  {"sites/a.conf": strings.Replace(block, "%;", absentPair, 1)},
		"no pair":       {"sites/a.conf": strings.Replace(block, "%;", "", 1)},
		"an absent key": {"sites/a.conf": strings.Replace(block, "%;", "ssl_certificate {run}/there.pem; ssl_certificate_key {run}/absent.key;", 1)},
		"an empty file": {"sites/a.conf": strings.Replace(block, "%;", "ssl_certificate {run}/empty.pem; ssl_certificate_key {run}/empty.pem;", 1)},
		"two server blocks": {
			"sites/a.conf": strings.Replace(block, "%;", absentPair, 1),
			"sites/w.conf": strings.Replace(strings.Replace(block, "%;", strings.ReplaceAll(absentPair, "absent", "gone"), 1), "name a.", "name www.a.", 1),
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := start(t, map[string]string{"sites/plain.conf": site("plain.example", "plain")})
			must(t, os.WriteFile(filepath.Join(n.run, "there.pem"), installertest.Bundle(t, "a.example").CertPEM, 0o644))
			must(t, os.WriteFile(filepath.Join(n.run, "empty.pem"), nil, 0o644))
			names := []string{"a.example"}
			for file, text := range files {
				n.write(file, text)
				if strings.HasSuffix(file, "w.conf") {
					names = append(names, "www.a.example")
				}
			}
			l := newLineage(t, names...)
			b := installertest.Bundle(t, names...)
			l.publish(b)
			i := n.installer(n.config(), l)
			n.flag("break-reload")(true)
			if err := i.Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), "no reload") {
				t.Errorf("Install with a failing reload = %v", err)
			}
			for file, text := range files {
				if n.read(file) != n.expand(text) {
					t.Errorf("%s was not put back", file)
				}
			}
			n.flag("break-reload")(false)
			must(t, i.Install(t.Context(), b))
			must(t, i.Verify(t.Context(), b))
			for _, name := range names {
				if _, body := n.get("https", name, "/"); body != "hello" {
					t.Errorf("%s answers %q", name, body)
				}
			}
		})
	}
}

// TestFirstInstallationElsewhere: another site's pair is absent as well, so the server stays broken and the edit may come again.
func TestFirstInstallationElsewhere(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"sites/plain.conf": site("plain.example", "plain")})
	n.write("sites/a.conf", "server { listen 127.0.0.1:{tls} ssl; server_name a.example; "+absentPair+" }\n")
	n.write("sites/b.conf", "server { listen 127.0.0.1:{tls} ssl; server_name b.example; "+strings.ReplaceAll(absentPair, "absent", "gone")+" }\n")
	before := n.read("sites/a.conf")
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	err := n.installer(n.config(), l).Install(t.Context(), b)
	broken, refused := (*installers.BrokenServerError)(nil), (*installers.RefusedEditError)(nil)
	if !errors.As(err, &broken) || errors.As(err, &refused) || !strings.Contains(err.Error(), "gone.pem") {
		t.Errorf("Install = %v", err)
	}
	if n.read("sites/a.conf") != before {
		t.Error("the site was not put back")
	}
}
