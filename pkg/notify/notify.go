package notify

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/pkg/advice"
)

// Kind says what happened. The values are stable.
type Kind string

// The kinds of event.
const (
	Obtained      Kind = "obtained"       // a new version was issued, stored and made live
	Adopted       Kind = "adopted"        // a version that another node of the fleet obtained was taken
	Failed        Kind = "failed"         // no new version could be obtained; Error says why, RetryAt when the next try is
	Limited       Kind = "limited"        // due, but issued twice within 24 hours, as by a CA that asks for it without end; waits until RetryAt
	InstallFailed Kind = "install_failed" // a target does not serve the live version; Target names it
	HookFailed    Kind = "hook_failed"    // the hook after a new version failed; the certificate is in use
	RolledBack    Kind = "rolled_back"    // the earlier version is live again: an endpoint stopped working, or an operator asked
	Held          Kind = "held"           // a new version is stored and waits: Clients would not trust it; again as expiry nears
	ChainChanged  Kind = "chain_changed"  // a new version comes from another intermediate or root, see Chain; live at ActiveAt
	PinsChanged   Kind = "pins_changed"   // the next key was made, see Pins; clients that pin keys must learn it before the next renewal
	Activated     Kind = "activated"      // a version that waited is live
	Expiring      Kind = "expiring"       // 14, 7, 3 or 1 days are left, or none
	ClockDoubted  Kind = "clock_doubted"  // CAs or a jump contradict the clock of this machine, so ordinary renewals wait; names no certificate
	Recovered     Kind = "recovered"      // what was failing works again; Recovers says what that was
	Digest        Kind = "digest"         // the state of every certificate, see Summary; daily or weekly
	Test          Kind = "test"           // an operator asked whether events arrive
)

// Kinds lists the kinds that a notifier can be told of, in the order of the documentation. Digests and tests go to those
// who asked for them.
func Kinds() []Kind {
	return []Kind{Obtained, Adopted, Failed, Limited, InstallFailed, HookFailed, RolledBack, Held, ChainChanged, PinsChanged, Activated, Expiring, ClockDoubted, Recovered}
}

// DefaultKinds lists what a notifier is told of that does not say: everything but good news that nobody waits for.
func DefaultKinds() []Kind {
	return []Kind{Failed, Limited, InstallFailed, HookFailed, RolledBack, Held, ChainChanged, PinsChanged, Activated, Expiring, ClockDoubted, Recovered}
}

// Bad reports whether somebody should look.
func (k Kind) Bad() bool {
	switch k {
	case Failed, Limited, InstallFailed, HookFailed, RolledBack, Held, Expiring, ClockDoubted:
		return true
	}
	return false
}

// Schema is the version of the JSON form of an [Event]. Fields are added within a version, never changed or removed.
const Schema = 1

// Event is one thing that happened to one certificate. Its JSON form is stable.
type Event struct {
	Schema      int         `json:"schema"` // 1; set by the Hub
	ID          string      `json:"id"`     // the same for every notifier and every try; set by the Hub
	Kind        Kind        `json:"kind"`
	Time        time.Time   `json:"time"`
	Host        string      `json:"host,omitempty"` // name of this machine; set by the Hub
	Certificate string      `json:"certificate,omitempty"`
	Names       []string    `json:"names,omitempty"`
	Version     string      `json:"version,omitempty"`
	Target      string      `json:"target,omitempty"`
	NotAfter    time.Time   `json:"not_after,omitzero"`
	RetryAt     time.Time   `json:"retry_at,omitzero"`
	Clients     []string    `json:"clients,omitempty"`    // trust stores that would not verify the version
	ActiveAt    time.Time   `json:"active_at,omitzero"`   // when a held version becomes active
	Chain       string      `json:"chain,omitempty"`      // PEM of the issuers, for those who must import them
	ChainFile   string      `json:"chain_file,omitempty"` // where the same is on this machine
	Pins        []string    `json:"pins,omitempty"`       // of the active key and of the next one
	Recovers    Kind        `json:"recovers,omitempty"`   // of Recovered: failed, install_failed or hook_failed
	Summary     []State     `json:"summary,omitempty"`    // of Digest: every certificate, those that need attention first
	Message     string      `json:"message"`              // one line for people
	Error       string      `json:"error,omitempty"`
	Code        advice.Code `json:"code,omitempty"` // what kind of failure Error is; acmed explain tells about it
}

// State is one certificate in a digest.
type State struct {
	Certificate string    `json:"certificate"`
	State       string    `json:"state"` // as in "acmed status"
	Attention   bool      `json:"attention"`
	NotAfter    time.Time `json:"not_after,omitzero"`
	Error       string    `json:"error,omitempty"`
}

// Notifier is told what happened. It must return when ctx is done.
type Notifier interface {
	Notify(ctx context.Context, e Event) error
}

// All tells every notifier of the list, whatever the others answer, and joins their errors.
type All []Notifier

var _ Notifier = All(nil)

// Notify tells each notifier in turn.
func (all All) Notify(ctx context.Context, e Event) error {
	var errs []error
	for _, n := range all {
		errs = append(errs, n.Notify(ctx, e))
	}
	return errors.Join(errs...)
}

// Log writes events to the log: failures as errors, the rest as information. It never fails.
type Log struct{ Logger *zap.Logger }

var _ Notifier = Log{}

// Notify writes one line with a fixed set of fields.
func (l Log) Notify(_ context.Context, e Event) error {
	fields := []zap.Field{zap.String("certificate", e.Certificate), zap.String("event", string(e.Kind))}
	for _, f := range []struct{ key, value string }{
		{"version", e.Version}, {"target", e.Target}, {"chain_file", e.ChainFile}, {"detail", e.Message}, {"error", e.Error}, {"code", string(e.Code)},
	} {
		if f.value != "" {
			fields = append(fields, zap.String(f.key, f.value))
		}
	}
	if !e.NotAfter.IsZero() {
		fields = append(fields, zap.Time("not_after", e.NotAfter))
	}
	if !e.RetryAt.IsZero() {
		fields = append(fields, zap.Time("retry_at", e.RetryAt))
	}
	if !e.ActiveAt.IsZero() {
		fields = append(fields, zap.Time("active_at", e.ActiveAt))
	}
	if len(e.Clients) > 0 {
		fields = append(fields, zap.Strings("clients", e.Clients))
	}
	if e.Kind.Bad() {
		l.Logger.Error("certificate needs attention", fields...)
	} else {
		l.Logger.Info("certificate updated", fields...)
	}
	return nil
}
