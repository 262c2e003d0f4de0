package dns01

import (
	"context"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"errors"
	"regexp"
	"strings"

	"github.com/acmed/acmed/pkg/challenges"
)

// Record is the one TXT record that answers one challenge, with all that a provider may need to set and remove it, also
// after a restart. It holds no secret.
type Record struct {
	Domain  string `json:"domain"`   // the name to validate, without "*."
	FQDN    string `json:"fqdn"`     // where the record goes: CNAMEs followed, lower case, with the final dot
	Value   string `json:"value"`    // base64url(sha256(key authorization))
	Token   string `json:"token"`    // of the challenge
	KeyAuth string `json:"key_auth"` // token.thumbprint
}

// Provider changes the records of one DNS account.
type Provider interface {
	// Present adds the record beside others of the same name. It may be called again for the same record.
	Present(ctx context.Context, r Record) error
	// CleanUp removes this record and no other. What is not there any more should be no error.
	CleanUp(ctx context.Context, r Record) error
}

// challengeName is where a CA looks for the answer, before CNAMEs are followed.
func challengeName(domain string) string { return "_acme-challenge." + domain + "." }

// accountChallengeName is where a CA looks for the answer to dns-account-01 (draft-ietf-acme-dns-account-label section 3.2).
func accountChallengeName(uri, domain string) string {
	sum := sha256.Sum256([]byte(uri))
	return "_" + strings.ToLower(base32.StdEncoding.EncodeToString(sum[:10])) + "." + challengeName(domain)
}

func recordOf(c challenges.Challenge) Record {
	sum := sha256.Sum256([]byte(c.KeyAuth))
	domain := c.Identifier.Base()
	fqdn := challengeName(domain)
	if c.Type == challenges.DNSAccount01 {
		fqdn = accountChallengeName(c.AccountURI, domain)
	}
	return Record{
		Domain: domain, FQDN: fqdn, Value: base64.RawURLEncoding.EncodeToString(sum[:]),
		Token: c.Token, KeyAuth: c.KeyAuth,
	}
}

// permanentError marks a provider's error as one that a second attempt does not change.
type permanentError struct {
	error
	unsure bool // the record may have been set nevertheless
}

func (e permanentError) Unwrap() error { return e.error }

// refused marks an error before which nothing was changed.
func refused(err error) error { return permanentError{error: err} }

// final marks an error after which it is not known what was changed.
func final(err error) error { return permanentError{error: err, unsure: true} }

// messengerError marks a failure of the program that speaks to the provider, or of its files: the provider said nothing.
type messengerError struct{ error }

func (e messengerError) Unwrap() error { return e.error }

// messenger marks err as no answer of the provider.
func messenger(err error) error { return messengerError{err} }

// isMessenger reports whether the provider had no say in err.
func isMessenger(err error) bool {
	var m messengerError
	return errors.As(err, &m)
}

// denied reports whether a service rejected the credential, by the words of its answer: nothing was changed then, and a
// second attempt gets the same answer. Some services also answer 403 when they are asked too often.
func denied(text string) bool {
	text = strings.ToLower(text)
	return deniedWords.MatchString(text) && !hurriedWords.MatchString(text)
}

// The codes and phrases with which the services that lego knows reject a credential, and a client in a hurry.
var (
	deniedWords = regexp.MustCompile(`(status|code|http|error)\D{0,12}40[13]\b|\b40[13] (unauthori[sz]ed|forbidden)|unauthori[sz]ed|^forbidden|access ?denied|` +
		`authentication (failed|error|required)|not authori[sz]ed|(token|key|credential)s? (is|are) (invalid|expired)|` +
		`invalid (api |access |request |authentication |authorization |auth )?(token|key|credential|header)`)
	hurriedWords = regexp.MustCompile(`rate.?limit|too many|throttl|quota|slow down`)
)

// explainer is a provider that knows why a record which it set may not be visible.
type explainer interface {
	Explain(ctx context.Context, r Record) error
}

// permanence reports whether err is permanent, and if so whether nothing was changed.
func permanence(err error) (permanent, nothing bool) {
	var p permanentError
	if !errors.As(err, &p) {
		return false, false
	}
	return true, !p.unsure
}
