package client

import (
	"context"
	"time"

	"github.com/acmed/acmed/pkg/store"
)

// Serving is about what servers serve, which of the stored versions that is, and who accepts it.
type Serving interface {
	Installs
	Versions
	Clients
}

// Versions looks at the stored versions of certificates, and says which one is live.
type Versions interface {
	// History lists the stored versions of one certificate.
	History(ctx context.Context, r VersionRequest) (History, error)
	// Log returns what happened to one certificate.
	Log(ctx context.Context, r LogRequest) (Log, error)
	// Activate makes the newest version live, and ends the pin of a rollback.
	Activate(ctx context.Context, r ActivateRequest, progress func(Progress)) (Report, error)
	// Rollback makes an earlier version live and keeps it so.
	Rollback(ctx context.Context, r VersionRequest, progress func(Progress)) (Report, error)
}

// Clients answers for those who must trust a certificate.
type Clients interface {
	// Chain returns what clients must import that pin the issuers of a certificate.
	Chain(ctx context.Context, r VersionRequest) (Chain, error)
	// Trust asks every configured client about every chain of some certificates.
	Trust(ctx context.Context, r TrustRequest) (Trust, error)
}

// VersionRequest names a stored version of a certificate.
type VersionRequest struct {
	Certificate string `json:"certificate"`
	StoredAs    string `json:"stored_as,omitempty"` // version ID; "" leaves the choice to the verb
}

// ActivateRequest names a certificate.
type ActivateRequest struct {
	Certificate string `json:"certificate"`
	Anyway      bool   `json:"anyway,omitempty"` // although clients would refuse the version, or its notice is not over
}

// VersionState says in one word what a stored version is to the others.
type VersionState string

// The states.
const (
	VersionActive  VersionState = "active"
	VersionPinned  VersionState = "pinned" // active, and kept so by a rollback
	VersionHeld    VersionState = "held"
	VersionNotice  VersionState = "notice" // waits for the end of its notice
	VersionEnded   VersionState = "ended"  // not valid any more
	VersionRevoked VersionState = "revoked"
	VersionWaiting VersionState = "stored" // newer than the active one, live in a moment
	VersionEarlier VersionState = "earlier"
)

// History lists versions, the newest first.
type History struct {
	Version     int             `json:"version"`
	Certificate string          `json:"certificate"`
	Versions    []StoredVersion `json:"versions"`
}

// StoredVersion is one of them.
type StoredVersion struct {
	ID        string       `json:"id"`
	State     VersionState `json:"state"`
	Detail    string       `json:"detail,omitempty"` // why it waits
	Issuer    string       `json:"issuer,omitempty"`
	Created   time.Time    `json:"created"`
	NotBefore time.Time    `json:"not_before"`
	NotAfter  time.Time    `json:"not_after"`
}

// LogRequest asks what happened to a certificate.
type LogRequest struct {
	Certificate string    `json:"certificate"`
	Since       time.Time `json:"since,omitzero"` // nothing that ended before
}

// Log is what happened, the oldest first, as far as it is remembered.
type Log struct {
	Version     int              `json:"version"`
	Certificate string           `json:"certificate"`
	Entries     []store.LogEntry `json:"entries"`
}

// Chain is what issued a version.
type Chain struct {
	Version     int      `json:"version"`
	Certificate string   `json:"certificate"`
	StoredAs    string   `json:"stored_as"`
	Subjects    []string `json:"subjects"`
	Pins        []KeyPin `json:"pins,omitempty"` // of the keys that it has or will have, whatever version was asked for
	TLSA        []string `json:"tlsa,omitempty"` // the same as records for a zone file, if it has any
	PEM         string   `json:"pem"`            // the intermediates, and the root if a configured client or this machine knows it
}

// KeyPin is a public key as clients pin it.
type KeyPin struct {
	Pin   string `json:"pin"`   // sha256/ and the base64 form of the SHA-256 of its SubjectPublicKeyInfo
	State string `json:"state"` // active, waiting or next
}

// TrustRequest asks about some certificates, or all.
type TrustRequest struct {
	Names []string  `json:"names,omitempty"`
	At    time.Time `json:"at,omitzero"` // the time for which the verdicts are; now without one
}

// Trust is a table of chains and clients.
type Trust struct {
	Version int        `json:"version"`
	At      time.Time  `json:"at"`
	Chains  []ChainRow `json:"chains"`
}

// ChainRow is one chain of one version with what the clients make of it.
type ChainRow struct {
	Certificate string       `json:"certificate"`
	StoredAs    string       `json:"stored_as"`
	State       VersionState `json:"state"`
	Presented   bool         `json:"presented"` // this one, of all that the CA offers
	Issuers     []string     `json:"issuers"`
	Clients     []ClientCell `json:"clients"`
}

// ClientCell is the verdict of one client.
type ClientCell struct {
	Client  string    `json:"client"`
	Listed  bool      `json:"listed"` // the certificate must not lose it
	Trusted bool      `json:"trusted"`
	Until   time.Time `json:"until,omitzero"` // when that expires
	Reason  string    `json:"reason,omitempty"`
}

// History asks the daemon.
func (c *Client) History(ctx context.Context, r VersionRequest) (History, error) {
	return ask[History](ctx, c, "history", r)
}

// Log asks the daemon.
func (c *Client) Log(ctx context.Context, r LogRequest) (Log, error) {
	return ask[Log](ctx, c, "log", r)
}

// Chain asks the daemon.
func (c *Client) Chain(ctx context.Context, r VersionRequest) (Chain, error) {
	return ask[Chain](ctx, c, "chain", r)
}

// Trust asks the daemon.
func (c *Client) Trust(ctx context.Context, r TrustRequest) (Trust, error) {
	return ask[Trust](ctx, c, "trust", r)
}

// Activate asks the daemon and follows its progress. When ctx ends, the daemon goes on alone.
func (c *Client) Activate(ctx context.Context, r ActivateRequest, progress func(Progress)) (Report, error) {
	return c.follow(ctx, "activate", r, progress)
}

// Rollback asks the daemon and follows its progress. When ctx ends, the daemon goes on alone.
func (c *Client) Rollback(ctx context.Context, r VersionRequest, progress func(Progress)) (Report, error) {
	return c.follow(ctx, "rollback", r, progress)
}
