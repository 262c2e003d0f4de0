package http01

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/challenges"
)

// Webroot writes the answers as files below the document root of another web server. The directory may belong to
// somebody else: no symbolic link is followed, no existing file is changed, and only what it created is removed. It is
// safe for concurrent use.
type Webroot struct {
	config WebrootConfig
	tokens *Tokens

	mu      sync.Mutex // serialises file changes, so that no directory goes while a token is written into it
	pending map[string]int
	made    []string // paths of directories created by us, the outer one first
}

// WebrootConfig says where the files go.
type WebrootConfig struct {
	// Dir is the document root, or with Exact the directory that the web server serves as /.well-known/acme-challenge/.
	Dir   string `json:"dir"`
	Exact bool   `json:"exact,omitempty"`
	// FollowLinks follows a symbolic link in place of .well-known or acme-challenge, when root or this user made it or what
	// it leads to has its owner. Links in Dir itself are followed so always.
	FollowLinks bool `json:"follow_links,omitempty"`
}

var _ challenges.Solver = (*Webroot)(nil)

// NewWebroot makes a solver for a directory, which must exist when a challenge is presented. A directory whose path ends in
// .well-known/acme-challenge is the challenge directory itself. Certificates with the same directory should share one
// Webroot. Tokens may be nil: then files of a killed process stay.
func NewWebroot(c WebrootConfig, t *Tokens) *Webroot {
	c.Dir = filepath.Clean(c.Dir)
	c.Exact = c.Exact || strings.HasSuffix(c.Dir, "/.well-known/acme-challenge")
	return &Webroot{config: c, tokens: t, pending: map[string]int{}}
}

// Directory is the webroot, or the challenge directory itself.
func (w *Webroot) Directory() string { return w.config.Dir }

// Type returns http-01.
func (w *Webroot) Type() challenges.Type { return challenges.HTTP01 }

// Ready reports whether answers could be written now, and changes nothing: the directory exists, and neither its mode nor
// a sandbox around this process forbids it.
func (w *Webroot) Ready() error {
	dir := w.config.Dir
	if err := unix.Access(dir, unix.W_OK|unix.X_OK); err != nil {
		return &fs.PathError{Op: "write into", Path: dir, Err: err}
	}
	root, err := vetted.OpenRoot(dir)
	if err != nil {
		return err
	}
	return root.Close()
}

// What the web server of another user must be able to read.
const (
	dirMode  fs.FileMode = 0o755
	fileMode fs.FileMode = 0o644
)

// challengePath lists the directories of PathPrefix below the document root.
func challengePath() []string { return []string{".well-known", "acme-challenge"} }

// Present writes the file for the challenge's token. A file with the same content, left by a crash, is taken over; one
// with other content is refused.
func (w *Webroot) Present(_ context.Context, c challenges.Challenge) error {
	if err := challenges.CheckToken(c.Token); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.tokens.add(w.config, c); err != nil {
		return err
	}
	if err := w.write(c); err != nil {
		w.removeDirs()
		err = fmt.Errorf("webroot %s: %w", w.config.Dir, err)
		if advice.Of(err) != advice.DiskFull {
			err = advice.Tag(advice.WebrootUnusable, err)
		}
		return errors.Join(err, w.tokens.remove(c.Token))
	}
	w.pending[c.Token]++
	return nil
}

func (w *Webroot) write(c challenges.Challenge) error {
	dir, err := w.open(true)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	f, err := dir.OpenFile(c.Token, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fileMode)
	if errors.Is(err, fs.ErrExist) && isOurs(dir, c) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = f.WriteString(c.KeyAuth)
	err = errors.Join(err, f.Chmod(fileMode), f.Close()) // whatever the umask says
	if err != nil {
		_ = dir.Remove(c.Token)
	}
	return err
}

// CleanUp removes the file if it still is what Present wrote, and after the last token the directories that were
// created, if they are empty. What is gone already is no error.
func (w *Webroot) CleanUp(_ context.Context, c challenges.Challenge) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.pending[c.Token] {
	case 0:
		return nil
	case 1:
	default:
		w.pending[c.Token]--
		return nil
	}
	if err := w.remove(c); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("webroot %s: %w", w.config.Dir, err)
	}
	delete(w.pending, c.Token)
	w.removeDirs()
	return w.tokens.remove(c.Token)
}

func (w *Webroot) remove(c challenges.Challenge) error {
	dir, err := w.open(false)
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	if !isOurs(dir, c) {
		return nil
	}
	return dir.Remove(c.Token)
}

// open goes down to the challenge directory, and creates what is missing if told so. The webroot itself must exist.
func (w *Webroot) open(create bool) (*os.Root, error) {
	path := w.config.Dir
	dir, err := vetted.OpenRoot(path)
	if w.config.Exact {
		return dir, err
	}
	for _, name := range challengePath() {
		if err != nil {
			return nil, err
		}
		parent := dir
		path = filepath.Join(path, name)
		dir, err = w.enter(parent, name, path, create)
		_ = parent.Close()
	}
	return dir, err
}

func (w *Webroot) enter(parent *os.Root, name, path string, create bool) (*os.Root, error) {
	made := false
	if create {
		err := parent.Mkdir(name, dirMode)
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
		made = err == nil
	}
	var dir *os.Root
	var err error
	if info, seen := parent.Lstat(name); w.config.FollowLinks && seen == nil && info.Mode()&fs.ModeSymlink != 0 {
		dir, err = vetted.OpenRoot(path)
	} else {
		dir, err = openReal(parent, name)
	}
	if err != nil || !made {
		return dir, err
	}
	w.made = append(w.made, path)
	if err := dir.Chmod(".", dirMode); err != nil { // whatever the umask says
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// removeDirs removes the directories that were made for the tokens, when none is left. One that others use stays, as
// it is not empty.
func (w *Webroot) removeDirs() {
	if len(w.pending) > 0 {
		return
	}
	for _, path := range slices.Backward(w.made) {
		if parent, err := vetted.OpenRoot(filepath.Dir(path)); err == nil {
			_ = parent.Remove(filepath.Base(path))
			_ = parent.Close()
		}
	}
	w.made = nil
}

// openReal opens a directory that is not a symbolic link. The comparison after the open catches one that was put there
// in between.
func openReal(parent *os.Root, name string) (*os.Root, error) {
	seen, err := parent.Lstat(name)
	if err != nil {
		return nil, err
	}
	if !seen.IsDir() {
		return nil, fmt.Errorf("%s is not a directory; a symbolic link is followed with follow_links: true", name)
	}
	dir, err := parent.OpenRoot(name)
	if err != nil {
		return nil, err
	}
	opened, err := dir.Stat(".")
	if err == nil && !os.SameFile(seen, opened) {
		err = fmt.Errorf("%s was replaced while it was opened", name)
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// isOurs reports whether the token's file is a plain file that holds exactly the key authorization.
func isOurs(dir *os.Root, c challenges.Challenge) bool {
	seen, err := dir.Lstat(c.Token)
	if err != nil || !seen.Mode().IsRegular() {
		return false
	}
	f, err := dir.OpenFile(c.Token, os.O_RDONLY|syscall.O_NONBLOCK, 0) // a pipe put there meanwhile must not block
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }()
	opened, err := f.Stat()
	if err != nil || !os.SameFile(seen, opened) {
		return false
	}
	text, err := io.ReadAll(io.LimitReader(f, int64(len(c.KeyAuth))+1))
	return err == nil && string(text) == c.KeyAuth
}
