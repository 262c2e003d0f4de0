package store

import (
	"errors"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// The slots of pending orders: a dual unit has one order of each at a time, any other certificate uses SlotEC for EC keys
// and SlotRSA for RSA keys.
const (
	SlotEC  = "ec"
	SlotRSA = "rsa"
)

// Order is an order that was placed and whose certificate is not stored yet. It holds the private key, which exists
// before the certificate, so that a crash after finalize downloads instead of ordering again.
type Order struct {
	URL         string             // of the order at the CA
	Directory   string             // URL of the CA's directory
	Account     string             // URL of the account that placed it
	KeyPEM      certs.Secret       // PKCS#8; empty when the operator supplied the CSR
	Identifiers []certs.Identifier // as ordered
	Profile     string
	Created     time.Time
	Finalized   bool // the finalize request was sent, perhaps without an answer
}

// Order returns the pending order of a slot, or nil and no error when there is none.
func (s *Store) Order(name, slot string) (*Order, error) { return nil, errors.ErrUnsupported }

// SaveOrder stores the pending order of a slot, in place of an earlier one.
func (s *Store) SaveOrder(name, slot string, o *Order) error { return errors.ErrUnsupported }

// DropOrder forgets the pending order of a slot. It is no error when there is none.
func (s *Store) DropOrder(name, slot string) error { return errors.ErrUnsupported }
