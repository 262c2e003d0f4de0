package client

import (
	"time"

	"github.com/acmed/acmed/pkg/advice"
)

// FleetAction says what to do with a fleet.
type FleetAction string

// The actions.
const (
	FleetStatus FleetAction = "status" // from memory, without a call to the store
	FleetImport FleetAction = "import" // give the fleet what this machine has
	FleetForget FleetAction = "forget" // remove certificates from the fleet; the nodes keep what they have
)

// FleetRequest says what to do with a fleet.
type FleetRequest struct {
	Action FleetAction `json:"action"`
	Names  []string    `json:"names,omitempty"` // certificates; for import none stands for all
	Dry    bool        `json:"dry,omitempty"`   // import: only say what would happen
}

// Fleet describes a fleet as one node knows it.
type Fleet struct {
	Version      int                `json:"version"`
	Name         string             `json:"name"`
	Node         string             `json:"node"` // this one
	Role         string             `json:"role"`
	Store        FleetStore         `json:"store"`
	Nodes        []FleetNode        `json:"nodes"`
	Certificates []FleetCertificate `json:"certificates"`
	Imported     []FleetImported    `json:"imported,omitempty"`
}

// FleetStore is how the store answers.
type FleetStore struct {
	Up       bool        `json:"up"`
	Contact  time.Time   `json:"last_contact,omitzero"` // of the last answer
	Error    string      `json:"error,omitempty"`
	Code     advice.Code `json:"code,omitempty"`
	ClientTo time.Time   `json:"client_certificate_until,omitzero"` // expiry of this node's client certificate
}

// FleetNode is one node, or one command that runs on one.
type FleetNode struct {
	ID       string            `json:"id"`
	Address  string            `json:"address,omitempty"` // host name
	Release  string            `json:"release,omitempty"`
	Role     string            `json:"role"`
	Command  bool              `json:"command,omitempty"` // it ends with its work
	Since    time.Time         `json:"since,omitzero"`
	Ahead    time.Duration     `json:"clock_ahead,omitempty"` // nanoseconds, compared with this node's clock
	Twice    bool              `json:"twice,omitempty"`       // another machine has the same ID
	Behind   []string          `json:"behind,omitempty"`      // certificates of which it does not serve the newest version
	Failed   map[string]string `json:"failed,omitempty"`      // certificates that it could not install
	NotAfter time.Time         `json:"not_after,omitzero"`    // earliest of its active versions
}

// FleetCertificate is one certificate as this node and the fleet have it.
type FleetCertificate struct {
	Name      string        `json:"name"`
	N         int64         `json:"n"` // the fleet's newest version; 0: it has none
	Active    bool          `json:"active"`
	Node      string        `json:"node,omitempty"`
	Committed time.Time     `json:"committed,omitzero"`
	NotAfter  time.Time     `json:"not_after,omitzero"`
	Served    string        `json:"served,omitempty"` // node that served it first
	Working   string        `json:"working,omitempty"`
	Since     time.Time     `json:"since,omitzero"`
	Stuck     bool          `json:"stuck,omitempty"` // the work takes longer than an order may
	Problem   string        `json:"problem,omitempty"`
	Pinned    string        `json:"pinned,omitempty"` // version that a rollback keeps live here
	Unshared  string        `json:"unshared,omitempty"`
	Failures  int           `json:"failures,omitempty"`
	Lag       time.Duration `json:"lag,omitempty"` // nanoseconds since a newer version than the one served here was committed
}

// FleetImported says what became, or would become, of one certificate or account of this machine.
type FleetImported struct {
	What  string `json:"what"` // certificate www, account letsencrypt
	Fate  string `json:"fate"`
	Error string `json:"error,omitempty"`
}
