package renewal

import (
	"context"
	"crypto/x509"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/trust"
)

// Issuer is one CA under one account.
type Issuer interface {
	// Obtain orders a certificate and returns it vetted, or returns one of the typed errors of package certs.
	Obtain(ctx context.Context, req certs.Request) (*certs.Bundle, error)
	// RenewalInfo asks for the CA's renewal window; the zero Window means that the CA gives none.
	RenewalInfo(ctx context.Context, leaf *x509.Certificate) (certs.Window, error)
}

// Certificate is one wanted certificate with the targets that serve it.
type Certificate struct {
	Spec    certs.Spec
	Targets map[string]installers.Installer // one for each ID in Spec.Targets
	Hooks   Hooks
	Clients Clients
	TLSA    *TLSA // nil: no records are published
	// Asked is a hash of everything that an order depends on besides the CA: names, keys, profile, and the settings of issuers
	// and solvers with the contents of their secret files. When it changes, acmed's own pause after a failed order ends.
	// AskedOf is the same for the settings of each target. "" and nil: nothing is known to have changed.
	Asked   string
	AskedOf map[string]string
}

// Hooks are what the operator wants to happen around a new version; either may be nil.
type Hooks struct {
	// Pre runs before a new version is ordered. Its error is that of the order: the CA is not asked.
	Pre func(ctx context.Context) error
	// Post runs when a new version is live and all targets serve it. Its error is a state of its own and tried again like
	// that of a target; the certificate stays. Obtained is false for a version that another node of the fleet ordered.
	Post func(ctx context.Context, b *certs.Bundle, obtained bool) error
}

// Clients are those whose trust a certificate must not lose.
type Clients struct {
	Stores func() []*trust.Store // what they trust now, which operators change at any time; nil: there are none
	// ActivateBefore is how long before the active version ends one goes live that a client refuses; 0 waits until the end.
	ActivateBefore time.Duration
}

// Set is everything that a configuration says. The engine swaps it as a whole; a running job keeps the one it began with.
type Set struct {
	Certificates map[string]Certificate
	Issuers      map[string]Issuer
	Notifier     notify.Notifier
	// Revoke asks the CA to revoke a bundle, for a reason as RFC 5280 spells it. One that is revoked already is no error.
	Revoke func(ctx context.Context, b *certs.Bundle, reason string) error
	// Chains asks the CA again for the chains of one unit of a bundle, which is at that address, and says which are still
	// missing; nil: nobody asks.
	Chains func(ctx context.Context, unit *certs.Bundle, name, address string) (chains [][]byte, missing *certs.Missing, err error)
	// Forewarn looks for what will stand in the way of the next renewal, such as CAA records; nil: nothing does. It is
	// asked whenever a renewal window is, about twice a day.
	Forewarn func(ctx context.Context, want *certs.Spec) []string
	// ClockOffsets asks all CAs how far this machine's clock is ahead of theirs, to settle doubts. Those that do not answer
	// are left out. nil: there is none to ask.
	ClockOffsets func(ctx context.Context) map[string]time.Duration
	Concurrency  int // jobs at a time; at least 1
	Keep         int // versions kept of each certificate besides the active one
}

// Options changes one job.
type Options struct {
	Force  bool // renew although it is not due, and do not wait for our own backoff
	NewKey bool // with Force: take a new private key even if the configuration reuses it (after a key compromise)
	Again  bool // order although the last try failed; ends acmed's own pause, never the CA's
	Retry  bool // install and verify again although the last try failed a moment ago; costs the CA nothing
	Alone  bool // in a fleet: order without its store
	Import bool // in a fleet: the version here becomes the fleet's if it is the later one

	Activate bool   // make the newest version live, and end a pin
	Anyway   bool   // with Activate: although clients would refuse it, or its notice is not over
	Pin      string // make this stored version live and keep it so

	Targets TargetChange // take the certificate's targets away or put them back

	beside bool // the other nodes have a newer version: the job does not wait behind orders
}

// aboutVersions reports whether an operator wants another version to be live.
func (o *Options) aboutVersions() bool { return o.Activate || o.Pin != "" }

// TargetChange is what an operator asks for about the targets of one certificate.
type TargetChange string

// The changes.
const (
	InstallTargets   TargetChange = "install"   // install the active version at every target again
	UninstallTargets TargetChange = "uninstall" // undo every change at the targets, and leave them alone
)

// Result is what one job did.
type Result struct {
	Name     string
	Reason   plan.Reason // of the first thing that was done, or why nothing was
	Message  string
	Obtained bool   // a new version was issued
	Changed  bool   // a version was issued, activated or installed
	Version  string // active version at the end
	NotAfter time.Time
	Next     time.Time // when the scheduler looks again
	Away     bool      // the fleet's store could not be used: it is looked at again when it can
	Follows  bool      // at Next it is this node's turn to install what another one obtained
	Held     string    // why a newer version than the active one waits; "" when none does
	Waiting  error     // what a target asked for: to be called later; nothing has failed
	Refused  bool      // Err is why the operator's request was refused; nothing was done or recorded
	Err      error     // what failed; the certificate may be live nevertheless
}
