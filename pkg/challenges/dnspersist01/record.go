// Package dnspersist01 answers dns-persist-01 challenges (draft-ietf-acme-dns-persist): a TXT record that the operator
// publishes once says that one account at one CA may have certificates for a name. The solver has no credentials and writes
// nothing; it reads the record before the CA does, and says what is wrong with it.
package dnspersist01

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/pkg/certs"
)

// Record is the content of a TXT record: an issue-value of RFC 8659 section 4.2 with parameters.
type Record struct {
	Issuer     string    // the CA's name in CAA records
	AccountURI string    // RFC 8657
	Wildcard   bool      // policy=wildcard: also for wildcards and names below
	Until      time.Time // persistUntil; zero: for ever
}

// Name is where the record of an identifier is, with the final dot.
func Name(id certs.Identifier) string { return "_validation-persist." + id.Base() + "." }

// String is the value of the TXT record.
func (r Record) String() string {
	text := r.Issuer + "; accounturi=" + r.AccountURI
	if r.Wildcard {
		text += "; policy=wildcard"
	}
	if !r.Until.IsZero() {
		text += "; persistUntil=" + strconv.FormatInt(r.Until.Unix(), 10)
	}
	return text
}

// Line is the record of an identifier as a line of a zone file, in pieces of at most 255 bytes (RFC 1035 section 3.3).
func (r Record) Line(id certs.Identifier) string {
	var pieces []string
	for piece := range slices.Chunk([]byte(r.String()), 255) {
		pieces = append(pieces, strconv.Quote(string(piece)))
	}
	return Name(id) + " IN TXT " + strings.Join(pieces, " ")
}

// Parse reads a value as strictly as CAs do: parameters are unique, and a final semicolon is an error. Unknown parameters
// are ignored, a policy other than wildcard is none.
func Parse(text string) (Record, error) {
	parts := strings.Split(text, ";")
	r := Record{Issuer: strings.Trim(parts[0], " \t")}
	seen := map[string]bool{}
	for _, part := range parts[1:] {
		part = strings.Trim(part, " \t")
		tag, value, found := strings.Cut(part, "=")
		tag, value = strings.ToLower(strings.Trim(tag, " \t")), strings.Trim(value, " \t")
		switch {
		case part == "":
			return r, errors.New("it has an empty parameter or ends in a semicolon")
		case !found || tag == "":
			return r, fmt.Errorf("the parameter %q is not of the form name=value", printable(part))
		case seen[tag]:
			return r, fmt.Errorf("it has %s twice", printable(tag))
		case strings.ContainsFunc(value, func(c rune) bool { return c <= ' ' || c > '~' || c == ';' }):
			return r, fmt.Errorf("the value of %s has a character that is not allowed", printable(tag))
		}
		seen[tag] = true
		if err := r.set(tag, value); err != nil {
			return r, err
		}
	}
	if r.AccountURI == "" {
		return r, errors.New("it has no accounturi")
	}
	return r, nil
}

func (r *Record) set(tag, value string) error {
	switch tag {
	case "accounturi":
		r.AccountURI = value
	case "policy":
		r.Wildcard = strings.EqualFold(value, "wildcard")
	case "persistuntil":
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return fmt.Errorf("persistUntil is %q and must be seconds since 1970", printable(value))
		}
		r.Until = time.Unix(seconds, 0).UTC()
	}
	return nil
}

// Want is what a record must say.
type Want struct {
	Identifier certs.Identifier
	Issuers    []string // the CA's names; any of them will do
	AccountURI string
}

// Record is the one to publish.
func (w *Want) Record() Record {
	r := Record{AccountURI: w.AccountURI, Wildcard: w.Identifier.IsWildcard()}
	if len(w.Issuers) > 0 {
		r.Issuer = w.Issuers[0]
	}
	return r
}

// judge looks for a record that lets the CA validate, and returns until when it does (zero: for ever), or what is wrong.
func (w *Want) judge(values []string, now time.Time) (until time.Time, problem string) {
	problem = "there is no record"
	for _, value := range values {
		r, err := Parse(value)
		switch {
		case !slices.Contains(w.Issuers, r.Issuer):
			if problem == "there is no record" {
				problem = fmt.Sprintf("there are only records for other CAs (%s)", printable(r.Issuer))
			}
		case err != nil:
			problem = "the record cannot be read: " + err.Error()
		case r.AccountURI != w.AccountURI:
			problem = fmt.Sprintf("the record is for another account (%s); this one is %s", printable(r.AccountURI), w.AccountURI)
		case w.Identifier.IsWildcard() && !r.Wildcard:
			problem = "the record lacks policy=wildcard"
		case !r.Until.IsZero() && now.After(r.Until):
			problem = "the record expired, persistUntil was " + r.Until.Format(time.RFC3339)
		default:
			return r.Until, ""
		}
	}
	return time.Time{}, problem
}

// printable shortens a stranger's text and makes it safe to show.
func printable(s string) string {
	s = strings.Map(func(c rune) rune {
		if c < ' ' || c > '~' {
			return '?'
		}
		return c
	}, s)
	return s[:min(len(s), 200)]
}
