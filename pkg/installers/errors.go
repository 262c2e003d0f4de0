package installers

import (
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
)

// ConflictError says that a file is not what the plan was made from, or not what acmed last wrote: somebody else edited
// it. Nothing was written. The caller plans again from the present content, or leaves the file to the operator.
type ConflictError struct {
	Path   string
	Reason string
}

// Error names the file.
func (e *ConflictError) Error() string { return e.Path + ": " + e.Reason }

// Advice is the code of the failure.
func (e *ConflictError) Advice() advice.Code { return advice.FileEdited }

// BrokenServerError says that the server's own test failed before anything was touched. There was no edit and no
// reload; Install works again when the operator has repaired the configuration.
type BrokenServerError struct{ Err error }

// Error carries the words of the test.
func (e *BrokenServerError) Error() string {
	return "the server's own configuration test already fails, so nothing was changed: " + e.Err.Error()
}

// Unwrap returns the failure of the test.
func (e *BrokenServerError) Unwrap() error { return e.Err }

// Advice is the code of the failure.
func (e *BrokenServerError) Advice() advice.Code { return advice.ServerTestFailed }

// RefusedEditError says that the server took the edit and refused it: its own test failed with it, or clients that could
// connect before could not any more. Everything is as it was before. The same edit of the same configuration would fail
// again, so it is tried again when the configuration or what is asked for has changed, or when a person asks for it.
type RefusedEditError struct{ Err error }

// Error says why.
func (e *RefusedEditError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *RefusedEditError) Unwrap() error { return e.Err }

// NotRunningError says that the server is stopped: everything is in place, and it is neither reloaded nor started. The
// state is "pending reload": installed, not verified.
type NotRunningError struct{ Server string }

// Error names the server.
func (e *NotRunningError) Error() string {
	return fmt.Sprintf("%s is not running: the certificate is in place and will be served when it is started", e.Server)
}

// Advice is the code of the failure.
func (e *NotRunningError) Advice() advice.Code { return advice.ServerNotRunning }

// LaterError says that a target neither took the certificate nor refused it: it wants to be asked again. The target
// serves what it served before, or is on its way to the new certificate.
type LaterError struct {
	After time.Duration // ask again then; 0 leaves it to the caller's own schedule
	Err   error
}

// Error carries the words of the target.
func (e *LaterError) Error() string { return "asked to be called later: " + e.Err.Error() }

// Unwrap returns the cause.
func (e *LaterError) Unwrap() error { return e.Err }

// CommandError says that a program failed or did not end in time.
type CommandError struct {
	Argv0    string
	ExitCode int    // -1 when it did not exit by itself
	Output   string // what it wrote, capped; Error escapes it
	TimedOut bool
	Err      error
}

// Error names the program and shows the end of its output, control characters escaped.
func (e *CommandError) Error() string {
	what := fmt.Sprintf("%s: %v", e.Argv0, e.Err)
	if e.TimedOut {
		what = e.Argv0 + ": it did not end in time and was killed"
	}
	if said := text.Tail(e.Output, text.Most); said != "" {
		what += ": " + said
	}
	return what
}

// Unwrap returns the cause.
func (e *CommandError) Unwrap() error { return e.Err }

// DamagedJournalError says that an undo record on disk cannot be trusted: its checksum is wrong or a backup is missing.
// Nothing was changed on its account.
type DamagedJournalError struct {
	Path string
	Err  error
}

// Error names the file and says what to do.
func (e *DamagedJournalError) Error() string {
	return fmt.Sprintf("the undo record %s is damaged (%v): check the server's configuration by hand, then move the record away", e.Path, e.Err)
}

// Unwrap returns what was wrong.
func (e *DamagedJournalError) Unwrap() error { return e.Err }

// NewerError says that a target has a certificate for the same names that was issued after the wanted one: acmed's state
// is older than what it once installed, because a backup was restored, or another ACME client renews there.
type NewerError struct {
	Fingerprint string // of what is there, as of [certs.Fingerprint]
	Err         error
}

// Error says what is there.
func (e *NewerError) Error() string { return e.Err.Error() }

// Unwrap returns the same without the meaning.
func (e *NewerError) Unwrap() error { return e.Err }
