package change

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/pkg/installers"
)

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestRefusedTargets(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T, path string) error
		file  File
		want  string
	}{
		{"directory", func(_ *testing.T, p string) error { return os.Mkdir(p, 0o755) }, File{}, "is a directory"},
		{"named pipe", func(_ *testing.T, p string) error { return syscall.Mkfifo(p, 0o600) }, File{}, "is a named pipe"},
		{"hard link", func(_ *testing.T, p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Link(p, p+".2"))
		}, File{}, "has 2 hard links"},
		{"link", func(_ *testing.T, p string) error { return os.Symlink("/etc/passwd", p) }, File{}, "is a symbolic link"},
		{"dangling link", func(_ *testing.T, p string) error { return os.Symlink("nothing", p) }, File{Follow: true}, "link to nothing"},
		{"loop", func(_ *testing.T, p string) error { return os.Symlink(filepath.Base(p), p) }, File{Follow: true}, "more than 8 symbolic links"},
		{"link to a device", func(_ *testing.T, p string) error { return os.Symlink("/dev/null", p) }, File{Follow: true, Shared: true}, "is a device"},
		{"open directory", func(_ *testing.T, p string) error { return os.Chmod(filepath.Dir(p), 0o777) }, File{}, "world-writable"},
		{"sticky directory", func(_ *testing.T, p string) error { return os.Chmod(filepath.Dir(p), 0o777|fs.ModeSticky) }, File{}, "world-writable"},
		{"link into an open directory", func(t *testing.T, p string) error {
			open := t.TempDir()
			return errors.Join(os.Chmod(open, 0o777), os.WriteFile(open+"/x", nil, 0o600), os.Symlink(open+"/x", p))
		}, File{Follow: true}, "world-writable"},
		{"no directory", func(_ *testing.T, p string) error { return os.Remove(filepath.Dir(p)) }, File{}, "no such file"},
		{"open secret", nil, File{Secret: true, Mode: 0o644}, "gives others access"},
		{"too large", func(_ *testing.T, p string) error {
			return errors.Join(os.WriteFile(p, nil, 0o600), os.Truncate(p, maxFile+1))
		}, File{}, "too large"},
		{"twice", nil, File{}, "writes this file twice"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "conf")
			must(t, os.Mkdir(dir, 0o755))
			tt.file.Path, tt.file.Content = filepath.Join(dir, "site.conf"), []byte("new")
			if tt.setup != nil {
				must(t, tt.setup(t, tt.file.Path))
			}
			fine := filepath.Join(t.TempDir(), "fine.conf")
			c := &Change{Journal: filepath.Join(t.TempDir(), "j"), Files: []File{{Path: fine}, tt.file}}
			if tt.name == "twice" {
				c.Files = append(c.Files, tt.file)
			}
			changed, err := c.Apply(t.Context())
			if changed || err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("Apply = %v, %v, want %q", changed, err, tt.want)
			}
			if _, err := os.Lstat(fine); !errors.Is(err, fs.ErrNotExist) {
				t.Error("the other file was written")
			}
		})
	}
}

func TestRefusedPaths(t *testing.T) {
	for _, path := range []string{"", "site.conf", "./x", "/etc/../x", "/etc//x", "/etc/x/"} {
		c := &Change{Journal: filepath.Join(t.TempDir(), "j"), Files: []File{{Path: path}}}
		if _, err := c.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "clean absolute path") {
			t.Errorf("%q: Apply = %v", path, err)
		}
	}
	if _, err := (&Change{Journal: "journal"}).Apply(t.Context()); err == nil {
		t.Error("a relative journal was accepted")
	}
}

