package atomicfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	_ "github.com/acmed/acmed/internal/acmetest/umask"
)

func TestWrite(t *testing.T) {
	old := syscall.Umask(0)
	t.Cleanup(func() { syscall.Umask(old) })
	for _, umask := range []int{0, 0o22, 0o77, 0o777} {
		syscall.Umask(umask)
		for _, mode := range []fs.FileMode{0o600, 0o640, 0o644} {
			name := filepath.Join(t.TempDir(), "file")
			for _, text := range []string{"first", "", "second, longer"} {
				if err := Write(name, []byte(text), mode); err != nil {
					t.Fatalf("umask %#o, mode %v: %v", umask, mode, err)
				}
				if got := read(t, name); got != text {
					t.Errorf("umask %#o: content %q, want %q", umask, got, text)
				}
			}
			if got := stat(t, name).Mode(); got != mode {
				t.Errorf("umask %#o: mode %v, want %v", umask, got, mode)
			}
			only(t, filepath.Dir(name), "file")
		}
	}
}

func TestWriteOwned(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root to give a file away")
	}
	name := filepath.Join(t.TempDir(), "file")
	if err := WriteOwned(name, []byte("x"), 0o640, 12, 34); err != nil {
		t.Fatal(err)
	}
	sys := stat(t, name).Sys().(*syscall.Stat_t)
	if sys.Uid != 12 || sys.Gid != 34 {
		t.Errorf("owner %d:%d, want 12:34", sys.Uid, sys.Gid)
	}
	if got := stat(t, name).Mode(); got != 0o640 {
		t.Errorf("mode %v, want 0640", got)
	}
}

func TestWriteReplacesALink(t *testing.T) {
	dir := t.TempDir()
	target, link := filepath.Join(dir, "target"), filepath.Join(dir, "link")
	if err := errors.Join(Write(target, []byte("kept"), 0o600), Symlink("target", link), Write(link, []byte("new"), 0o600)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, target); got != "kept" {
		t.Errorf("the target became %q", got)
	}
	if got := read(t, link); got != "new" {
		t.Errorf("the link's place holds %q", got)
	}
}

func TestSymlink(t *testing.T) {
	link := filepath.Join(t.TempDir(), "current")
	for _, target := range []string{"versions/1", "versions/2"} {
		if err := Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		if got, err := os.Readlink(link); err != nil || got != target {
			t.Errorf("link to %q, %v; want %q", got, err, target)
		}
	}
	only(t, filepath.Dir(link), "current")
	if err := SyncDir(filepath.Dir(link)); err != nil {
		t.Error(err)
	}
	if err := SyncDir(link); err == nil {
		t.Error("synced a dangling link")
	}
}

