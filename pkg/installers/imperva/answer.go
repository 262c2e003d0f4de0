package imperva

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// answer is what the API says to every request.
type answer struct {
	Res     code            `json:"res"`
	Message string          `json:"res_message"`
	Debug   json.RawMessage `json:"debug_info"`
}

// details is what the API thinks of an uploaded certificate.
type details struct {
	Expires    int64 `json:"expirationDate"` // milliseconds since 1970; 0 when the API does not say
	Validity   bool  `json:"validityError"`
	Chain      bool  `json:"chainError"`
	Revocation bool  `json:"revocationError"`
	Coverage   bool  `json:"coverageError"`
}

// code is a result code, which the API writes as a number or as text.
type code int

// missing is the code of an answer that has none.
const missing code = -1

// UnmarshalJSON reads both forms.
func (c *code) UnmarshalJSON(text []byte) error {
	n, err := strconv.Atoi(strings.Trim(string(text), `"`))
	if err != nil {
		return errors.New("res is not a number")
	}
	*c = code(n)
	return nil
}

func parseAnswer(body []byte) (*answer, error) {
	a := &answer{Res: missing}
	if err := json.Unmarshal(body, a); err != nil {
		return nil, fmt.Errorf("it is not the JSON that the API documents: %w", err)
	}
	if a.Res == missing {
		return nil, errors.New("it has no result code")
	}
	return a, nil
}

// details is nil when the API gives none.
func (a *answer) details() (*details, error) {
	var debug struct {
		Details json.RawMessage `json:"details"`
	}
	if json.Unmarshal(a.Debug, &debug) != nil || len(debug.Details) == 0 {
		return nil, nil
	}
	var d *details
	if err := json.Unmarshal(debug.Details, &d); err != nil {
		return nil, fmt.Errorf("its details are not what the API documents: %w", err)
	}
	return d, nil
}

// debug is debug_info on one line, with no character escaped that need not be: what is hidden must be recognised.
func (a *answer) debug() string {
	var value any
	if json.Unmarshal(a.Debug, &value) != nil || value == nil {
		return ""
	}
	var text strings.Builder
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	if encoder.Encode(value) != nil {
		return ""
	}
	return strings.TrimSpace(text.String())
}

// The result codes of the API that one can meet here.
const (
	resOK             code = 0
	resUnexpected     code = 1
	resInvalidInput   code = 2
	resTimedOut       code = 4
	resInternal       code = 3015
	resAccount        code = 9403
	resAuthentication code = 9411
	resSite           code = 9413
	resFeature        code = 9414
	resOperation      code = 9415
)

// advice says what a result code means for the operator; "" for a code that is not known.
func (c code) advice() string {
	switch c {
	case resUnexpected, resInternal:
		return "an error on Imperva's side"
	case resTimedOut:
		return "Imperva's servers were not available"
	case resInvalidInput:
		return "Imperva cannot use the certificate or the key; it takes no RSA keys of 4096 bits"
	case resAccount:
		return "the API key has no access to the site's account"
	case resAuthentication:
		return "check api_id and the key in api_key_file"
	case resSite:
		return "check site_id, and that the API key belongs to the account of the site"
	case resFeature:
		return "the account's plan has no custom certificates"
	case resOperation:
		return "the API key lacks the permission to manage SSL certificates, or the account's plan does not allow it"
	}
	return ""
}

// passing reports whether the same request may succeed later.
func (c code) passing() bool { return c == resUnexpected || c == resTimedOut || c == resInternal }

// err is nil for a success. A passing error is a [*installers.LaterError].
func (a *answer) err(hide func(string) string) error {
	if a.Res == resOK {
		return nil
	}
	said := fmt.Sprintf("result %d %q", a.Res, text.Tail(hide(a.Message), text.Most))
	if advice := a.Res.advice(); advice != "" {
		said += ": " + advice
	}
	if debug := a.debug(); debug != "" {
		said += "; Imperva adds " + text.Tail(hide(debug), text.Most)
	}
	if a.Res.passing() {
		return &installers.LaterError{Err: errors.New(said)}
	}
	return errors.New(said)
}

// expirySlack allows for an end that the API rounds to a day.
const expirySlack = 24 * time.Hour

// opinion is what the API thinks of a certificate that it accepted.
type opinion struct {
	complaint string // wrong with it
	warning   string // to be known; what is served decides
}

// add joins the opinions of the two halves of a dual unit.
func (o *opinion) add(other opinion) {
	o.complaint = joined(o.complaint, other.complaint)
	o.warning = joined(o.warning, other.warning)
}

func joined(a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + "; " + b
}

func (a *answer) opinion(unit *certs.Bundle, allowUncovered bool) opinion {
	d, err := a.details()
	if err != nil {
		return opinion{complaint: err.Error()}
	}
	if d == nil {
		return opinion{}
	}
	var wrong []string
	for _, w := range []struct {
		is   bool
		text string
	}{
		{d.Validity, "it is not valid now (validityError)"},
		{d.Chain, "its chain is not complete (chainError)"},
		{d.Revocation, "it is revoked, or its revocation cannot be checked (revocationError)"},
	} {
		if w.is {
			wrong = append(wrong, w.text)
		}
	}
	if ends := time.UnixMilli(d.Expires).UTC(); d.Expires != 0 && ends.Sub(unit.Leaf.NotAfter).Abs() > expirySlack {
		wrong = append(wrong, fmt.Sprintf("it ends on %s instead of %s, so the site keeps another one",
			ends.Format(time.DateOnly), unit.Leaf.NotAfter.UTC().Format(time.DateOnly)))
	}
	o := opinion{complaint: strings.Join(wrong, "; ")}
	if d.Coverage && !allowUncovered {
		o.warning = "it does not cover all domains of the site (coverageError; allow_uncovered silences this)"
	}
	return o
}
