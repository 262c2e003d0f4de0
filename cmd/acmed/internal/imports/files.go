package imports

import (
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
)

// maxFile bounds what is read of one file.
const maxFile = 4 << 20

// folder is the directory of a program, which may belong to the user that runs it. What is read of it is data: keys,
// certificates and names, which that user has anyway. Symbolic links lead nowhere outside of it.
type folder struct {
	root  *os.Root
	path  string
	owner uint32
}

func openFolder(path string) (*folder, error) {
	root, err := vetted.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &folder{root, path, info.Sys().(*syscall.Stat_t).Uid}, nil
}

func (f *folder) close() { _ = f.root.Close() }

// read reads a regular file that belongs to root, to the user that runs acmed or to the owner of the folder, and that no
// other user can change.
func (f *folder) read(name string) ([]byte, error) {
	file, err := f.root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	path := filepath.Join(f.path, name)
	uid := info.Sys().(*syscall.Stat_t).Uid
	switch {
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s is not a regular file (%s)", path, info.Mode().Type())
	case uid != 0 && uid != f.owner && int(uid) != os.Geteuid():
		return nil, fmt.Errorf("%s belongs to user %d, which is neither root nor the owner of %s", path, uid, f.path)
	case info.Mode().Perm()&0o022 != 0:
		return nil, fmt.Errorf("%s can be changed by others (mode %04o): chmod go-w %s", path, info.Mode().Perm(), path)
	}
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err == nil && len(text) > maxFile {
		err = fmt.Errorf("%s is larger than %d MiB", path, maxFile>>20)
	}
	return text, err
}

// json reads a JSON file. Its error has nothing of the content.
func (f *folder) json(name string, into any) error {
	text, err := f.read(name)
	if err == nil && json.Unmarshal(text, into) != nil {
		err = fmt.Errorf("%s is not valid JSON of the expected form", filepath.Join(f.path, name))
	}
	return err
}

// glob lists the files that match a pattern, sorted.
func (f *folder) glob(pattern string) []string {
	list, _ := fs.Glob(f.root.FS(), pattern) // the patterns are constants
	return list
}

// bundle reads a certificate with its issuers, and its key.
func (f *folder) bundle(chain, key string) (*certs.Bundle, error) {
	chainText, err := f.read(chain)
	if err != nil {
		return nil, err
	}
	keyText, err := f.read(key)
	if err != nil {
		return nil, err
	}
	return newBundle(chainText, keyText)
}

// literal is a name as a pattern that matches it alone.
func literal(name string) string { return strings.NewReplacer("*", `\*`, "[", `\[`).Replace(name) }

// newBundle is [certs.NewBundle] for a certificate whose key must be there.
func newBundle(chain, key []byte) (*certs.Bundle, error) {
	if len(key) == 0 {
		return nil, errors.New("the private key is missing")
	}
	return certs.NewBundle(chain, keyBlock(key))
}

// readFile reads a file that decides what acmed does: only root and this user can have put it there.
func readFile(path string) ([]byte, error) { return vetted.ReadFile(path, 0, maxFile) }

// keyBlock is the first private key in a text, or the text.
func keyBlock(text []byte) []byte {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if strings.HasSuffix(block.Type, "PRIVATE KEY") {
			return pem.EncodeToMemory(block)
		}
	}
	return text
}

// exists reports whether there is a file or directory.
func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
