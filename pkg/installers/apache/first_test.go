package apache

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// pairless is a virtual host with TLS as packages ship it: with the paths of files that do not exist yet, or without any.
func pairless(name, lines string) string {
	return "<VirtualHost *:{tls}>\n    ServerName " + name + "\n    SSLEngine on\n" + lines + "    ErrorDocument 404 \"hello\"\n</VirtualHost>\n"
}

const absentPair = "    SSLCertificateFile {run}/absent.pem\n    SSLCertificateKeyFile {run}/absent.key\n"

// TestFirstInstallation has configurations that Apache refuses, or with which it would go down, until the site has its pair.
func TestFirstInstallation(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"absent files": pairless("a.example", absentPair),
		"no pair":      pairless("a.example", ""),
		"two virtual hosts in one file": pairless("a.example", absentPair) +
			pairless("www.a.example", "    <IfModule ssl_module>\n"+absentPair+"    </IfModule>\n"),
		"absent key": pairless("a.example", "    SSLCertificateFile {run}/there.pem\n    SSLCertificateKeyFile {run}/absent.key\n"),
	} {
		t.Run(name, func(t *testing.T) {
			a := newInstance(t, map[string]string{"sites-available/plain.conf": site("plain.example", "plain")})
			a.enableModule("ssl", "socache_shmcb")
			must(t, os.WriteFile(a.run+"/there.pem", installertest.Bundle(t, "a.example").CertPEM, 0o644))
			a.start()
			a.write("sites-enabled/a.conf", text)
			before := a.files()
			l := newLineage(t, "a.example", "www.a.example")
			names := []string{"a.example"}
			if strings.Contains(text, "www.") {
				names = append(names, "www.a.example")
			}
			b := installertest.Bundle(t, "a.example", "www.a.example")
			l.publish(b)
			cfg := a.config()
			cfg.Names = names

			a.flag("break-after")(true)
			if err := a.installer(cfg, l).Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), "broken after") {
				t.Errorf("Install with a failing test = %v", err)
			}
			a.wantFiles(before, "the failed Install was not undone")
			a.flag("break-after")(false)

			i := a.installer(cfg, l)
			if diff, err := i.Preview(t.Context(), b); err != nil || !strings.Contains(diff, "+    SSLCertificateFile "+l.FullChain) {
				t.Errorf("Preview = %v\n%s", err, diff)
			}
			for _, n := range names {
				a.install(cfg, l, names...)
				if _, body := a.get("https", n, "/"); body != "hello" {
					t.Errorf("%s answers %q", n, body)
				}
			}
			if err := i.Uninstall(t.Context()); err != nil && !strings.Contains(err.Error(), "acmed's lines are gone") {
				t.Errorf("Uninstall = %v", err)
			}
			a.wantFiles(before, "Uninstall left something")
		})
	}
}

// TestFirstInstallationElsewhere: another site's pair is what is absent, so nothing is touched. A stopped Apache gets its pair.
func TestFirstInstallationElsewhere(t *testing.T) {
	t.Parallel()
	a := newInstance(t, map[string]string{
		"sites-available/a.conf": pairless("a.example", absentPair), "sites-available/b.conf": pairless("b.example", absentPair),
	})
	a.enableModule("ssl", "socache_shmcb")
	before := a.files()
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	l.publish(b)
	i := a.installer(a.config(), l)
	err := i.Install(t.Context(), b)
	if broken := (*installers.BrokenServerError)(nil); !errors.As(err, &broken) || !strings.Contains(err.Error(), "b.conf") {
		t.Errorf("Install = %v", err)
	}
	a.wantFiles(before, "something was edited")
	a.write("sites-enabled/b.conf", site("b.example", "b"))
	if stopped := (*installers.NotRunningError)(nil); !errors.As(i.Install(t.Context(), b), &stopped) {
		t.Errorf("Install with a stopped Apache = %v", err)
	}
	a.start()
	must(t, i.Verify(t.Context(), b))
}
