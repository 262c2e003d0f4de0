package nginx

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest/await"
	"github.com/acmed/acmed/pkg/installers/endpoint"
	"github.com/acmed/acmed/pkg/installers/installertest"
)

// TestSharedSnippet: two sites include one file with their pair and settings; one of them gets a certificate, edits beside
// acmed's lines stay, and the certificate moves to the other site.
func TestSharedSnippet(t *testing.T) {
	t.Parallel()
	block := func(name string) string {
		return "server {\n    listen 127.0.0.1:{tls} ssl;\n    server_name " + name + ";\n    include tls.inc;\n    location / { return 200 hello; }\n}\n"
	}
	n := newInstance(t, map[string]string{
		"sites/a.conf": block("a.example"), "sites/b.conf": block("b.example"),
		"tls.inc": "ssl_certificate old.pem;\nssl_certificate_key old.key;\nssl_protocols TLSv1.2;\n",
	})
	old := installertest.Bundle(t, "old.example")
	n.write("old.pem", string(old.FullChainPEM()))
	n.write("old.key", string(old.KeyPEM))
	n.nginx()
	t.Cleanup(n.stop)
	before := snapshotOf(t, n.conf)
	l := newLineage(t, "a.example", "b.example")
	b := installertest.Bundle(t, "a.example", "b.example")
	l.publish(b)
	cfg := n.config()
	install := func(name string) *Installer {
		cfg.Names = []string{name}
		i := n.installer(cfg, l)
		must(t, i.Install(t.Context(), b))
		must(t, i.Verify(t.Context(), b))
		return i
	}
	serves := func(name string, want bool) {
		t.Helper()
		await.True(t, "the new workers answer for "+name, func() bool {
			chain, err := endpoint.Handshake(t.Context(), endpoint.Endpoint{Addr: n.addr(), ServerName: name})
			return err == nil && chain[0].Equal(b.Leaf) == want
		})
		if p := endpoint.Protocols(t.Context(), endpoint.Endpoint{Addr: n.addr(), ServerName: name}); len(p) != 1 {
			t.Errorf("%s is served with %d versions of TLS", name, len(p))
		}
	}
	install("a.example")
	serves("a.example", true)
	serves("b.example", false)
	i := install("b.example")
	serves("a.example", false)
	serves("b.example", true)
	if n.read("sites/a.conf") != n.expand(block("a.example")) {
		t.Errorf("the site that lost its certificate is\n%s", n.read("sites/a.conf"))
	}
	must(t, i.Uninstall(t.Context()))
	if diff := cmp.Diff(before, snapshotOf(t, n.conf)); diff != "" {
		t.Error(diff)
	}
}
