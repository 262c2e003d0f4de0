package installers

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

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
	if said := printable(e.Output, maxShown); said != "" {
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

// maxShown is how much foreign text an error shows. What a server says last is what it failed on.
const maxShown = 2000

// Printable is the end of a foreign text on one line, fit for an error: at most 2000 bytes, with everything escaped that
// a terminal or a log could take for more than text.
func Printable(text string) string { return printable(text, maxShown) }

// printable is the end of a foreign text on one line, with everything escaped that a terminal or a log could take for
// more than text.
func printable(text string, most int) string {
	text = strings.TrimSpace(text)
	if len(text) > most {
		text = "…" + text[len(text)-most:]
	}
	var b strings.Builder
	for _, r := range text {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar {
			b.WriteRune(r)
			continue
		}
		quoted := strconv.QuoteRuneToASCII(r)
		b.WriteString(quoted[1 : len(quoted)-1])
	}
	return b.String()
}
