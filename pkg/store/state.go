package store

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/acmed/acmed/internal/atomicfile"
	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
)

const (
	stateFile = "state.json"
	maxState  = 1 << 20 // bytes; a certificate with 100 names and 20 targets needs 10,000
)

// StateVersion is the version of the file formats that this package writes. It reads this one and earlier ones.
const StateVersion = 1

// State is what acmed remembers about one certificate between two sweeps, kept in state.json. The zero State, apart from
// Version, is that of a certificate about which nothing happened yet; [Store.SaveState] sets Version itself.
type State struct {
	Version int `json:"version"`

	Attempts     int         `json:"attempts,omitzero"`      // orders begun whose end was not recorded; above 1 acmed was killed in them
	Failures     int         `json:"failures,omitzero"`      // failed orders in a row
	LastError    string      `json:"last_error,omitzero"`    // of the last failed order
	LastErrorAt  time.Time   `json:"last_error_at,omitzero"` // when that was
	LastCode     advice.Code `json:"last_code,omitzero"`     // what kind of failure LastError is
	FailingSince time.Time   `json:"failing_since,omitzero"` // first failure in a row
	RetryAt      time.Time   `json:"retry_at,omitzero"`      // no order before
	Asked        string      `json:"asked,omitzero"`         // hash of all that the last failed order depended on; when that changes RetryAt is void
	Paused       bool        `json:"paused,omitzero"`        // RetryAt is the CA's word, which nothing but time ends

	Requested time.Time `json:"requested,omitzero"` // an operator asked for a renewal at this time
	RenewAt   time.Time `json:"renew_at,omitzero"`  // drawn once per leaf, so that restarts do not draw again
	RenewFor  string    `json:"renew_for,omitzero"` // fingerprint of the bundle for which RenewAt was drawn
	ARI       ARI       `json:"ari,omitzero"`

	Down      map[string]time.Time   `json:"down,omitempty"`      // issuer to the time since when it is unavailable
	Issued    []time.Time            `json:"issued,omitempty"`    // issuances of the last 24 hours
	Limited   time.Time              `json:"limited,omitzero"`    // it was told then that issuances are held up by their number
	Installed map[string]Installed   `json:"installed,omitempty"` // by target ID
	Held      *Held                  `json:"held,omitempty"`      // a version that waits for its clients; nil: none
	Hook      *Hook                  `json:"hook,omitempty"`      // the post hook still has to run; nil: it has
	Pinned    string                 `json:"pinned,omitempty"`    // version ID that a rollback pinned
	Solved    map[string]string      `json:"solved,omitempty"`    // identifier to the solver that worked last
	Invalid   map[string][]time.Time `json:"invalid,omitempty"`   // identifier to its failed validations of the last hour
	Warnings  []string               `json:"warnings,omitempty"`  // what will stand in the way of a renewal, as last looked up
	Ignored   []string               `json:"ignored,omitempty"`   // settings that the CA ignored when it issued the newest version, see certs.Spec.Ignored
	Chains    *Chains                `json:"chains,omitempty"`    // alternate chains that the CA did not deliver; nil: none
	Alerted   int                    `json:"alerted,omitempty"`   // smallest days-left threshold already alerted; 0: none

	Log []LogEntry `json:"log,omitempty"` // what happened, the oldest first; see [State.Remember]

	TLSA      map[string]TLSA `json:"tlsa,omitempty"`       // what is or may be in the DNS, by name and data; see certs.TLSA
	TLSAError string          `json:"tlsa_error,omitempty"` // why the DNS does not have what it should, as last looked up

	Fleet *Fleet `json:"fleet,omitempty"` // what this node shares with others; nil on a single machine

	Compromised []string `json:"compromised,omitempty"` // versions whose key others may know; removed when another one is active

	Revoked map[string]Revocation `json:"revoked,omitempty"` // version ID to its revocation, for as long as the version is stored
}

