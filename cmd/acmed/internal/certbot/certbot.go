// Package certbot reads the directory of certbot, usually /etc/letsencrypt: what it renews and how, the certificates with
// their keys, and the accounts.
//
// It promises to change nothing there, and to keep every setting that it does not understand in [Lineage.Params], so
// that it can be named. It does not decide what acmed does with any of it.
package certbot

import (
	"bufio"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
)

// The bounds on what is read.
const (
	maxFile     = 1 << 20
	maxVersions = 10_000
)

// Tree is everything that was found.
type Tree struct {
	Dir      string
	Lineages []Lineage // by name
	Accounts []Account // by directory
	Hooks    []string  // programs in renewal-hooks, which certbot runs for every certificate
	Problems []error   // what could not be read; the rest is complete
}

// Lineage is one certificate that certbot renews.
type Lineage struct {
	Name    string
	Conf    string            // path of its renewal file
	Params  map[string]string // of the section renewalparams, and renew_before_expiry
	Webroot map[string]string // by name
	Active  int               // the number that live/ points at
	Bundles map[int]*certs.Bundle
}

// Account is an account at a CA.
type Account struct {
	ID      string // as renewal files refer to it
	Server  string // path below accounts/, which is the directory's URL without the scheme
	URI     string // at the CA; "" when it is not known
	Contact string // mail address; "" when there is none or it is not known
	Created time.Time
	Key     crypto.Signer
}

// Read reads a directory. The error says that it is none of certbot's; what is wrong with single certificates is in
// Problems.
func Read(dir string) (*Tree, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	t := &Tree{Dir: dir}
	confs, err := os.ReadDir(filepath.Join(dir, "renewal"))
	if err != nil {
		return nil, fmt.Errorf("%s is not a directory of certbot: %w", dir, err)
	}
	for _, entry := range confs {
		name, isConf := strings.CutSuffix(entry.Name(), ".conf")
		if !isConf {
			continue
		}
		l, err := t.lineage(name)
		if err != nil {
			t.Problems = append(t.Problems, fmt.Errorf("%s: %w", name, err))
			continue
		}
		t.Lineages = append(t.Lineages, *l)
	}
	t.accounts()
	for _, kind := range []string{"pre", "deploy", "post"} {
		hooks, err := filepath.Glob(filepath.Join(dir, "renewal-hooks", kind, "*"))
		if err == nil {
			t.Hooks = append(t.Hooks, hooks...)
		}
	}
	return t, nil
}

func (t *Tree) lineage(name string) (*Lineage, error) {
	l := &Lineage{Name: name, Conf: filepath.Join(t.Dir, "renewal", name+".conf"), Bundles: map[int]*certs.Bundle{}}
	sections, err := readConf(l.Conf)
	if err != nil {
		return nil, err
	}
	l.Params, l.Webroot = sections["renewalparams"], sections["webroot_map"]
	if l.Params == nil {
		return nil, fmt.Errorf("%s has no section renewalparams", l.Conf)
	}
	if before := sections[""]["renew_before_expiry"]; before != "" {
		l.Params["renew_before_expiry"] = before
	}
	live, err := filepath.EvalSymlinks(filepath.Join(t.Dir, "live", name, "cert.pem"))
	if err != nil {
		return nil, err
	}
	if l.Active, err = number(filepath.Base(live)); err != nil {
		return nil, err
	}
	return l, l.readVersions(filepath.Dir(live))
}

// number is the N of certN.pem.
func number(file string) (int, error) {
	text, found := strings.CutPrefix(strings.TrimSuffix(file, ".pem"), "cert")
	n, err := strconv.Atoi(text)
	if !found || err != nil || n < 1 || n > maxVersions {
		return 0, fmt.Errorf("%q is not the file of a version", file)
	}
	return n, nil
}

// readVersions reads all versions. An earlier one that is damaged is left out, the active one must be sound.
func (l *Lineage) readVersions(archive string) error {
	files, err := filepath.Glob(filepath.Join(archive, "cert*.pem"))
	if err != nil {
		return err
	}
	for _, file := range files {
		n, err := number(filepath.Base(file))
		if err != nil {
			continue
		}
		chain, err := readFile(filepath.Join(archive, fmt.Sprintf("fullchain%d.pem", n)))
		var key []byte
		if err == nil {
			key, err = readFile(filepath.Join(archive, fmt.Sprintf("privkey%d.pem", n)))
		}
		var b *certs.Bundle
		if err == nil {
			b, err = certs.NewBundle(chain, key)
		}
		switch {
		case err == nil:
			l.Bundles[n] = b
		case n == l.Active:
			return fmt.Errorf("the active version: %w", err)
		}
	}
	if l.Bundles[l.Active] == nil {
		return fmt.Errorf("%s has no version %d", archive, l.Active)
	}
	return nil
}

