package certs

import (
	"fmt"
	"time"

	"github.com/acmed/acmed/pkg/advice"
)

// ElsewhereError says that another node of the fleet is working on the certificate.
type ElsewhereError struct {
	Node  string // that holds the claim
	Since time.Time
	Why   string // in a few words
}

// Error names the node.
func (e *ElsewhereError) Error() string {
	return fmt.Sprintf("node %s has been working on it since %s (%s)", e.Node, e.Since.UTC().Format(time.RFC3339), e.Why)
}

// ChangedError says that another node changed the head since it was read. The caller reads it and decides again.
type ChangedError struct{ Name string }

// Error names the certificate.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("another node changed the shared state of %s", e.Name)
}

// OvertakenError says that the claim ended before the commit, because this node was paused or cut off, and another one may
// have gone on. What was obtained is kept locally and not shared.
type OvertakenError struct {
	N int64 // of the head now
}

// Error says what is kept.
func (e *OvertakenError) Error() string {
	return fmt.Sprintf("this node's claim ended before the commit; the fleet has version %d", e.N)
}

// LedgerError says that the fleet's store could not be used. Whether a change took effect is unknown if Unknown is set.
type LedgerError struct {
	Code    advice.Code
	Unknown bool
	Err     error
}

// Error is the text of the cause.
func (e *LedgerError) Error() string { return "the fleet's store: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *LedgerError) Unwrap() error { return e.Err }

// Advice is the code of the failure.
func (e *LedgerError) Advice() advice.Code { return e.Code }
