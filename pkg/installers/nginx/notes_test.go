package nginx

import (
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestSplitNames: each of two names has its own server block, and both are edited. A name without a block is left out with a
// note, unless the operator chose the names.
func TestSplitNames(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"sites/a.conf": site("a.example", "apex"), "sites/b.conf": site("www.a.example", "www")})
	l := newLineage(t, "a.example", "www.a.example")
	b := installertest.Bundle(t, "a.example", "www.a.example")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, b)
	for host, want := range map[string]string{"a.example": "apex", "www.a.example": "www"} {
		if _, body := n.get("https", host, "/"); body != want {
			t.Errorf("https://%s answers %q", host, body)
		}
	}
	if notes, err := i.Notes(t.Context(), b); err != nil || len(notes) > 0 {
		t.Errorf("notes %q, %v", notes, err)
	}

	n = start(t, map[string]string{"sites/a.conf": site("a.example", "apex")})
	l = newLineage(t, "a.example", "www.a.example")
	i = n.installer(n.config(), l)
	before, err := i.Notes(t.Context(), b)
	must(t, err)
	mustInstall(t, i, l, b)
	if _, body := n.get("https", "a.example", "/"); body != "apex" {
		t.Errorf("https://a.example answers %q", body)
	}
	after, err := i.Notes(t.Context(), b)
	must(t, err)
	if len(before) != 1 || len(after) != 1 || before[0] != after[0] || !strings.HasPrefix(after[0], "www.a.example has no site on this server, ") {
		t.Errorf("notes %q, then %q", before, after)
	}
	cfg := n.config()
	cfg.Names = []string{"a.example", "www.a.example"}
	if err := n.installer(cfg, l).Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), `no nginx server block has the name "www.a.example"`) {
		t.Errorf("Install for chosen names = %v", err)
	}
	must(t, i.Uninstall(t.Context()))
}

// TestStaplingLeftOver: directives for OCSP stapling that a certificate without a responder makes useless get a note and stay.
func TestStaplingLeftOver(t *testing.T) {
	t.Parallel()
	n := start(t, map[string]string{"sites/a.conf": strings.Replace(site("a.example", "hello"), "server_name", "ssl_stapling on;\n    server_name", 1)})
	l := newLineage(t, "a.example")
	b := installertest.Bundle(t, "a.example")
	i := n.installer(n.config(), l)
	mustInstall(t, i, l, b)
	const want = "ssl_stapling has no effect because the certificate names no OCSP responder"
	if notes, err := i.Notes(t.Context(), b); err != nil || len(notes) != 1 || !strings.HasPrefix(notes[0], n.path("sites/a.conf")+":") || !strings.Contains(notes[0], want) {
		t.Errorf("notes %q, %v", notes, err)
	}
	b.Leaf.OCSPServer = []string{"http://ocsp.example"}
	if notes, err := i.Notes(t.Context(), b); err != nil || len(notes) > 0 {
		t.Errorf("notes %q, %v for a certificate with a responder", notes, err)
	}
}
