package config_test

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/config"
)

var update = flag.Bool("update", false, "write the expected messages below testdata")

// place copies a file or directory below testdata to a directory where the modes are those that acmed asks for.
func place(t *testing.T, from string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "etc")
	err := filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.Mkdir(filepath.Join(to, rel), 0o755)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), text, 0o644)
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

// want compares a text with the golden file.
func want(t *testing.T, golden, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", golden, diff)
	}
}

// said is the text of an error without the test's own directory.
func said(t *testing.T, err error, dir string) string {
	t.Helper()
	var e *config.Error
	if !errors.As(err, &e) {
		t.Fatalf("the error is %T (%v), want *config.Error", err, err)
	}
	return strings.ReplaceAll(err.Error(), dir+"/", "") + "\n"
}

func TestGood(t *testing.T) {
	dir := place(t, "testdata/good")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			c, warnings, err := config.Load(file)
			if err != nil || c == nil {
				t.Fatal(err)
			}
			if len(warnings) > 0 {
				t.Error("warnings:", warnings)
			}
			if warnings, err := c.Validate(); err != nil || len(warnings) > 0 {
				t.Error("validated again:", err, warnings)
			}
		})
	}
}

func TestBad(t *testing.T) {
	dir := place(t, "testdata/bad")
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			c, _, err := config.Load(file)
			if c != nil {
				t.Error("a bad configuration was returned")
			}
			got := said(t, err, dir)
			want(t, "testdata/bad/"+name+".txt", got)
			if strings.Contains(got, "s3cret") {
				t.Error("the message shows a secret")
			}
		})
	}
}
