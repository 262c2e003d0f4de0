package config_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/internal/acmetest"
	"github.com/acmed/acmed/pkg/config"
)

// TestWarnings: each warning comes once, at its line, and the order of the names stays.
func TestWarnings(t *testing.T) {
	dir := t.TempDir()
	main := filepath.Join(dir, "acmed.yaml")
	writeFile(t, main, `agree_tos: true
certificates:
  - name: www
    issuers: [zerossl]
    names:
      - EXAMPLE.com
      - www.example.com.
      - example.com
      - bücher.example.org
      - xn--bcher-kva.example.org
      - аpple.example.org
`, 0o600)
	c, warnings, err := config.Load(main)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, w := range warnings {
		got = append(got, strings.TrimPrefix(w.String(), main))
	}
	want := []string{
		`:6: certificates[www].names[0]: "EXAMPLE.com" was lower-cased`,
		`:7: certificates[www].names[1]: "www.example.com." ends in a dot, which was removed`,
		`:8: certificates[www].names[2]: example.com is listed twice; it is ordered once`,
		`:9: certificates[www].names[3]: "bücher.example.org" is ordered as "xn--bcher-kva.example.org"`,
		`:10: certificates[www].names[4]: xn--bcher-kva.example.org is listed twice; it is ordered once`,
		`:11: certificates[www].names[5]: "аpple.example.org" is ordered as "xn--pple-43d.example.org"`,
		`:11: certificates[www].names[5]: "аpple" mixes the scripts Latin and Cyrillic; is it the name you mean?`,
		`: issuers[zerossl]: zerossl opens no account without an external account binding; add an issuer with this name and eab`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	spec := c.Spec(&c.Certificates[0])
	if diff := cmp.Diff([]string{"example.com", "www.example.com", "xn--bcher-kva.example.org", "xn--pple-43d.example.org"}, spec.Names()); diff != "" {
		t.Error(diff)
	}
}

// TestBombs: whatever is in a file of the largest size, it is refused soon: for half a second of processor time, and with
// room here for a build that looks for races.
func TestBombs(t *testing.T) {
	certificates := &strings.Builder{}
	for i := range 20_000 {
		fmt.Fprintf(certificates, "  - {name: c%d, names: *n}\n", i)
	}
	list := "[" + strings.Repeat("a,", 50_000) + "]"
	unknown := &strings.Builder{}
	for i := range 80_000 {
		fmt.Fprintf(unknown, "k%d: 1\n", i)
	}
	tests := []struct{ name, text, want string }{
		{"aliases", "x: &n " + list + "\ncertificates:\n" + certificates.String(), "values, those repeated by aliases included"},
		{"known anchor", "solvers: [{name: s, zones: &n " + list + "}]\ncertificates:\n" + certificates.String(), "values, those repeated by aliases included"},
		{"depth", strings.Repeat("[", 20_000), "exceeded max depth"},
		{"block depth", "a:\n " + strings.Repeat("- ", 20_000), "exceeded max depth"},
		{"unknown keys", unknown.String(), "unknown key"},
		{"wrong names", "certificates: [{name: a, names: [" + strings.Repeat("1,", 200_000) + "]}]", "expected text"},
		{"long key", "? " + strings.Repeat("k", 1_000_000) + "\n: 1", "unknown key \"kkk"},
		{"long name", "certificates: [{name: " + strings.Repeat("k", 1_000_000) + ", names: [a]}]", "has 1000000 characters"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			main := filepath.Join(t.TempDir(), "acmed.yaml")
			writeFile(t, main, tt.text, 0o600)
			begin := acmetest.Spent(t)
			c, _, err := config.Load(main)
			if c != nil || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %.200v, want %q", err, tt.want)
			}
			if spent := acmetest.Spent(t) - begin; spent > 15*time.Second {
				t.Errorf("it took %s of processor time", spent)
			}
			if n := len(err.Error()); n > 1<<20 {
				t.Errorf("the message has %d bytes", n)
			}
		})
	}
}

func FuzzLoad(f *testing.F) {
	for _, pattern := range []string{"testdata/good/*.yaml", "testdata/bad/*.yaml", "../../configs/*.yaml", "../../configs/examples/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range files {
			text, err := os.ReadFile(file)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(text)
		}
	}
	main := filepath.Join(f.TempDir(), "acmed.yaml")
	f.Fuzz(func(t *testing.T, text []byte) {
		if err := os.WriteFile(main, text, 0o600); err != nil {
			t.Fatal(err)
		}
		c, _, err := config.Load(main, config.WithoutFiles)
		if (c == nil) == (err == nil) {
			t.Fatalf("config %v, error %v", c, err)
		}
		if err != nil {
			for line := range strings.SplitSeq(err.Error(), "\n") {
				if line == "" || strings.ContainsFunc(line, unicode.IsControl) {
					t.Fatalf("bad line %q", line)
				}
			}
			return
		}
		if _, err := c.Validate(); err != nil {
			t.Fatalf("loaded, but not valid: %v", err)
		}
		for i := range c.Certificates {
			spec := c.Spec(&c.Certificates[i])
			if len(spec.Identifiers) == 0 || len(spec.Issuers) == 0 || len(spec.Solvers) == 0 || len(spec.KeyTypes) == 0 {
				t.Fatalf("the spec %+v is not complete", spec)
			}
		}
	})
}

// BenchmarkLoad10000 loads a fleet with one file for each of its sites.
func BenchmarkLoad10000(b *testing.B) {
	dir := b.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "conf.d"), 0o755); err != nil {
		b.Fatal(err)
	}
	site := "certificates:\n  - name: site-%05d\n    names: [s%d.example.com, www.s%d.example.com]\n    install:\n      - nginx: {redirect: true}\n"
	for i := range 10_000 {
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("conf.d/site-%05d.yaml", i)), fmt.Appendf(nil, site, i, i, i), 0o600); err != nil {
			b.Fatal(err)
		}
	}
	main := filepath.Join(dir, "acmed.yaml")
	if err := os.WriteFile(main, []byte("agree_tos: true\ninclude: conf.d/*.yaml\n"), 0o600); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		c, _, err := config.Load(main)
		if err != nil || len(c.Certificates) != 10_000 {
			b.Fatal(err)
		}
	}
}
