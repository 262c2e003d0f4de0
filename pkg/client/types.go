package client

import (
	"context"
	"time"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal"
	"github.com/acmed/acmed/pkg/renewal/plan"
)

// Version is the version of the JSON forms in this package. Fields are added within a version, never changed.
const Version = 1

// Backend does what the commands ask for.
type Backend interface {
	Operator
	Accounts
	Examiner
	Serving
}

// Operator looks after the certificates and the daemon itself.
type Operator interface {
	// Status describes certificates; unknown names are an [Error] with [CodeUnknown].
	Status(ctx context.Context, q StatusRequest) (Status, error)
	// Renew brings certificates to where they should be, telling progress on the way. The error is about the request;
	// what became of each certificate is in the report.
	Renew(ctx context.Context, r RenewRequest, progress func(Progress)) (Report, error)
	// Events passes on what happens from now on, and first what the daemon still knows of since r.Since, until ctx ends or event returns an error.
	// It returns an [Error] with [CodeSlow] when the receiver was so slow that events were lost.
	Events(ctx context.Context, r EventsRequest, event func(notify.Event) error) error
	// Reload reads the configuration again. On an error, everything is as it was before, except with [CodePartial].
	Reload(ctx context.Context) error
}

// EventsRequest asks for events.
type EventsRequest struct {
	Since time.Time `json:"since,omitzero"` // also those that happened since; the daemon remembers the last [Remembered] of its run
}

// Remembered is how many events the daemon keeps in memory for those who ask later.
const Remembered = notify.Remembered

// StatusRequest asks for some certificates by name, or for all.
type StatusRequest struct {
	Names  []string `json:"names,omitempty"`
	Detail bool     `json:"detail,omitempty"` // also what costs more to find out: chains, and what clients make of them
}

// Status is the answer.
type Status struct {
	Version      int              `json:"version"`
	Daemon       *Daemon          `json:"daemon,omitempty"` // nil when no daemon runs
	Certificates []renewal.Status `json:"certificates"`
	// Conditions are failures of acmed itself or of its machine, the worst first. Empty when there are none.
	Conditions []Condition `json:"conditions"`
}

// Condition is one failure that belongs to no single certificate.
type Condition struct {
	Code   advice.Code `json:"code"`
	Detail string      `json:"detail"`         // one line: the object and the cause
	File   string      `json:"file,omitempty"` // the configuration file that is broken
	Line   int         `json:"line,omitempty"` // in File, from 1; 0 when the file as a whole is
	Issuer string      `json:"issuer,omitempty"`
	Since  time.Time   `json:"since,omitzero"`
	Next   time.Time   `json:"next,omitzero"` // when acmed tries again
}

// Daemon describes the running daemon.
type Daemon struct {
	Version     string    `json:"version"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Config      string    `json:"config"`
	ReloadError string    `json:"reload_error,omitempty"` // why the configuration on disk is not, or not wholly, the one in use
}

// RenewRequest asks for a run of some certificates, or of all.
type RenewRequest struct {
	Names  []string      `json:"names,omitempty"`
	Force  bool          `json:"force,omitempty"`
	Again  bool          `json:"again,omitempty"`  // force although it was issued several times today
	Alone  bool          `json:"alone,omitempty"`  // in a fleet: order although its store is away
	Spread time.Duration `json:"spread,omitempty"` // with Force: not now, but within this many nanoseconds, each at its own time
}

// Progress is one step of one certificate.
type Progress struct {
	Certificate string     `json:"certificate"`
	Step        certs.Step `json:"step"`
	Result      *Result    `json:"result,omitempty"` // set in the last one for a certificate
}

// Line is one line of a streamed answer: progress or an event, and at the end a report or an error.
type Line struct {
	Progress *Progress     `json:"progress,omitempty"`
	Event    *notify.Event `json:"event,omitempty"`
	Report   *Report       `json:"report,omitempty"`
	Error    *Error        `json:"error,omitempty"`
}

// Outcome says in one word what became of a certificate.
type Outcome string

// The outcomes. A certificate that was obtained and could not be installed has failed: somebody must look.
const (
	OutcomeObtained  Outcome = "obtained"
	OutcomeUpdated   Outcome = "updated" // no new version, but something was activated or installed
	OutcomeUnchanged Outcome = "unchanged"
	OutcomeScheduled Outcome = "scheduled" // will be renewed at the time in Next
	OutcomeLimited   Outcome = "rate-limited"
	OutcomeWaiting   Outcome = "waiting" // a target asked to be called later; nothing has failed
	OutcomeTested    Outcome = "tested"  // obtained from a staging directory, and thrown away
	OutcomeFailed    Outcome = "failed"
)

// Result is what became of one certificate.
type Result struct {
	Certificate string         `json:"certificate"`
	Outcome     Outcome        `json:"outcome"`
	Reason      plan.Reason    `json:"reason"`
	Message     string         `json:"message"`
	Version     string         `json:"version,omitempty"`
	NotAfter    time.Time      `json:"not_after,omitzero"`
	Held        string         `json:"held,omitempty"` // why a newer version than this one waits
	Next        time.Time      `json:"next,omitzero"`
	Error       string         `json:"error,omitempty"`
	Health      renewal.Health `json:"health,omitempty"` // the state at the end, as in Status; empty when it is not known
	Code        advice.Code    `json:"code,omitempty"`   // what kind of failure Error is
}

// Report is the end of a renew request.
type Report struct {
	Version int      `json:"version"`
	Results []Result `json:"results"`
}

// Code classifies an error for programs.
type Code string

// The codes.
const (
	CodeUsage      Code = "usage"         // the request makes no sense
	CodeUnknown    Code = "unknown"       // a certificate that is not in the configuration
	CodeConfig     Code = "configuration" // the configuration cannot be used
	CodePartial    Code = "partial"       // done, but some files of the configuration are not in use as they are
	CodePermission Code = "permission"    // the caller may not do this
	CodeStopping   Code = "stopping"      // the daemon is on its way out
	CodeSlow       Code = "slow"          // the reader of events was too far behind, and missed some
	CodeInternal   Code = "internal"      // anything else
)

// Error is an error that keeps its meaning over the socket.
type Error struct {
	Code    Code        `json:"code"`
	Message string      `json:"message"`
	Explain advice.Code `json:"explain,omitempty"` // what kind of failure it is, for acmed explain
}

// Error returns the message.
func (e *Error) Error() string { return e.Message }

// Advice is the code of the failure.
func (e *Error) Advice() advice.Code {
	if e.Explain == "" && e.Code == CodePermission {
		return advice.NoPermission
	}
	return e.Explain
}
