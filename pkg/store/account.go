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
	"strings"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	accountFile = "account.json"
	keyFile     = "key.pem"
	nextKeyFile = "next-key.pem"
	maxAccount  = 1 << 16 // bytes
)

// Account is an account at one CA.
type Account struct {
	URI      string        // of the account at the CA; "" until it is registered
	Contacts []string      // as the CA knows them, for example mailto:ops@example.com
	Key      crypto.Signer // signs the requests
	NextKey  crypto.Signer // a key rollover is under way: the CA knows either Key or this one; nil otherwise
	RetryAt  time.Time     // rate limit of the whole account: no request before
	Down     bool          // RetryAt is a pause of the whole CA, which was unavailable
	Orders   []time.Time   // recent new orders, for the local rate limit
	Created  time.Time
}

// accountJSON is account.json. Directory and Contact say whose folder it is.
type accountJSON struct {
	Version   int         `json:"version"`
	Directory string      `json:"directory"`
	Contact   string      `json:"contact,omitempty"`
	URI       string      `json:"uri,omitempty"`
	Contacts  []string    `json:"contacts,omitempty"`
	RetryAt   time.Time   `json:"retry_at,omitzero"`
	Down      bool        `json:"down,omitempty"`
	Orders    []time.Time `json:"orders,omitempty"`
	Created   time.Time   `json:"created,omitzero"`
}

// Account returns the account with this contact at this directory, or nil and no error when there is none. A contact of
// "" is the account without one.
//
// The key is the account: when account.json is lost or damaged, what is left is an Account with nothing but its Key, with
// which the CA finds the account again (RFC 8555 section 7.3.1). When the key is lost, that is an error for the operator.
func (s *Store) Account(directory, contact string) (*Account, error) {
	var a *Account
	dir, err := accountDir(directory, contact)
	if err == nil {
		s.accounts.Lock()
		defer s.accounts.Unlock()
		a, err = s.readAccount(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("account at %s: %w", directory, err)
	}
	return a, nil
}

func (s *Store) readAccount(dir string) (*Account, error) {
	d, err := s.dir.Sub(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	a, err := loadAccount(d)
	return a, errors.Join(inPath(err, dir), d.Close())
}

func loadAccount(d *atomicfile.Dir) (*Account, error) {
	f, err := readAccountJSON(d)
	if err != nil {
		return nil, err
	}
	key, err := readKey(d, keyFile)
	if errors.Is(err, fs.ErrNotExist) && f == nil {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w; restore its key from a backup, or remove the folder to register a new account", err)
	}
	next, err := readKey(d, nextKeyFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("a key rollover was under way: %w; restore the key from a backup", err)
	}
	if next != nil && certs.SameKey(next.Public(), key.Public()) {
		next = nil // the rollover is complete, only its end was not saved
	}
	if f == nil {
		f = &accountJSON{}
	}
	r := repairer{}
	r.time("retry_at", &f.RetryAt)
	r.times("orders", &f.Orders)
	return &Account{
		URI: f.URI, Contacts: f.Contacts, Key: key, NextKey: next, RetryAt: f.RetryAt, Down: f.Down,
		Orders: f.Orders, Created: f.Created,
	}, nil
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
	}
	return f, err
}

func readKey(d *atomicfile.Dir, name string) (crypto.Signer, error) {
	text, _, err := read(d, name, maxPEM)
	if err != nil {
		return nil, err
	}
	key, err := certs.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return key, nil
}

// SaveAccount stores an account: the keys first, so that the CA never knows a key that is not on disk, then account.json.
// A NextKey of nil ends a rollover.
func (s *Store) SaveAccount(directory, contact string, a *Account) error {
	dir, err := accountDir(directory, contact)
	if err == nil {
		s.accounts.Lock()
		defer s.accounts.Unlock()
		err = s.writeAccount(dir, accountJSON{
			Version: StateVersion, Directory: directory, Contact: contact, URI: a.URI, Contacts: a.Contacts,
			RetryAt: a.RetryAt, Down: a.Down, Orders: a.Orders, Created: a.Created,
		}, a)
	}
	if err != nil {
		return fmt.Errorf("save the account at %s: %w", directory, err)
	}
	return nil
}

// RetireKey keeps the key of a stored account beside it, for the time after another key takes its place. Nothing reads it
// again; it is for the operator. Retiring a key twice is the same as once, and without a stored account there is nothing to
// do.
func (s *Store) RetireKey(directory, contact string) error {
	dir, err := accountDir(directory, contact)
	if err == nil {
		s.accounts.Lock()
		defer s.accounts.Unlock()
		err = s.retireKey(dir)
	}
	if err != nil {
		return fmt.Errorf("keep the old key of the account at %s: %w", directory, err)
	}
	return nil
}

func (s *Store) retireKey(dir string) error {
	d, err := s.dir.Sub(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(inPath(retireKey(d), dir), d.Close())
}

func retireKey(d *atomicfile.Dir) error {
	key, err := readKey(d, keyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	sum := sha256.Sum256(public)
	return writeKey(d, "retired-"+hex.EncodeToString(sum[:6])+".pem", key)
}

func (s *Store) writeAccount(dir string, f accountJSON, a *Account) error {
	if a.Key == nil {
		return errors.New("it has no key")
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
	text, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	if err := d.Sweep("."); err != nil {
		return err
	}
	if a.NextKey != nil {
		if err := writeKey(d, nextKeyFile, a.NextKey); err != nil {
			return err
		}
	}
	if err := writeKey(d, keyFile, a.Key); err != nil {
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
func writeKey(d *atomicfile.Dir, name string, key crypto.Signer) error {
	text, err := certs.EncodeKey(key)
	if err != nil {
		return err
	}
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
