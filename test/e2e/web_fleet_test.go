package e2e

import (
	"fmt"
	"image/color"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/internal/acmetest/fleet"
)

// fleet replaces the certificates of a site by many that are all in order, without an order for any. Their files are in memory:
// a disk would flush tens of thousands.
func (s *site) fleet(count int) {
	s.t.Helper()
	state, err := os.MkdirTemp("/dev/shm", "acmed-fleet")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = os.RemoveAll(state) })
	if err := fleet.Fill(state, count, "test-ca", func(int) []string { return nil }); err != nil {
		s.t.Fatal(err)
	}
	main, _, _ := strings.Cut(strings.Replace(s.read("acmed.yaml"), s.dir+"/state", state, 1), "certificates:")
	var text strings.Builder
	text.WriteString(main + "certificates:\n")
	for i := range count {
		fmt.Fprintf(&text, "  - { name: %s, names: [%s] }\n", fleet.Name(i), fleet.Host(i))
	}
	s.write("acmed.yaml", text.String())
}

// TestStatusPageOfFleet: with 10,000 certificates a browser shows the first page, the last one and a search, each complete,
// and the first one fits a phone.
func TestStatusPageOfFleet(t *testing.T) {
	if testing.Short() {
		t.Skip("it makes 10,000 certificates")
	}
	if out, err := exec.CommandContext(t.Context(), "../needs.sh", "chromium:chromium").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	const count = 10_000
	s := newSite(t)
	s.fleet(count)
	address := fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t))
	s.write("acmed.yaml", s.read("acmed.yaml")+"web: { listen: \""+address+"\" }\n")
	s.start()
	up(t, "http://"+address+"/")
	b := browser{t}
	for _, tt := range []struct {
		path string
		rows int
		has  []string
	}{
		{"/", 100, []string{"<b>10,000</b>", "1 to 100 of 10,000", `<a href="/certificate/c0">c0</a>`, "<svg"}},
		{"/?sort=name&page=100", 100, []string{"9,901 to 10,000 of 10,000", `<a href="/certificate/c9999">c9999</a>`}},
		{"/?q=c1234", 1, []string{`<a href="/certificate/c1234">c1234</a>`}},
	} {
		begun := time.Now()
		dom, log := b.open(1280, false, "http://"+address+tt.path, "--dump-dom")
		t.Logf("%s: %d bytes after %s", tt.path, len(dom), time.Since(begun).Round(time.Millisecond))
		if n := strings.Count(dom, `<tr><td class="state`); n != tt.rows {
			t.Errorf("%s: %d rows, want %d\n%s", tt.path, n, tt.rows, log)
		}
		for _, want := range tt.has {
			if !strings.Contains(dom, want) {
				t.Errorf("%s: no %q", tt.path, want)
			}
		}
		if t.Failed() {
			t.Logf("the page:\n%s", dom)
		}
	}
	if !fits(b.screenshot(500, false, "http://"+address+"/"), color.RGBA{0xf6, 0xf7, 0xf9, 255}) {
		t.Error("without style, or wider than a phone")
	}
}
