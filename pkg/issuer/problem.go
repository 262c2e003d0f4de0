package issuer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/go-acme/lego/v4/acme"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/advice"
)

// The problem types of RFC 8555 section 6.7 and RFC 9773 section 7.4 that change what acmed does.
const (
	errorNamespace          = "urn:ietf:params:acme:error:"
	typeAccountDoesNotExist = errorNamespace + "accountDoesNotExist"
	typeAlreadyReplaced     = errorNamespace + "alreadyReplaced"
	typeAlreadyRevoked      = errorNamespace + "alreadyRevoked"
	typeBadRevocationReason = errorNamespace + "badRevocationReason"
	typeBadNonce            = errorNamespace + "badNonce"
	typeCAA                 = errorNamespace + "caa"
	typeMalformed           = errorNamespace + "malformed"
	typeOrderNotReady       = errorNamespace + "orderNotReady"
	typeUnauthorized        = errorNamespace + "unauthorized"
)

// maxText bounds what is kept of the CA's words in one error.
const maxText = 2048

// problem is an error answer of the CA (RFC 7807). Its text was written by the CA, so it is bounded and has no control
// characters.
type problem struct {
	status     int
	kind       string // URI of the problem type; "" when the answer was not a problem document
	detail     string
	retryAfter string // header as sent
	newOrder   bool   // the answer to a new order
}

// Error gives the CA's words, the short name of the problem and the HTTP status.
func (p *problem) Error() string {
	kind := strings.TrimPrefix(p.kind, errorNamespace)
	switch {
	case p.status == 0:
		return fmt.Sprintf("%s (%s)", p.detail, kind)
	case kind == "":
		return fmt.Sprintf("HTTP status %d: %s", p.status, p.detail)
	}
	return fmt.Sprintf("%s (%s, HTTP status %d)", p.detail, kind, p.status)
}

// Advice is the code that the problem stands for. A validation says its own, so here only the account is unauthorized.
func (p *problem) Advice() advice.Code {
	code := advice.OfProblem(p.kind, p.detail)
	if p.kind == typeUnauthorized && code == advice.WrongAnswer {
		return advice.AccountRefused
	}
	return code
}

// permanent reports whether only an operator can solve the problem.
func (p *problem) permanent() bool {
	kind, ok := strings.CutPrefix(p.kind, errorNamespace)
	if !ok {
		return false
	}
	switch kind {
	case "caa", "rejectedIdentifier", "unsupportedIdentifier", "invalidProfile", "externalAccountRequired", "userActionRequired",
		"malformed", "badCSR", "badPublicKey", "badSignatureAlgorithm", "invalidContact", "unsupportedContact", "badRevocationReason":
		return true
	}
	return false
}

// limited reports whether the CA asked for a pause: 429, or 503 with a Retry-After (RFC 8555 section 6.6, RFC 9110
// section 10.2.3).
func (p *problem) limited() bool {
	return p.status == http.StatusTooManyRequests || p.status == http.StatusServiceUnavailable && p.retryAfter != ""
}

// problemOf finds the CA's answer in err, or nil.
func problemOf(err error) *problem {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return nil
}

// isKind reports whether err is the CA's problem of this type.
func isKind(err error, kind string) bool {
	p := problemOf(err)
	return p != nil && p.kind == kind
}

// newProblem reads an error answer. An answer that is no problem document is quoted in part.
func newProblem(status int, header http.Header, body []byte) *problem {
	p := &problem{status: status, retryAfter: header.Get("Retry-After")}
	var details acme.ProblemDetails
	if json.Unmarshal(body, &details) == nil && details.Type+details.Detail != "" {
		p.kind, p.detail = text.Short(details.Type, 200), describe(&details)
		return p
	}
	const quoted = 200 // an HTML page says what it has to say in its title
	p.detail = "no problem document"
	if said := strings.TrimSpace(string(body[:min(len(body), quoted)])); said != "" {
		p.detail += ", but " + strconv.Quote(text.Cut(said, quoted))
	}
	return p
}

// fromDetails is the problem inside an order or a challenge.
func fromDetails(d *acme.ProblemDetails) *problem {
	if d == nil {
		return &problem{detail: "the CA gave no reason", kind: ""}
	}
	return &problem{status: d.HTTPStatus, kind: text.Short(d.Type, 200), detail: describe(d)}
}

func describe(d *acme.ProblemDetails) string {
	const most = 5
	var b strings.Builder
	b.WriteString(text.Short(d.Detail, maxText))
	for n, sub := range d.SubProblems {
		if n == most {
			fmt.Fprintf(&b, "; and %d more", len(d.SubProblems)-most)
			break
		}
		b.WriteString("; ")
		if sub.Identifier.Value != "" {
			b.WriteString(text.Short(sub.Identifier.Value, 253) + ": ")
		}
		b.WriteString(text.Short(sub.Detail, maxText))
	}
	return text.Short(b.String(), maxText)
}

// The bounds on how long a CA can tell us to wait before the next order.
const (
	minPause = time.Minute // without a usable Retry-After; the caller's own schedule is longer
	maxPause = 24 * time.Hour
)

// retryAfter reads a Retry-After header, seconds or a date (RFC 9110 section 10.2.3). Absent, negative and unreadable
// values are not ok. The result may be absurdly long: clamp it.
func retryAfter(value string, now time.Time) (wait time.Duration, ok bool) {
	if value == "" {
		return 0, false
	}
	if seconds, err := strconv.ParseInt(value, 10, 64); err == nil {
		return time.Duration(min(seconds, int64(10*maxPause/time.Second))) * time.Second, seconds >= 0
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0, false
	}
	wait = at.Sub(now)
	return wait, wait >= 0
}

func clamp(d, low, high time.Duration) time.Duration { return max(low, min(d, high)) }
