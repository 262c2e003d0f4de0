package store

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	accountFile = "account.json"
	usageFile   = "usage.json"
	keyFile     = "key.pem"
	nextKeyFile = "next-key.pem"
	retiredKey  = "retired-"
	maxAccount  = 1 << 16 // bytes
)

// Account is an account at one CA: who it is, and the key that proves it. Key and URI are one file, so that a crash or a
// late writer never pairs an old key with the account. What is counted of its use is [Usage].
type Account struct {
	URI        string        // of the account at the CA; "" until it is registered
	Contacts   []string      // as the CA knows them, for example mailto:ops@example.com
	Key        crypto.Signer // signs the requests
	NextKey    crypto.Signer // a key rollover is under way: the CA knows either Key or this one; nil otherwise
	KeyChanged time.Time     // when Key replaced another one at the CA; zero: never
	Adopted    bool          // it was found under another contact; the CA has not been told of this one yet
	Created    time.Time
	Notes      []string // what is odd about its files, for people; not stored
}

// Usage is what an account may do at the moment.
type Usage struct {
	RetryAt time.Time   // rate limit of the whole account: no request before
	Down    bool        // RetryAt is a pause of the whole CA, which was unavailable
	Orders  []time.Time // recent new orders, for the local rate limit
	SavedAt time.Time   // when this was written, by the clock of that moment
}

// accountJSON is account.json. Directory and Contact say whose folder it is. Key and NextKey are PEM; where they are missing,
// the key files beside it count, which releases before wrote alone. The last three are of those releases, too: see [Usage].
type accountJSON struct {
	Version    int       `json:"version"`
	Directory  string    `json:"directory"`
	Contact    string    `json:"contact,omitempty"`
	Adopted    bool      `json:"adopted,omitempty"`
	URI        string    `json:"uri,omitempty"`
	Contacts   []string  `json:"contacts,omitempty"`
	Key        string    `json:"key,omitempty"`
	NextKey    string    `json:"next_key,omitempty"`
	KeyChanged time.Time `json:"key_changed,omitzero"`
	Created    time.Time `json:"created,omitzero"`

	RetryAt time.Time   `json:"retry_at,omitzero"`
	Down    bool        `json:"down,omitempty"`
	Orders  []time.Time `json:"orders,omitempty"`
}

// Account returns the account with this contact at this directory, or nil and no error when there is none. A contact of
// "" is the account without one.
//
// The key is the account: when account.json is lost or damaged, what is left is an Account with nothing but its Key, with
// which the CA finds the account again (RFC 8555 section 7.3.1). When the key is lost, that is an error for the operator.
func (s *Store) Account(directory, contact string) (*Account, error) {
	var a *Account
	err := s.inAccount(directory, contact, "read the account", func(d *atomicfile.Dir) (err error) {
		a, err = loadAccount(d)
		return err
	})
	return a, err
}

// inAccount runs do in the folder of an account, unless there is none. Errors name the directory and what was tried.
func (s *Store) inAccount(directory, contact, what string, do func(d *atomicfile.Dir) error) error {
	dir, err := accountDir(directory, contact)
	if err == nil {
		s.accounts.Lock()
		defer s.accounts.Unlock()
		err = s.inFolder(dir, do)
	}
	if err != nil {
		return fmt.Errorf("%s at %s: %w", what, directory, err)
	}
	return nil
}