func TestDirStaysInside(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	if err := Symlink(outside, filepath.Join(dir, "out")); err != nil {
		t.Fatal(err)
	}
	d := open(t, dir, nil)
	for name, err := range map[string]error{
		"write ..":        d.Write("../file", nil, 0o600),
		"write link":      d.Write("out/file", nil, 0o600),
		"write absolute":  d.Write(filepath.Join(outside, "file"), nil, 0o600),
		"tree link":       d.WriteTree("out/tree", 0o700, nil),
		"symlink link":    d.Symlink("x", "out/link"),
		"mkdir link":      d.Mkdir("out/dir", 0o700),
		"remove ..":       d.Remove("../" + filepath.Base(outside)),
		"remove tree ..":  d.RemoveTree("../" + filepath.Base(outside)),
		"rename out":      d.Rename("out", "../out"),
		"sync link":       d.Sync("out"),
		"sweep link":      d.Sweep("out"),
		"read fifo or so": func() error { _, _, err := d.ReadFile(".", 10); return err }(),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	only(t, outside)
	only(t, dir, "out")
}

func TestReadFile(t *testing.T) {
	d := open(t, t.TempDir(), nil)
	if err := d.Write("file", []byte("12345"), 0o640); err != nil {
		t.Fatal(err)
	}
	data, info, err := d.ReadFile("file", 5)
	if err != nil || string(data) != "12345" || info.Mode() != 0o640 {
		t.Errorf("read %q, %v, %v", data, info, err)
	}
	if _, _, err := d.ReadFile("file", 4); !errors.Is(err, ErrTooLarge) {
		t.Errorf("over the limit: %v", err)
	}
	if err := syscall.Mkfifo(filepath.Join(d.root.Name(), "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, _, err := d.ReadFile("pipe", 4); !errors.Is(err, ErrNotRegular) {
		t.Errorf("a named pipe: %v", err)
	}
}

func TestTree(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, nil)
	files := []File{{"a", []byte("A"), 0o600}, {"sub/b", []byte("B"), 0o640}, {"sub/c", []byte("C"), 0o640}}
	if err := d.WriteTree("tree", 0o750, files); err != nil {
		t.Fatal(err)
	}
	if err := d.WriteTree("tree", 0o750, files[:1]); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second tree of the same name: %v, want fs.ErrExist", err)
	}
	for _, f := range files {
		if got := read(t, filepath.Join(dir, "tree", f.Name)); got != string(f.Data) {
			t.Errorf("%s holds %q", f.Name, got)
		}
	}
	if got := stat(t, filepath.Join(dir, "tree/sub")).Mode().Perm(); got != 0o750 {
		t.Errorf("mode of the directory: %v", got)
	}
	only(t, dir, "tree")
	if err := errors.Join(d.RemoveTree("tree"), d.RemoveTree("tree"), d.Remove("tree")); err != nil {
		t.Error(err)
	}
	only(t, dir)
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	d := open(t, dir, nil)
	tmp := temp(".")
	if !IsTemp(tmp) || IsTemp("cert.pem") || IsTemp(".acmed-") {
		t.Errorf("IsTemp is wrong about %q", tmp)
	}
	err := errors.Join(
		d.WriteTree(tmp, 0o700, []File{{"sub/privkey.pem", []byte("k"), 0o600}}),
		d.Write(temp("."), nil, 0o600), d.Write("kept", nil, 0o600),
		d.Sweep("."), d.Sweep("nowhere"))
	if err != nil {
		t.Fatal(err)
	}
	only(t, dir, "kept")
}

// TestEveryFailure breaks each file-system call of each change in turn and expects the old content and no temporary.
func TestEveryFailure(t *testing.T) {
	changes := map[string]func(d *Dir) error{
		"write":   func(d *Dir) error { return d.WriteOwned("file", []byte("new"), 0o600, os.Getuid(), os.Getgid()) },
		"symlink": func(d *Dir) error { return d.Symlink("new", "link") },
		"tree":    func(d *Dir) error { return d.WriteTree("tree", 0o700, []File{{"sub/f", []byte("new"), 0o600}}) },
	}
	for name, change := range changes {
		t.Run(name, func(t *testing.T) {
			for n := 1; ; n++ {
				dir := t.TempDir()
				must(t, Write(filepath.Join(dir, "file"), []byte("old"), 0o600))
				must(t, Symlink("old", filepath.Join(dir, "link")))
				calls, last := 0, ""
				err := change(open(t, dir, func(op, _ string) error {
					if calls++; calls != n {
						return nil
					}
					last = op
					return syscall.ENOSPC
				}))
				if calls < n {
					must(t, err)
					t.Logf("%d calls broken", n-1)
					return
				}
				if !errors.Is(err, syscall.ENOSPC) {
					t.Fatalf("call %d (%s): error %v", n, last, err)
				}
				checkOldOrNew(t, dir, name, last)
			}
		})
	}
}

func checkOldOrNew(t *testing.T, dir, change, broken string) {
	t.Helper()
	link, err := os.Readlink(filepath.Join(dir, "link"))
	must(t, err)
	text := read(t, filepath.Join(dir, "file"))
	synced := broken == "fsync" // of the directory: the rename is done and stays
	if text != "old" && (change != "write" || !synced || text != "new") {
		t.Errorf("after %s failed the file holds %q", broken, text)
	}
	if link != "old" && (change != "symlink" || !synced || link != "new") {
		t.Errorf("after %s failed the link names %q", broken, link)
	}
	only(t, dir, "file", "link")
}

func open(t *testing.T, dir string, guard Guard) *Dir {
	t.Helper()
	d, err := OpenDir(dir, guard)
	must(t, err)
	t.Cleanup(func() { must(t, d.Close()) })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(name)
	must(t, err)
	return string(data)
}

func stat(t *testing.T, name string) fs.FileInfo {
	t.Helper()
	info, err := os.Stat(name)
	must(t, err)
	return info
}

// only fails unless the directory holds exactly these names.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("%s holds %q, want %q", dir, got, want)
	}
}
