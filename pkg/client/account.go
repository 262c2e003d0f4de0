package client

import (
	"context"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

// Accounts looks after the accounts at the CAs.
type Accounts interface {
	// Account does one thing with the account of one issuer, and describes the account afterwards.
	Account(ctx context.Context, r AccountRequest) (Account, error)
	// Revoke asks the CA to revoke a stored certificate.
	Revoke(ctx context.Context, r RevokeRequest) (Revocation, error)
	// Fleet does one thing with the fleet, and describes it afterwards. Without a fleet it is an [Error] with [CodeUsage].
	Fleet(ctx context.Context, r FleetRequest) (Fleet, error)
}

// AccountAction says what to do with an account.
type AccountAction string

// The actions.
const (
	AccountShow       AccountAction = "show"       // register it if there is none yet
	AccountUpdate     AccountAction = "update"     // set the mail addresses that the CA has
	AccountRollover   AccountAction = "rollover"   // give it a new key
	AccountRecover    AccountAction = "recover"    // take over the one of an existing key
	AccountDeactivate AccountAction = "deactivate" // close it for good
)

// AccountRequest names an issuer and what to do with its account.
type AccountRequest struct {
	Issuer   string        `json:"issuer"`
	Action   AccountAction `json:"action"`
	Contacts []string      `json:"contacts,omitempty"` // mail addresses, for update
	Key      certs.Secret  `json:"key,omitempty"`      // PEM, for recover
}

// Account describes an account at a CA.
type Account struct {
	Version       int      `json:"version"`
	Issuer        string   `json:"issuer"`
	Directory     string   `json:"directory"`
	URI           string   `json:"uri,omitempty"`
	Status        string   `json:"status"`
	Contacts      []string `json:"contacts,omitempty"`
	Thumbprint    string   `json:"thumbprint,omitempty"`
	CAAIdentities []string `json:"caa_identities,omitempty"`
	// PersistRecords are the lines of zone files for the configured names that are validated by dns-persist-01.
	PersistRecords []string  `json:"persist_records,omitempty"`
	Orders         int       `json:"orders"` // new orders in the last 3 hours
	RetryAt        time.Time `json:"retry_at,omitzero"`
	Created        time.Time `json:"created,omitzero"`
	Notes          []string  `json:"notes,omitempty"` // what is odd about its files
}

// RevokeRequest names a stored certificate and why it is revoked.
type RevokeRequest struct {
	Certificate string `json:"certificate"`
	StoredAs    string `json:"stored_as,omitempty"` // version ID; "" is the active one
	Reason      string `json:"reason,omitempty"`    // as RFC 5280 spells it; "" is unspecified
	ByKey       bool   `json:"by_key,omitempty"`    // sign with the certificate's key instead of the account's
	Keep        bool   `json:"keep,omitempty"`      // do not replace the certificate; ignored after a key compromise
}

// Revocation says what was revoked, and what became of the certificate's replacement.
type Revocation struct {
	Version     int         `json:"version"`
	StoredAs    string      `json:"stored_as"`
	Serial      string      `json:"serial"`
	Error       string      `json:"error,omitempty"` // why the CA has not revoked it yet; acmed asks again
	Code        advice.Code `json:"code,omitempty"`
	Replacement *Result     `json:"replacement,omitempty"` // nil when the version is not the active one, or none is wanted
}