// Chains says which alternate chains of a certificate are missing, and when the CA is asked for them again.
type Chains struct {
	For     string         `json:"for"`               // fingerprint of the bundle
	Missing *certs.Missing `json:"missing,omitempty"` // nil: none
	RSA     *certs.Missing `json:"rsa,omitempty"`     // of the RSA twin of a dual unit
	Asked   int            `json:"asked,omitzero"`    // how often the CA was asked again
	RetryAt time.Time      `json:"retry_at,omitzero"` // zero: it is not asked any more
}

// TLSA is one TLSA record (RFC 6698) of a certificate.
type TLSA struct {
	Seen   time.Time `json:"seen,omitzero"`   // since when all name servers have it; zero: they do not
	Unused time.Time `json:"unused,omitzero"` // since when nothing that is served needs it; zero: something does
	TTL    int64     `json:"ttl,omitzero"`    // seconds, as last seen
}

// Fleet is what a node of a fleet remembers about what it shares.
type Fleet struct {
	N        int64  `json:"n,omitzero"`        // number of the newest version here that the fleet has; 0: none
	Version  string `json:"version,omitzero"`  // its ID here
	Spec     string `json:"spec,omitzero"`     // hash of the configuration that this node had when it obtained or adopted it
	Answers  string `json:"answers,omitzero"`  // hash of the configuration that it answers, another node's perhaps
	By       string `json:"by,omitzero"`       // under which claim it was committed; "" if another node did
	Unshared string `json:"unshared,omitzero"` // ID of a version that was obtained here and not committed
	Base     int64  `json:"base,omitzero"`     // the fleet's number when Unshared was ordered

	Old []string `json:"old,omitempty"` // hashes of the configurations that Answers replaced

	Rank  int `json:"rank,omitzero"`  // this node's place among those that may order, as last known
	Nodes int `json:"nodes,omitzero"` // how many they are

	Unable      string    `json:"unable,omitzero"` // why this node cannot answer a challenge
	UnableUntil time.Time `json:"unable_until,omitzero"`

	LastError string    `json:"last_error,omitzero"` // of the last version that could not be taken from the fleet
	RetryAt   time.Time `json:"retry_at,omitzero"`
}

// ARI is the last renewal information that the CA gave (RFC 9773).
type ARI struct {
	CheckAt time.Time `json:"check_at,omitzero"` // do not ask again before
	For     string    `json:"for,omitzero"`      // fingerprint of the bundle that the window belongs to
	Start   time.Time `json:"start,omitzero"`
	End     time.Time `json:"end,omitzero"`
	URL     string    `json:"url,omitzero"` // the CA's explanation for people
}

// Installed is what is known about one target.
type Installed struct {
	Fingerprint string      `json:"fingerprint,omitzero"` // of the bundle that was installed; "" when nothing ever was
	At          time.Time   `json:"at,omitzero"`          // when it was installed
	VerifiedAt  time.Time   `json:"verified_at,omitzero"` // when the endpoint was last seen serving it
	Failures    int         `json:"failures,omitzero"`    // failed installs or verifications in a row
	LastError   string      `json:"last_error,omitzero"`
	LastCode    advice.Code `json:"last_code,omitzero"`
	RetryAt     time.Time   `json:"retry_at,omitzero"`
	Asked       string      `json:"asked,omitzero"`  // hash of the target's settings when it failed; when they change RetryAt is void
	Off         bool        `json:"off,omitempty"`   // an operator took it away; it is left alone until it is put back
	Notes       []string    `json:"notes,omitempty"` // what an operator should know although it is installed
}

// Hook says that the operator's hook after a new version has not succeeded yet.
type Hook struct {
	For       string      `json:"for"`               // fingerprint of the bundle that it is to run for
	Failures  int         `json:"failures,omitzero"` // failed tries in a row; 0: not tried yet
	LastError string      `json:"last_error,omitzero"`
	LastCode  advice.Code `json:"last_code,omitzero"`
	RetryAt   time.Time   `json:"retry_at,omitzero"`
}