func TestSharedDirectoryAllowed(t *testing.T) {
	dir := t.TempDir()
	must(t, os.Chmod(dir, 0o777|fs.ModeSticky))
	c := &Change{Journal: filepath.Join(t.TempDir(), "j"), Files: []File{{Path: filepath.Join(dir, "x"), Shared: true}}}
	if _, err := c.Apply(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestFollowsLinksToTheFile(t *testing.T) {
	dir := t.TempDir()
	enabled, available := filepath.Join(dir, "sites-enabled"), filepath.Join(dir, "sites-available")
	must(t, os.Mkdir(enabled, 0o755), os.Mkdir(available, 0o755),
		os.WriteFile(filepath.Join(available, "www"), []byte("old"), 0o644),
		os.Symlink("../sites-available/www", filepath.Join(enabled, "www")),
		os.Symlink("www", filepath.Join(enabled, "alias")))
	journal := filepath.Join(dir, "j")
	c := &Change{Journal: journal, Files: []File{{Path: filepath.Join(enabled, "alias"), Content: []byte("new"), Follow: true}}}
	if changed, err := c.Apply(t.Context()); err != nil || !changed {
		t.Fatalf("Apply = %v, %v", changed, err)
	}
	for _, link := range []string{"alias", "www"} {
		if info, err := os.Lstat(filepath.Join(enabled, link)); err != nil || info.Mode()&fs.ModeSymlink == 0 {
			t.Errorf("%s is no link any more: %v", link, err)
		}
	}
	if content, err := os.ReadFile(filepath.Join(available, "www")); err != nil || string(content) != "new" {
		t.Errorf("the file is %q, %v", content, err)
	}
	list, err := Originals(t.Context(), journal)
	if err != nil || len(list) != 1 || list[0].Path != filepath.Join(available, "www") {
		t.Errorf("Originals = %+v, %v", list, err)
	}
	must(t, os.Remove(filepath.Join(enabled, "www")), Undo(t.Context(), journal, nil, nil))
	if content, err := os.ReadFile(filepath.Join(available, "www")); err != nil || string(content) != "old" {
		t.Errorf("after Undo the file is %q, %v", content, err)
	}
}

func TestLinkOfAStranger(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can make a link of somebody else")
	}
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	must(t, os.WriteFile(filepath.Join(dir, "file"), nil, 0o644), os.Symlink("file", link), os.Lchown(link, 4711, 4711))
	c := &Change{Journal: filepath.Join(dir, "j"), Files: []File{{Path: link, Content: []byte("new"), Follow: true}}}
	if _, err := c.Apply(t.Context()); err == nil || !strings.Contains(err.Error(), "user 4711") {
		t.Errorf("Apply = %v", err)
	}
}

func TestOwnerAndModeStay(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give files away")
	}
	s := newSite(t, nil)
	s.write("site.conf", "old", 0o640)
	s.write("key.pem", "old key", 0o644)
	must(t, os.Chown(s.path("site.conf"), 4711, 4712))
	check := func(name string, mode fs.FileMode, uid, gid uint32) {
		t.Helper()
		info, err := os.Stat(s.path(name))
		must(t, err)
		st := info.Sys().(*syscall.Stat_t)
		if info.Mode() != mode || st.Uid != uid || st.Gid != gid {
			t.Errorf("%s is %v of %d:%d, want %v of %d:%d", name, info.Mode(), st.Uid, st.Gid, mode, uid, gid)
		}
	}
	_, err := s.change(text("site.conf", "new"), File{Path: "key.pem", Content: []byte("new key"), Secret: true},
		File{Path: "new.key", Content: []byte("k"), Secret: true}).Apply(t.Context())
	must(t, err)
	check("site.conf", 0o640, 4711, 4712)
	check("key.pem", 0o640, 0, 0)
	check("new.key", 0o600, 0, 0)
	_, err = s.change(File{Path: "site.conf", Content: []byte("new"), Mode: 0o444, Owner: &Owner{UID: 1, GID: Keep}}).Apply(t.Context())
	must(t, err)
	check("site.conf", 0o444, 1, 4712)
	must(t, Undo(t.Context(), s.journal, nil, nil))
	check("site.conf", 0o640, 4711, 4712)
	check("key.pem", 0o644, 0, 0)
	s.wantFile("new.key", "-")
}

func TestReplacedByALinkAfterwards(t *testing.T) {
	s := newSite(t, map[string]string{"site.conf": "old", "precious": "precious"})
	_, err := s.change(text("site.conf", "new")).Apply(t.Context())
	must(t, err, os.Remove(s.path("site.conf")), os.Symlink("precious", s.path("site.conf")))
	err = Undo(t.Context(), s.journal, nil, nil)
	if conflict := (*installers.ConflictError)(nil); !errors.As(err, &conflict) || !strings.Contains(err.Error(), "symbolic link") {
		t.Errorf("Undo = %v", err)
	}
	s.wantFile("precious", "precious")
}

// TestImmutableFile checks that a file which even root cannot replace is reported, and that the others are put back.
func TestImmutableFile(t *testing.T) {
	s := newSite(t, map[string]string{"a.conf": "a", "site.conf": "old"})
	chattr := func(flag string) error {
		_, err := installers.Command{Argv: []string{"/usr/bin/chattr", flag, s.path("site.conf")}}.Run(context.Background())
		return err
	}
	if err := chattr("+i"); err != nil {
		t.Skipf("no immutable files here: %v", err)
	}
	t.Cleanup(func() { must(t, chattr("-i")) })
	changed, err := s.change(text("a.conf", "b"), text("site.conf", "new")).Apply(t.Context())
	if changed || !errors.Is(err, syscall.EPERM) || !strings.Contains(err.Error(), s.path("site.conf")) {
		t.Errorf("Apply = %v, %v", changed, err)
	}
	s.wantFile("a.conf", "a")
	s.wantFile("site.conf", "old")
	s.wantIdle()
	s.wantSteps("test:old")
}
