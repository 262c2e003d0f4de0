package installertest

import (
	"encoding/pem"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/acmed/acmed/pkg/installers/change"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/acmed/acmed/pkg/certs"
)

// tree is everything below a directory, by path.
type tree map[string]node

type node struct {
	Mode     fs.FileMode
	UID, GID uint32
	Link     string // target of a symbolic link
	Hash     string // of a regular file
	Inode    uint64 // of a regular file, in an exact tree: a file that was written again has another
	Modified int64
	content  []byte
}

func compareTrees() []cmp.Option {
	return []cmp.Option{cmpopts.IgnoreUnexported(node{}), cmpopts.EquateEmpty()}
}

// snapshot records content, modes and owners.
func snapshot(t *testing.T, dir string) tree {
	t.Helper()
	all := exact(t, dir)
	for path, n := range all {
		n.Inode, n.Modified = 0, 0
		all[path] = n
	}
	return all
}

// exact also records whether a file was written again with the same content.
func exact(t *testing.T, dir string) tree {
	t.Helper()
	all := tree{}
	if dir == "" {
		return all
	}
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		n, err := look(path)
		all[path] = n
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func look(path string) (node, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return node{}, err
	}
	n := node{Mode: info.Mode()}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		n.UID, n.GID = st.Uid, st.Gid
		if info.Mode().IsRegular() {
			n.Inode, n.Modified = st.Ino, info.ModTime().UnixNano()
		}
	}
	switch {
	case info.Mode()&fs.ModeSymlink != 0:
		n.Link, err = os.Readlink(path)
	case info.Mode().IsRegular():
		n.content, err = os.ReadFile(path)
		n.Hash = change.Hash(n.content)
	}
	return n, err
}

// keyLines are pieces of text that only somebody who shows a private key can show: its PEM lines, and its DER form.
func keyLines(t *testing.T, b *certs.Bundle) []string {
	t.Helper()
	var lines []string
	for _, unit := range []*certs.Bundle{b, b.RSA} {
		if unit == nil {
			continue
		}
		block, _ := pem.Decode(unit.KeyPEM)
		if block == nil {
			t.Fatal("the bundle has no key")
		}
		lines = append(lines, string(block.Bytes))
		for line := range strings.Lines(string(unit.KeyPEM)) {
			if len(line) > 40 && !strings.HasPrefix(line, "-----") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
	}
	return lines
}

func appendLine(t *testing.T, path, line string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(line + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
