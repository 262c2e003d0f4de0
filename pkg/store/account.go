package store

import (
	"crypto"
	"errors"
	"time"
)

// Account is an account at one CA.
type Account struct {
	URI      string        // of the account at the CA; "" until it is registered
	Contacts []string      // as the CA knows them, for example mailto:ops@example.com
	Key      crypto.Signer // signs the requests
	NextKey  crypto.Signer // a key rollover is under way: the CA knows either Key or this one; nil otherwise
	RetryAt  time.Time     // rate limit of the whole account: no request before
	Orders   []time.Time   // recent new orders, for the local rate limit
	Created  time.Time
}

// Account returns the account with this contact at this directory, or nil and no error when there is none.
func (s *Store) Account(directory, contact string) (*Account, error) {
	return nil, errors.ErrUnsupported
}

// SaveAccount stores an account, the keys before account.json.
func (s *Store) SaveAccount(directory, contact string, a *Account) error {
	return errors.ErrUnsupported
}
