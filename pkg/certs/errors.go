package certs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/advice"
)

// RateLimitError says that the CA takes no further request from this account before At. The caller stores At and does
// not ask again sooner, not even with --force (RFC 8555 section 6.6).
type RateLimitError struct {
	At  time.Time // earliest next request; already clamped to something sane by the issuer
	Err error

	// Unavailable says that the CA as a whole fails: it said so (HTTP status 503), or its failures for other certificates
	// are remembered and this one waits for the next probe. It counts towards failover. Otherwise this account asked too
	// often, by the CA's count or by its own budget.
	Unavailable bool
}

// Error names the time in UTC.
func (e *RateLimitError) Error() string {
	if e.Unavailable {
		return fmt.Sprintf("the CA is unavailable, next request at %s: %v", e.At.UTC().Format(time.RFC3339), e.Err)
	}
	return fmt.Sprintf("rate limited until %s: %v", e.At.UTC().Format(time.RFC3339), e.Err)
}

// Unwrap returns the CA's own words.
func (e *RateLimitError) Unwrap() error { return e.Err }

// Advice is the code of the failure.
func (e *RateLimitError) Advice() advice.Code {
	if e.Unavailable {
		return advice.CAUnreachable
	}
	if advice.Of(e.Err) == advice.AccountPaused { // which no wait ends
		return advice.AccountPaused
	}
	return advice.RateLimited
}

// UnavailableError says that the CA could not be asked or gave no usable answer: network, TLS, HTTP 5xx, a deadline.
// It is never the fault of a name, so it counts towards failover and not towards a name's failure budget.
type UnavailableError struct {
	Directory string
	Err       error
}

// Error names the CA's directory.
func (e *UnavailableError) Error() string {
	return fmt.Sprintf("CA %s is unavailable: %v", e.Directory, e.Err)
}

// Unwrap returns the cause.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Advice is the code of the failure.
func (e *UnavailableError) Advice() advice.Code { return advice.CAUnreachable }

// ValidationError says that the CA could not validate one identifier through one solver. Several of them are joined
// with errors.Join; [Validations] takes them apart again.
type ValidationError struct {
	Identifier Identifier
	Solver     string // configured name of the solver, for example "http-01" or "cloudflare"
	Problem    string // the CA's problem type, for example "urn:ietf:params:acme:error:connection"
	Local      bool   // the answer could not be presented, so the CA was not asked to validate
	Err        error
}

// Error names the identifier and the solver.
func (e *ValidationError) Error() string {
	return fmt.Sprintf("%s could not be validated through %s: %v", e.Identifier.Value, e.Solver, e.Err)
}

// Unwrap returns the CA's own words.
func (e *ValidationError) Unwrap() error { return e.Err }

// Advice is the code that the CA's answer stands for; without one it is left to the cause.
func (e *ValidationError) Advice() advice.Code {
	if e.Local || e.Err == nil {
		return ""
	}
	return advice.OfProblem(e.Problem, e.Err.Error())
}

// BudgetError says that a name failed too often within an hour to be ordered again before At. It is acmed's own limit,
// below those of the CAs, and holds for forced orders too.
type BudgetError struct {
	Identifier Identifier
	Failed     int       // validations within the last hour
	At         time.Time // earliest next order
}

// Error names the identifier and the time in UTC.
func (e *BudgetError) Error() string {
	return fmt.Sprintf("%s failed %d validations within an hour, so nothing is ordered for it before %s",
		e.Identifier.Value, e.Failed, e.At.UTC().Format(time.RFC3339))
}

// PreflightError says that no solver is expected to prove a name, so that no order was placed for it.
type PreflightError struct {
	Identifier Identifier
	Problems   []string // for people, the most important first
	Code       advice.Code
}

// Error names the identifier and what was found.
func (e *PreflightError) Error() string {
	return fmt.Sprintf("%s was not ordered because the preflight found: %s", e.Identifier.Value, strings.Join(e.Problems, "; "))
}

// Advice is the code of the failure.
func (e *BudgetError) Advice() advice.Code { return advice.FailedTooOften }

// Advice is what stands in the way of the name.
func (e *PreflightError) Advice() advice.Code { return e.Code }

// PermanentError says that asking again for the same thing gives the same answer until an operator changes something:
// a rejected identifier, an unknown profile, a wrong external account binding.
type PermanentError struct{ Err error }

// Error is the text of the cause.
func (e *PermanentError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *PermanentError) Unwrap() error { return e.Err }

// AccountError says that the CA does not take the account, so that nothing can be ordered until an operator changes
// something, but perhaps at another CA.
type AccountError struct{ Err error }

// Error is the text of the cause.
func (e *AccountError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *AccountError) Unwrap() error { return e.Err }

// VetError says that the CA returned something that must not be installed: another key, other names, an impossible
// validity, a chain that does not build. Nothing of it is stored.
type VetError struct{ Err error }

// Error says what was wrong with the answer.
func (e *VetError) Error() string {
	return "the CA returned a certificate that is refused: " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *VetError) Unwrap() error { return e.Err }

// Advice is the code of the failure.
func (e *VetError) Advice() advice.Code { return advice.CertificateRefused }

// Validations lists every [ValidationError] in err, through wrapping and joining.
func Validations(err error) []*ValidationError {
	var list []*ValidationError
	walk(err, func(e error) bool {
		v, ok := e.(*ValidationError) //nolint:errorlint // walk does the unwrapping, one level at a time
		if ok {
			list = append(list, v)
		}
		return !ok
	})
	return list
}

func walk(err error, visit func(error) bool) {
	if err == nil || !visit(err) {
		return
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, e := range joined.Unwrap() {
			walk(e, visit)
		}
		return
	}
	walk(errors.Unwrap(err), visit)
}
