package docs_test

import (
	"html"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var label = regexp.MustCompile(`label="([^"\\]*(?:\\.[^"\\]*)*)"`)

// TestPictures: each picture was drawn from its text as it is now, and docs/pictures.md shows it.
func TestPictures(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs/pictures/*.dot"))
	if err != nil || len(files) != 5 {
		t.Fatal(files, err)
	}
	page := read(t, filepath.Join(root, "docs/pictures.md"))
	for _, file := range files {
		drawn := strings.TrimSuffix(file, ".dot") + ".svg"
		if !strings.Contains(page, "(pictures/"+filepath.Base(drawn)+")") {
			t.Errorf("docs/pictures.md does not show %s", drawn)
		}
		svg := html.UnescapeString(read(t, drawn))
		want := 0
		for _, m := range label.FindAllStringSubmatch(read(t, file), -1) {
			for _, line := range strings.Split(strings.ReplaceAll(m[1], `\"`, `"`), `\n`) {
				want++
				if !strings.Contains(svg, ">"+line+"</text>") {
					t.Errorf("%s does not show %q; run make pictures", drawn, line)
				}
			}
		}
		if got := strings.Count(svg, "</text>"); got != want || want == 0 {
			t.Errorf("%s has %d texts, and its source %d; run make pictures", drawn, got, want)
		}
	}
}
