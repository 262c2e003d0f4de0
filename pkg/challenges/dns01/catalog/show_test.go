package catalog_test

import (
	"strings"
	"testing"

	"github.com/acmed/acmed/pkg/challenges/dns01/catalog"
)

func TestList(t *testing.T) {
	var b strings.Builder
	if err := catalog.List(&b); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(b.String()), "\n")
	if len(lines) != 195 || !strings.Contains(b.String(), "\ncloudflare ") || !strings.Contains(b.String(), "has shut down") {
		t.Errorf("%d lines:\n%s", len(lines), b.String())
	}
}

func TestDescribe(t *testing.T) {
	var b strings.Builder
	if err := catalog.Describe(&b, "linodev4"); err != nil {
		t.Fatal(err)
	}
	want := `linode: Linode (v4)
also called linodev4

Required
  LINODE_TOKEN
`
	if !strings.HasPrefix(b.String(), want) || !strings.Contains(b.String(), "  LINODE_TTL  (default 300)\n") ||
		!strings.Contains(b.String(), "https://go-acme.github.io/lego/dns/linode/") {
		t.Errorf("got\n%s", b.String())
	}
	if err := catalog.Describe(&b, "cloudflair"); err == nil || !strings.Contains(err.Error(), `"cloudflare"`) {
		t.Error(err)
	}
}
