package http01

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/challenges"
)

// Tokens is the durable list of the files that are or may be in webroots: one file of mode 0600 for each in one directory,
// usually http/ below the state directory. It is safe for concurrent use by the process that holds the state directory.
type Tokens struct {
	path string

	mu   sync.Mutex
	live map[string]bool // of this process
}

// NewTokens returns the list in a directory, which is made when it is first needed. Its parent must exist.
func NewTokens(path string) *Tokens { return &Tokens{path: path, live: map[string]bool{}} }

// entry is one file: everything that removes it.
type entry struct {
	Webroot WebrootConfig `json:"webroot"`
	Token   string        `json:"token"`
	KeyAuth string        `json:"key_auth"`
}

const (
	entrySuffix   = ".json"
	maxEntryBytes = 16 << 10
)

func (t *Tokens) open(create bool) (*atomicfile.Dir, error) {
	parent, err := atomicfile.OpenDir(filepath.Dir(t.path), nil)
	if err != nil {
		return nil, err
	}
	defer parent.Close() //nolint:errcheck // a directory that was only read from
	if create {
		if err := parent.Mkdir(filepath.Base(t.path), 0o700); err != nil {
			return nil, err
		}
	}
	return parent.Sub(filepath.Base(t.path))
}

func (t *Tokens) add(c WebrootConfig, ch challenges.Challenge) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.live[ch.Token] = true
	text, err := json.Marshal(entry{Webroot: c, Token: ch.Token, KeyAuth: ch.KeyAuth})
	if err != nil {
		return err
	}
	return t.in(true, func(d *atomicfile.Dir) error { return d.Write(ch.Token+entrySuffix, text, 0o600) })
}

func (t *Tokens) remove(token string) error {
	if t == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.live, token)
	return t.in(false, func(d *atomicfile.Dir) error { return d.Remove(token + entrySuffix) })
}

func (t *Tokens) in(create bool, do func(*atomicfile.Dir) error) error {
	dir, err := t.open(create)
	if err == nil {
		err = errors.Join(do(dir), dir.Close())
	}
	if err != nil {
		return fmt.Errorf("list of challenge files: %w", err)
	}
	return nil
}

// Recover removes the files that an earlier process wrote and did not remove. It leaves alone what this process is using. A
// file that is gone, or is not what was written, is none of ours any more.
func (t *Tokens) Recover() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := t.in(false, func(d *atomicfile.Dir) error {
		files, err := d.ReadDir(".")
		errs := []error{err}
		for _, f := range files {
			if token, ok := strings.CutSuffix(f.Name(), entrySuffix); ok && !t.live[token] {
				errs = append(errs, recoverEntry(d, f.Name()))
			}
		}
		return errors.Join(append(errs, d.Sweep("."))...)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil // there never was one
	}
	return err
}

func recoverEntry(d *atomicfile.Dir, name string) error {
	var e entry
	text, _, err := d.ReadFile(name, maxEntryBytes)
	if err == nil {
		err = json.Unmarshal(text, &e)
	}
	if err == nil {
		err = challenges.CheckToken(e.Token)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	w := NewWebroot(e.Webroot, nil)
	w.pending[e.Token] = 1
	if err := w.CleanUp(context.Background(), challenges.Challenge{Token: e.Token, KeyAuth: e.KeyAuth}); err != nil {
		return err
	}
	return d.Remove(name)
}
