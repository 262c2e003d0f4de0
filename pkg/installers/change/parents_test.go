package change

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRefusedParents: what is wrong with a target is as wrong with any directory above it, and with what a link above it
// leads to. Nothing is written, neither there nor elsewhere.
func TestRefusedParents(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make what belongs to another user; make test runs as root")
	}
	const other = 4711
	for _, tt := range []struct {
		name, path, want string
		setup            func(dir string) error
	}{
		{"an open directory above", "up/conf/site.conf", "world-writable", func(d string) error { return os.Chmod(d+"/up", 0o777) }},
		{"another user's link above", "link/site.conf", "user 4711", func(d string) error {
			return first(os.Symlink("up/conf", d+"/link"), os.Lchown(d+"/link", other, other))
		}},
		{"a link to an open directory", "link/site.conf", "world-writable", func(d string) error {
			return first(os.Symlink("up/conf", d+"/link"), os.Chmod(d+"/up/conf", 0o777))
		}},
		{"a link into an open directory", "link/conf/site.conf", "world-writable", func(d string) error {
			return first(os.Symlink("up", d+"/link"), os.Chmod(d+"/up", 0o777))
		}},
		{"a link that another user's directory has", "theirs/link/site.conf", "user 4711", func(d string) error {
			return first(os.Mkdir(d+"/theirs", 0o755), os.Symlink("../up/conf", d+"/theirs/link"),
				os.Lchown(d+"/theirs/link", other, other), os.Chown(d+"/theirs", other, other))
		}},
		{"a link in a circle", "link/site.conf", "too many levels", func(d string) error { return os.Symlink("link", d+"/link") }},
		{"a link to a file", "link/site.conf", "not a directory", func(d string) error { return os.Symlink("up/conf/site.conf", d+"/link") }},
		{"a file", "up/conf/site.conf/x", "not a directory", func(string) error { return nil }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir, err := os.MkdirTemp("/dev/shm", "acmed-parents-")
			if err != nil {
				dir = t.TempDir()
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			genuine := filepath.Join(dir, "up/conf/site.conf")
			must(t, os.Chmod(dir, 0o755), os.MkdirAll(filepath.Dir(genuine), 0o755), os.WriteFile(genuine, []byte("old"), 0o644), tt.setup(dir))
			c := &Change{Journal: filepath.Join(t.TempDir(), "j"), Files: []File{{Path: filepath.Join(dir, tt.path), Content: []byte("new"), Follow: true}}}
			changed, err := c.Apply(t.Context())
			if changed || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Apply = %v, %v, want %q", changed, err, tt.want)
			}
			if text, err := os.ReadFile(genuine); err != nil || string(text) != "old" {
				t.Errorf("the file is now %q, %v", text, err)
			}
		})
	}
}

func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