// Revocation says that an operator revoked a version.
type Revocation struct {
	Reason    string      `json:"reason,omitempty"` // as RFC 5280 spells it
	At        time.Time   `json:"at"`               // when the operator asked for it
	DoneAt    time.Time   `json:"done_at,omitzero"` // when the CA did it; zero: it is tried again
	Keep      bool        `json:"keep,omitempty"`   // the operator wants no replacement
	Failures  int         `json:"failures,omitempty"`
	LastError string      `json:"last_error,omitempty"`
	LastCode  advice.Code `json:"last_code,omitempty"`
	RetryAt   time.Time   `json:"retry_at,omitzero"`
}

// Held is a stored version that must not go live yet.
type Held struct {
	Version string    `json:"version"`
	Clients []string  `json:"clients,omitempty"` // trust stores that would not verify it
	Reason  string    `json:"reason,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	Keys    bool      `json:"keys,omitzero"`  // it waits until clients can know its key, whoever they are
	Stale   bool      `json:"stale,omitzero"` // it is not what the configuration asks for any more, so it holds up no other
	Until   time.Time `json:"until,omitzero"` // when it goes live by itself; zero: when the active version ends
}

// NewerStateError says that a file was written by a later acmed. It is left as it is: the operator goes back to that
// release, or restores a backup of the state directory from before it.
type NewerStateError struct {
	Path    string // relative to the state directory
	Version int    // what the file says
}

// Error names the file and both versions.
func (e *NewerStateError) Error() string {
	return fmt.Sprintf("%s has format version %d, this acmed knows up to %d; run the acmed that wrote it, or a later one",
		e.Path, e.Version, StateVersion)
}

// SaveState writes state.json. It refuses to replace the file of a later acmed with a [*NewerStateError].
func (s *Store) SaveState(name string, st *State) error {
	return s.inMade(name, "save the state", func(d *atomicfile.Dir, _ *entry) error {
		if err := replaceable(d, stateFile, maxState); err != nil {
			return err
		}
		saved := *st
		saved.Version = StateVersion
		text, err := json.MarshalIndent(&saved, "", "  ")
		if err != nil {
			return err
		}
		return d.Write(stateFile, append(text, '\n'), publicFile)
	})
}

// loadState reads state.json. A missing one is rebuilt from the versions on disk, a damaged one as well, after it was set
// aside; what makes no sense in a sound one is dropped.
func (e *entry) loadState(d *atomicfile.Dir) (State, error) {
	st, err := readState(d)
	var bad *damageError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return e.rebuild(), nil
	case errors.As(err, &bad):
		e.setAside(d, stateFile, bad)
		return e.rebuild(), nil
	case err != nil:
		return State{}, err
	}
	for _, what := range st.repair(e.has) {
		e.note("%s: %s", stateFile, what)
	}
	return st, nil
}

// readState returns a *damageError for a file that is no state, and a *NewerStateError for one from the future.
func readState(d *atomicfile.Dir) (State, error) {
	var st State
	if err := readJSON(d, stateFile, maxState, &st, &st.Version); err != nil {
		return State{}, err
	}
	return st, nil
}

// rebuild makes the state of a lineage of which only the versions are known. Their times count as issuances, so that
// losing the state does not lift the limit on them. A version that was taken over from another client was issued when it
// says so, not when it came here: a limit on the day of the move would keep what is due from being renewed.
func (e *entry) rebuild() State {
	const issuing = 25 * time.Hour // the most from notBefore to here; CAs set it back by an hour, and an order may wait a day
	st := State{Version: StateVersion}
	for _, v := range e.versions {
		if v.Fingerprint == "" || len(st.Issued) == maxTimes {
			continue
		}
		at := v.Created
		if at.Sub(v.NotBefore) > issuing {
			at = v.NotBefore
		}
		st.Issued = append(st.Issued, at)
	}
	return st
}
