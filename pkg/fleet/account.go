package fleet

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/acmed/acmed/internal/openjson"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// accountValue is the value of an account. URL and thumbprint are in clear: a node without a seal key answers http-01
// challenges with the thumbprint.
type accountValue struct {
	URL        string `json:"url,omitempty"`
	Thumbprint string `json:"thumbprint,omitempty"`
	Sealed     []byte `json:"sealed"`
}

type sealedAccount struct {
	Directory string    `json:"directory"`
	Contacts  []string  `json:"contacts,omitempty"`
	Key       string    `json:"key"`
	NextKey   string    `json:"next_key,omitempty"`
	Created   time.Time `json:"created,omitzero"`
}

// Account is the fleet's account at one CA. RetryAt, Down and Orders of the stored account are not part of it: they are in
// its [Budget].
type Account struct {
	store.Account
	Thumbprint string // of the key (RFC 7638), for stateless answers
	raw        []byte // as it was read; nil: it is new
	retiring   bool   // it was sealed with a key that only opens
}

// Account returns the account at a directory with a contact, or nil and no error when there is none.
func (l *Ledger) Account(ctx context.Context, directory, contact string) (*Account, error) {
	kv, err := l.get(ctx, l.keys.account(directory, contact))
	if err != nil || kv == nil {
		return nil, err
	}
	return l.openAccount(*kv)
}

// Thumbprint returns the thumbprint of the account's key from memory, "" if there is no account or it is not known yet.
func (l *Ledger) Thumbprint(directory, contact string) string {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	var v accountValue
	_ = json.Unmarshal(l.view.small[l.keys.account(directory, contact)].Value, &v)
	return v.Thumbprint
}

// AccountChanged reports whether the account is no longer the one that was read or saved, from memory.
func (l *Ledger) AccountChanged(directory, contact string, a *Account) bool {
	l.view.mu.RLock()
	defer l.view.mu.RUnlock()
	kv, ok := l.view.small[l.keys.account(directory, contact)]
	return ok && string(kv.Value) != string(a.raw)
}

// SaveAccount stores an account in place of the one that it was read as. A new one is stored if there is none yet. If
// another node was faster, its account is returned, and the caller uses that.
func (l *Ledger) SaveAccount(ctx context.Context, directory, contact string, a *Account) (*Account, error) {
	if l.config.Sealer == nil {
		return nil, errors.New("there is no seal key")
	}
	key := l.keys.account(directory, contact)
	value, err := l.sealAccount(key, directory, a)
	if err != nil {
		return nil, err
	}
	t := Txn{If: []Cond{{key, a.raw}}, Then: []Op{{Key: key, Value: value}}, Else: []string{key}}
	r, err := l.commit(ctx, t)
	if unknown(err) {
		r, err = l.commit(ctx, t) // if the first took effect, this one finds its value
	}
	switch {
	case err != nil:
		return nil, err
	case r.Done:
		saved := *a
		saved.raw, saved.retiring = value, false
		return &saved, nil
	case len(r.Read) == 0:
		return nil, &certs.ChangedError{Name: "the account at " + directory}
	}
	l.relearn(r)
	return l.openAccount(r.Read[0])
}

func (l *Ledger) sealAccount(key, directory string, a *Account) ([]byte, error) {
	inner := sealedAccount{Directory: directory, Contacts: a.Contacts, Created: a.Created}
	text, err := certs.EncodeKey(a.Key)
	if err != nil {
		return nil, err
	}
	inner.Key = string([]byte(text))
	if a.NextKey != nil {
		if text, err = certs.EncodeKey(a.NextKey); err != nil {
			return nil, err
		}
		inner.NextKey = string([]byte(text))
	}
	plain, err := json.Marshal(inner)
	if err != nil {
		return nil, err
	}
	return openjson.Marshal(accountValue{a.URI, a.Thumbprint, l.config.Sealer.Seal(key, plain)}, a.raw)
}

func (l *Ledger) openAccount(kv KV) (*Account, error) {
	var outer accountValue
	var inner sealedAccount
	if err := json.Unmarshal(kv.Value, &outer); err != nil {
		return nil, damagedValue(kv.Key, err)
	}
	a := &Account{Thumbprint: outer.Thumbprint, raw: kv.Value}
	a.URI = outer.URL
	if l.config.Sealer == nil {
		return a, nil
	}
	text, err := l.config.Sealer.Open(kv.Key, outer.Sealed)
	if err != nil {
		return nil, err
	}
	if json.Unmarshal(text, &inner) != nil {
		return nil, &SealError{kv.Key, "it is no account"}
	}
	a.retiring = !l.config.Sealer.current(outer.Sealed)
	a.Contacts, a.Created = inner.Contacts, inner.Created
	if a.Key, err = certs.ParseKey([]byte(inner.Key)); err != nil {
		return nil, &SealError{kv.Key, err.Error()}
	}
	if inner.NextKey != "" {
		if a.NextKey, err = certs.ParseKey([]byte(inner.NextKey)); err != nil {
			return nil, &SealError{kv.Key, err.Error()}
		}
	}
	return a, nil
}
