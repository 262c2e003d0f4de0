package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmed/acmed/pkg/config"
)

func names(c *config.Config) []string {
	var list []string
	for _, cert := range c.Certificates {
		list = append(list, cert.Name)
	}
	return list
}

func TestInclude(t *testing.T) {
	dir := place(t, "testdata/include/good")
	c, _, err := config.Load(filepath.Join(dir, "acmed.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"www", "db"}, names(c)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(config.Log{Level: "warn", Format: "json"}, c.Log); diff != "" {
		t.Error(diff)
	}
}

// TestPreview: planned texts are read in the place of files, or before there is any, and nothing is written.
func TestPreview(t *testing.T) {
	dir := place(t, "testdata/include/good")
	path := filepath.Join(dir, "acmed.yaml")
	text := func(name string) []byte {
		return []byte("certificates:\n  - { name: " + name + ", names: [" + name + ".example.com] }\n")
	}
	empty := t.TempDir()
	for _, tt := range []struct {
		main    string
		planned map[string][]byte
		want    []string
	}{
		{path, nil, []string{"www", "db"}},
		{path, map[string][]byte{filepath.Join(dir, "conf.d", "zz.yaml"): text("zz"), filepath.Join(dir, "conf.d", "zz.txt"): text("no")}, []string{"www", "db", "zz"}},
		{path, map[string][]byte{path: []byte("email: ops@example.com\nagree_tos: true\ninclude: new.d/*.yaml\n"), filepath.Join(dir, "new.d", "a.yaml"): text("a")}, []string{"a"}},
		{filepath.Join(empty, "acmed.yaml"), map[string][]byte{
			filepath.Join(empty, "acmed.yaml"): []byte("email: ops@example.com\nagree_tos: true\ninclude: conf.d/*.yaml\n"), filepath.Join(empty, "conf.d", "a.yaml"): text("a"),
		}, []string{"a"}},
	} {
		c, _, err := config.Preview(tt.main, tt.planned)
		if err != nil {
			t.Error(err)
			continue
		}
		if diff := cmp.Diff(tt.want, names(c)); diff != "" {
			t.Error(diff)
		}
	}
	if _, _, err := config.Preview(path, map[string][]byte{filepath.Join(dir, "conf.d", "zz.yaml"): []byte("nonsense: 1\n")}); err == nil || !strings.Contains(err.Error(), "zz.yaml:1: ") {
		t.Errorf("a planned file with a problem: %v", err)
	}
	if list, err := os.ReadDir(empty); err != nil || len(list) > 0 {
		t.Errorf("there is %v %v", list, err)
	}
}

func TestIncludeProblems(t *testing.T) {
	for _, name := range []string{"twice", "broken", "patterns"} {
		t.Run(name, func(t *testing.T) {
			dir := place(t, "testdata/include/"+name)
			c, _, err := config.Load(filepath.Join(dir, "acmed.yaml"))
			if c != nil {
				t.Error("a bad configuration was returned")
			}
			want(t, "testdata/include/"+name+".txt", said(t, err, dir))
		})
	}
}

// TestLenient: a file that does not parse, one that is wrong, and one that needs a wrong one are left out.
func TestLenient(t *testing.T) {
	dir := place(t, "testdata/include/lenient")
	path := filepath.Join(dir, "acmed.yaml")
	c, _, err := config.Load(path, config.Lenient)
	if c == nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"www", "b"}, names(c)); diff != "" {
		t.Error(diff)
	}
	want(t, "testdata/include/lenient.txt", said(t, err, dir))

	if c, _, err := config.Load(path); c != nil || err == nil {
		t.Error("without the option the broken files were left out as well")
	}
	if err := os.WriteFile(path, []byte("agree_tos: true\nemial: x\ninclude: conf.d/*.yaml\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if c, _, err := config.Load(path, config.Lenient); c != nil || err == nil {
		t.Error("a broken main file was accepted")
	}
}

func TestLinks(t *testing.T) {
	dir := place(t, "testdata/include/good")
	link := filepath.Join(dir, "link.yaml")
	if err := os.Symlink("acmed.yaml", link); err != nil {
		t.Fatal(err)
	}
	if _, _, err := config.Load(link); err != nil {
		t.Error("a link to a sound file was refused:", err)
	}
	if err := os.Symlink("/nonexistent/site", filepath.Join(dir, "conf.d/40-gone.yaml")); err != nil {
		t.Fatal(err)
	}
	_, _, err := config.Load(link)
	if got := said(t, err, dir); got != "conf.d/40-gone.yaml: is a symbolic link to \"/nonexistent/site\", which does not exist: file does not exist\n" {
		t.Error(got)
	}
}

func TestRefusedFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string, mode os.FileMode) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	fifo := filepath.Join(dir, "fifo.yaml")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	tests := []struct{ name, path, want string }{
		{"missing", filepath.Join(dir, "none.yaml"), "no such file or directory"},
		{"directory", dir, "is not a regular file (d---------)"},
		{"fifo", fifo, "is not a regular file (p---------)"},
		{"device", "/dev/zero", "is not a regular file"},
		{"world-writable", write("w.yaml", "", 0o646), "can be changed by others (mode 0646): chmod go-w "},
		{"group-writable", write("g.yaml", "", 0o664), "can be changed by others (mode 0664): chmod go-w "},
		{"too large", write("l.yaml", strings.Repeat("#", 1<<20+1), 0o600), "is larger than 1024 KiB"},
	}
	if os.Geteuid() == 0 {
		path := write("o.yaml", "", 0o600)
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		tests = append(tests, struct{ name, path, want string }{"foreign", path, "belongs to user 12345, and must belong to root"})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, _, err := config.Load(tt.path)
			if c != nil || err == nil || !strings.Contains(err.Error(), tt.want) || !strings.HasPrefix(err.Error(), tt.path+": ") {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}
