package apache

import (
	"strings"
	"testing"
)

// TestSplitNames: each of two names has its own virtual host, and both are served. A name without one is left out with a note,
// unless the operator chose the names.
func TestSplitNames(t *testing.T) {
	a := start(t, map[string]string{"sites-available/a.conf": site("a.example", "apex"), "sites-available/b.conf": site("www.a.example", "www")})
	l := newLineage(t, "a.example", "www.a.example")
	i, b := a.install(a.config(), l, "a.example", "www.a.example")
	for host, want := range map[string]string{"a.example": "apex", "www.a.example": "www"} {
		if _, body := a.get("https", host, "/"); body != want {
			t.Errorf("https://%s answers %q", host, body)
		}
	}
	if notes, err := i.Notes(t.Context(), b); err != nil || len(notes) > 0 {
		t.Errorf("notes %q, %v", notes, err)
	}

	a = start(t, map[string]string{"sites-available/a.conf": site("a.example", "apex")})
	l = newLineage(t, "a.example", "www.a.example")
	before, err := a.installer(a.config(), l).Notes(t.Context(), b)
	must(t, err)
	i, b = a.install(a.config(), l, "a.example", "www.a.example")
	must(t, i.Verify(t.Context(), b))
	after, err := i.Notes(t.Context(), b)
	must(t, err)
	if len(before) != 1 || len(after) != 1 || before[0] != after[0] || !strings.HasPrefix(after[0], "www.a.example has no site on this server, ") {
		t.Errorf("notes %q, then %q", before, after)
	}
	cfg := a.config()
	cfg.Names = []string{"a.example", "www.a.example"}
	if err := a.installer(cfg, l).Install(t.Context(), b); err == nil || !strings.Contains(err.Error(), `no Apache virtual host has the name "www.a.example"`) {
		t.Errorf("Install for chosen names = %v", err)
	}
	must(t, i.Uninstall(t.Context()))
}

// TestStaplingLeftOver: directives for OCSP stapling that a certificate without a responder makes useless get a note and stay.
func TestStaplingLeftOver(t *testing.T) {
	a := newInstance(t, map[string]string{"sites-available/a.conf": "SSLStaplingCache shmcb:{run}/stapling(32768)\n" +
		strings.Replace(site("a.example", "hello"), "</VirtualHost>", "SSLUseStapling on\n</VirtualHost>", 1)})
	a.enableModule("ssl", "socache_shmcb")
	a.start()
	i, b := a.install(a.config(), newLineage(t, "a.example"), "a.example")
	const want = "SSLUseStapling has no effect because the certificate names no OCSP responder"
	if notes, err := i.Notes(t.Context(), b); err != nil || len(notes) != 1 || !strings.HasPrefix(notes[0], a.conf) || !strings.Contains(notes[0], want) {
		t.Errorf("notes %q, %v", notes, err)
	}
	b.Leaf.OCSPServer = []string{"http://ocsp.example"}
	if notes, err := i.Notes(t.Context(), b); err != nil || len(notes) > 0 {
		t.Errorf("notes %q, %v for a certificate with a responder", notes, err)
	}
}
