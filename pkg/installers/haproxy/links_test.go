package haproxy

import (
	"os"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestDirectoryReplacedByALink: a user whose directory HAProxy loads certificates from replaces it by a link to the certificates
// of another. Nothing is read, written or removed there.
func TestDirectoryReplacedByALink(t *testing.T) {
	h := prepare(t, options{crt: "home/certs"})
	for _, dir := range []string{"home", "home/certs", "victim"} {
		if err := os.Mkdir(h.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.write("home/certs/default.pem", installertest.Bundle(t, "default.example"))
	h.write("victim/www.pem", installertest.Bundle(t, "victim.example"))
	victim, err := os.ReadFile(h.path("victim/www.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for dir, owner := range map[string]int{"": 0, "home": acmetest.Nobody, "home/certs": acmetest.Nobody} {
		if err := os.Chown(h.path(dir), owner, owner); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(h.path(dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	h.run()
	c := h.config()
	c.File = h.path("home/certs/www.pem")
	p, _ := mustNew(t, c)
	first, second := installertest.Bundle(t, "www.example.com"), installertest.Bundle(t, "www.example.com")
	mustInstall(t, p, first)
	acmetest.AsNobody(t, h.path("home"), "mv certs away; ln -s ../victim certs")
	for what, call := range map[string]func() error{
		"Install":   func() error { return p.Install(t.Context(), second) },
		"Uninstall": func() error { return p.Uninstall(t.Context()) },
	} {
		if err := call(); err == nil || !strings.Contains(err.Error(), "not followed") {
			t.Errorf("%s = %v", what, err)
		}
		if now, err := os.ReadFile(h.path("victim/www.pem")); err != nil || string(now) != string(victim) {
			t.Errorf("after %s the victim's file is another: %v", what, err)
		}
	}
	acmetest.AsNobody(t, h.path("home"), "rm certs; mv away certs")
	mustInstall(t, p, second)
}
