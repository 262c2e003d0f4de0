package e2e

import (
	"bytes"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmed/acmed/internal/acmetest"
)

// browser opens pages as a visitor would see them.
type browser struct{ *testing.T }

func (b browser) open(width int, dark bool, url string, more ...string) (stdout, stderr string) {
	b.Helper()
	args := []string{
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr", "--user-data-dir=" + b.TempDir(),
		fmt.Sprintf("--window-size=%d,1200", width),
	}
	if dark {
		args = append(args, "--blink-settings=preferredColorScheme=0")
	}
	cmd := exec.CommandContext(b.Context(), "chromium", append(append(args, more...), url)...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		b.Fatalf("chromium: %v\n%s", err, errs.String())
	}
	return out.String(), errs.String()
}

func (b browser) screenshot(width int, dark bool, url string) image.Image {
	b.Helper()
	file := filepath.Join(b.TempDir(), "page.png")
	_, log := b.open(width, dark, url, "--screenshot="+file)
	for line := range strings.SplitSeq(log, "\n") {
		if strings.Contains(line, "CONSOLE") && !strings.Contains(line, "favicon") {
			b.Errorf("the browser complains: %s", line)
		}
	}
	f, err := os.Open(file)
	if err != nil {
		b.Fatalf("%v\n%s", err, log)
	}
	defer func() { _ = f.Close() }()
	page, err := png.Decode(f)
	if err != nil {
		b.Fatal(err)
	}
	return page
}

// fits reports whether the margins have the colour of the page from top to bottom, below the header.
func fits(page image.Image, want color.RGBA) bool {
	r := page.Bounds()
	for y := 80; y < r.Max.Y; y++ {
		for _, x := range []int{r.Min.X + 2, r.Max.X - 3} {
			red, green, blue, _ := page.At(x, y).RGBA()
			if (color.RGBA{uint8(red >> 8), uint8(green >> 8), uint8(blue >> 8), 255}) != want {
				return false
			}
		}
	}
	return true
}

// TestStatusPage: a browser shows the page with its style in both colour schemes and at the width of a phone, and has
// nothing to complain about.
func TestStatusPage(t *testing.T) {
	if out, err := exec.CommandContext(t.Context(), "../needs.sh", "chromium:chromium").CombinedOutput(); err != nil {
		t.Skipf("%v: %s", err, out)
	}
	s := newSite(t)
	address := fmt.Sprintf("127.0.0.1:%d", acmetest.FreePort(t))
	conf, err := os.ReadFile(filepath.Join(s.dir, "acmed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	s.write("acmed.yaml", string(conf)+"web: { listen: \""+address+"\" }\n")
	s.startNginx()
	s.start()
	s.waitFor("ok", isOK)
	b := browser{t}
	for _, path := range []string{"/", "/certificate/www"} {
		for _, width := range []int{1280, 500} {
			for dark, want := range map[bool]color.RGBA{false: {0xf6, 0xf7, 0xf9, 255}, true: {0x0e, 0x12, 0x17, 255}} {
				if !fits(b.screenshot(width, dark, "http://"+address+path), want) {
					t.Errorf("%s at width %d, dark %v: without style, or wider than the window", path, width, dark)
				}
			}
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = "rebound.attacker.example"
	resp, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusMisdirectedRequest {
		t.Errorf("a name that is not the server's gets %s", resp.Status)
	}
}