func (s *Store) inFolder(dir string, do func(d *atomicfile.Dir) error) error {
	d, err := s.subAccount(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(inPath(do(d), dir), d.Close())
}

// subAccount opens the folder of an account, of which what is no file is set aside.
func (s *Store) subAccount(dir string) (*atomicfile.Dir, error) {
	d, err := s.sub(dir, func(string, ...any) {}) // asides finds it
	if err != nil {
		return nil, err
	}
	entries, err := d.ReadDir(".")
	for _, entry := range entries {
		if name := entry.Name(); !isFile(entry.Type()) && isAccountFile(name) {
			if _, asideErr := setAside(d, name); !errors.Is(asideErr, syscall.EROFS) { // then it can be read as far as possible
				err = errors.Join(err, asideErr)
			}
		}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

func isAccountFile(name string) bool {
	return slices.Contains([]string{accountFile, usageFile, keyFile, nextKeyFile}, name) ||
		strings.HasPrefix(name, retiredKey) && !strings.Contains(name, asideMark)
}

func loadAccount(d *atomicfile.Dir) (*Account, error) {
	f, err := readAccountJSON(d)
	if err != nil {
		return nil, err
	}
	lost := f == nil
	if lost {
		f = &accountJSON{}
	}
	a := &Account{URI: f.URI, Contacts: f.Contacts, KeyChanged: f.KeyChanged, Adopted: f.Adopted, Created: f.Created}
	if a.Key, err = readKey(d, keyFile, f.Key); errors.Is(err, fs.ErrNotExist) && lost {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; restore its key from a backup, or remove the folder to register a new account", err)
	}
	if f.Key == "" || f.NextKey != "" {
		if a.NextKey, err = readKey(d, nextKeyFile, f.NextKey); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("a key rollover was under way: %w; restore the key from a backup", err)
		}
	}
	if a.NextKey != nil && certs.SameKey(a.NextKey.Public(), a.Key.Public()) {
		a.NextKey = nil // the rollover is complete, only its end was not saved
	}
	a.Notes, err = accountNotes(d)
	return a, err
}

// accountNotes says of each file with a key that not only its owner can read it, and of each that was set aside.
func accountNotes(d *atomicfile.Dir) (notes []string, err error) {
	entries, err := d.ReadDir(".")
	for _, entry := range entries {
		name, aside := entry.Name(), strings.Contains(entry.Name(), asideMark)
		if aside {
			notes = append(notes, fmt.Sprintf("%s was damaged or had the wrong type, and was set aside; remove it when it is of no use", name))
		}
		if !aside && !slices.Contains([]string{accountFile, keyFile, nextKeyFile}, name) {
			continue
		}
		// a link counts by what it leads to
		if _, info, err := read(d, name, maxPEM); err == nil && info.Mode().Perm()&0o077 != 0 {
			notes = append(notes, fmt.Sprintf("others may have read %s (mode %#o); chmod it to 0600, and give the account a new key with "+
				"'acmed account rollover'", name, info.Mode().Perm()))
		}
	}
	slices.Sort(notes)
	return notes, err
}

// readAccountJSON returns nil for a file that is missing, or that is damaged and was set aside.
func readAccountJSON(d *atomicfile.Dir) (*accountJSON, error) {
	f := &accountJSON{}
	err := readJSON(d, accountFile, maxAccount, f, &f.Version)
	var bad *damageError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case errors.As(err, &bad):
		_, err := setAside(d, accountFile)
		return nil, err
	case err != nil:
		return nil, err
	}
	r := repairer{}
	r.time("retry_at", &f.RetryAt)
	r.times("orders", &f.Orders)
	r.time("key_changed", &f.KeyChanged)
	return f, nil
}

// readKey reads the key that is in account.json, or else that of a file beside it.
func readKey(d *atomicfile.Dir, name, inFile string) (crypto.Signer, error) {
	text := []byte(inFile)
	if inFile == "" {
		var err error
		if text, _, err = read(d, name, maxPEM); err != nil {
			return nil, err
		}
	}
	key, err := certs.ParseKey(text)
	if err != nil && inFile != "" {
		return readKey(d, name, "")
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// SaveAccount stores an account: copies of the keys first, so that the CA never knows a key that is not on disk, then
// account.json. A NextKey of nil ends a rollover.
func (s *Store) SaveAccount(directory, contact string, a *Account) error {
	dir, err := accountDir(directory, contact)
	if err == nil {
		s.accounts.Lock()
		defer s.accounts.Unlock()
		err = s.writeAccount(dir, accountJSON{
			Version: StateVersion, Directory: directory, Contact: contact, Adopted: a.Adopted, URI: a.URI, Contacts: a.Contacts,
			KeyChanged: a.KeyChanged, Created: a.Created,
		}, a)
	}
	if err != nil {
		return fmt.Errorf("save the account at %s: %w", directory, err)
	}
	return nil
}

// RetireKey keeps a key of a stored account beside it, for the time after another key takes its place; [Store.RetiredKeys]
// finds it. Retiring a key twice is the same as once, and without a stored account there is nothing to do.
func (s *Store) RetireKey(directory, contact string, key crypto.Signer) error {
	return s.inAccount(directory, contact, "keep the old key of the account", func(d *atomicfile.Dir) error {
		public, err := x509.MarshalPKIXPublicKey(key.Public())
		if err != nil {
			return err
		}
		text, err := certs.EncodeKey(key)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(public)
		return writeKey(d, retiredKey+hex.EncodeToString(sum[:6])+".pem", text)
	})
}

// RetiredKeys reads the keys that an account had before. Those that cannot be read are left out.
func (s *Store) RetiredKeys(directory, contact string) (keys []crypto.Signer, err error) {
	err = s.inAccount(directory, contact, "read the old keys of the account", func(d *atomicfile.Dir) error {
		files, err := d.ReadDir(".")
		for _, f := range files {
			if !strings.HasPrefix(f.Name(), retiredKey) {
				continue
			}
			if key, err := readKey(d, f.Name(), ""); err == nil {
				keys = append(keys, key)
			}
		}
		return err
	})
	return keys, err
}

// AdoptAccount gives a registered account at this directory another contact, when there is none with that contact yet: its
// folder takes the new name, and it is marked as Adopted. Accounts whose contact is in keep stay. It reports whether there
// was one. A crash in between leaves the account where it was, to be adopted again.
func (s *Store) AdoptAccount(directory, contact string, keep []string) (ok bool, err error) {
	to, err := accountDir(directory, contact)
	kept := []string{to}
	for _, c := range keep {
		dir, dirErr := accountDir(directory, c)
		kept, err = append(kept, dir), errors.Join(err, dirErr)
	}
	if err != nil {
		return false, fmt.Errorf("adopt an account at %s: %w", directory, err)
	}
	s.accounts.Lock()
	defer s.accounts.Unlock()
	from, found, err := s.orphan(path.Dir(to), kept)
	if err != nil || found == nil {
		return false, err
	}
	found.Adopted = true
	text, err := json.MarshalIndent(found, "", "  ")
	if err != nil {
		return false, err
	}
	if err := s.dir.Write(path.Join(from, accountFile), append(text, '\n'), secretFile); err != nil {
		return false, err
	}
	return true, s.dir.Rename(from, to)
}

// orphan finds the newest registered account of a directory that is none of those kept. One that cannot be read stays.
func (s *Store) orphan(parent string, kept []string) (dir string, newest *accountJSON, err error) {
	folders, err := s.dir.ReadDir(parent)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", nil, err
	}
	for _, folder := range folders {
		at := path.Join(parent, folder.Name())
		if !folder.IsDir() || slices.Contains(kept, at) {
			continue
		}
		f := &accountJSON{}
		if readJSON(s.dir, path.Join(at, accountFile), maxAccount, f, &f.Version) != nil || f.URI == "" {
			continue
		}
		if newest == nil || f.Created.After(newest.Created) {
			dir, newest = at, f
		}
	}
	return dir, newest, nil
}

func (s *Store) writeAccount(dir string, f accountJSON, a *Account) error {
	if a.Key == nil {
		return errors.New("it has no key")
	}
	if old, err := s.subAccount(dir); err == nil {
		_ = old.Close() // what is in the way was set aside
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(s.dir.Mkdir(path.Dir(dir), privateDir), s.dir.Mkdir(dir, privateDir)); err != nil {
		return err
	}
	d, err := s.dir.Sub(dir)
	if err != nil {
		return err
	}
	return errors.Join(inPath(saveAccount(d, f, a), dir), d.Close())
}

func saveAccount(d *atomicfile.Dir, f accountJSON, a *Account) error {
	if err := replaceable(d, accountFile, maxAccount); err != nil {
		return err
	}
	if err := moveUsage(d); err != nil {
		return err
	}
	key, err := certs.EncodeKey(a.Key)
	if err != nil {
		return err
	}
	f.Key = string(key)
	if err := d.Sweep("."); err != nil {
		return err
	}
	if a.NextKey != nil {
		next, err := certs.EncodeKey(a.NextKey)
		if err != nil {
			return err
		}
		f.NextKey = string(next)
		if err := writeKey(d, nextKeyFile, next); err != nil {
			return err
		}
	}
	if err := writeKey(d, keyFile, key); err != nil {
		return err
	}
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := d.Write(accountFile, append(text, '\n'), secretFile); err != nil {
		return err
	}
	if a.NextKey == nil {
		return d.Remove(nextKeyFile)
	}
	return nil
}

// writeKey writes a key unless the file holds it already, which is the usual case.
func writeKey(d *atomicfile.Dir, name string, text certs.Secret) error {
	if old, _, err := read(d, name, maxPEM); err == nil && bytes.Equal(old, text) {
		return nil
	}
	return d.Write(name, text, secretFile)
}

// accountDir is where an account lies: the host for people, and a hash of the whole URL, so that two directories of one
// host do not meet; the same for the contact.
func accountDir(directory, contact string) (string, error) {
	u, err := url.Parse(directory)
	if err != nil || u.Host == "" {
		return "", errors.New("the directory is no URL with a host")
	}
	u.Scheme, u.Host = strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	who := "default"
	if contact != "" {
		who = folder(contact, contact)
	}
	return path.Join(accountsDir, folder(u.Host, u.String()), who), nil
}

// folder makes a file name of something readable and the hash of something unique.
func folder(readable, unique string) string {
	const most = 64
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune(".-", r) {
			return r
		}
		return '_'
	}, strings.ToLower(readable))
	sum := sha256.Sum256([]byte(unique))
	return strings.TrimLeft(plain[:min(len(plain), most)], ".") + "-" + hex.EncodeToString(sum[:])[:12]
}