// accounts finds the folders with a key below accounts/.
func (t *Tree) accounts() {
	root := filepath.Join(t.Dir, "accounts")
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.Name() != "private_key.json" {
			return err
		}
		a, err := readAccount(filepath.Dir(path))
		if err != nil {
			t.Problems = append(t.Problems, fmt.Errorf("%s: %w", filepath.Dir(path), err))
			return nil
		}
		server, err := filepath.Rel(root, filepath.Dir(filepath.Dir(path)))
		a.Server = filepath.ToSlash(server)
		t.Accounts = append(t.Accounts, *a)
		return err
	})
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Problems = append(t.Problems, err)
	}
}

func readAccount(dir string) (*Account, error) {
	a := &Account{ID: filepath.Base(dir)}
	text, err := readFile(filepath.Join(dir, "private_key.json"))
	if err != nil {
		return nil, err
	}
	if a.Key, err = parseJWK(text); err != nil {
		return nil, err
	}
	var registration struct {
		URI  string `json:"uri"`
		Body struct {
			Contact []string `json:"contact"`
		} `json:"body"`
	}
	// Without it the CA finds the account by its key.
	if text, err := readFile(filepath.Join(dir, "regr.json")); err == nil && json.Unmarshal(text, &registration) == nil {
		a.URI = registration.URI
		if i := slices.IndexFunc(registration.Body.Contact, isMail); i >= 0 {
			a.Contact = strings.TrimPrefix(registration.Body.Contact[i], "mailto:")
		}
	}
	var meta struct {
		Created time.Time `json:"creation_dt"`
	}
	if text, err := readFile(filepath.Join(dir, "meta.json")); err == nil && json.Unmarshal(text, &meta) == nil {
		a.Created = meta.Created
	}
	return a, nil
}

func isMail(contact string) bool { return strings.HasPrefix(contact, "mailto:") }

// Account returns the account that a lineage uses, or nil.
func (t *Tree) Account(l *Lineage) *Account {
	server := strings.TrimPrefix(l.Params["server"], "https://")
	for i := range t.Accounts {
		if a := &t.Accounts[i]; a.ID == l.Params["account"] && (a.Server == server || strings.HasSuffix(l.Params["server"], a.Server)) {
			return a
		}
	}
	// An account of an earlier URL of the same CA is found by its ID alone.
	for i := range t.Accounts {
		if t.Accounts[i].ID == l.Params["account"] {
			return &t.Accounts[i]
		}
	}
	return nil
}

// readConf reads the INI dialect of renewal files: key = value, [section], [[subsection]], # comments. Keys before the
// first section are in the section "".
func readConf(path string) (map[string]map[string]string, error) {
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	sections := map[string]map[string]string{"": {}}
	section := ""
	scanner := bufio.NewScanner(strings.NewReader(string(text)))
	for n := 1; scanner.Scan(); n++ {
		line := strings.TrimSpace(scanner.Text())
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
			continue
		case strings.HasPrefix(line, "[") && strings.HasSuffix(line, "]"):
			section = strings.TrimSpace(strings.Trim(line, "[]"))
			if sections[section] == nil {
				sections[section] = map[string]string{}
			}
			continue
		}
		key, value, found := strings.Cut(line, "=")
		if !found {
			return nil, fmt.Errorf("%s:%d: neither a section nor key = value", path, n)
		}
		sections[section][unquote(key)] = unquote(value)
	}
	return sections, scanner.Err()
}

func unquote(text string) string {
	text = strings.TrimSpace(text)
	if n := len(text); n > 1 && text[0] == text[n-1] && (text[0] == '"' || text[0] == '\'') {
		return text[1 : n-1]
	}
	return text
}

// readFile reads a file that nobody but root and this user can have put there.
func readFile(path string) ([]byte, error) { return vetted.ReadFile(path, 0, maxFile) }
