// Package challenges is the contract between an order and the ways to prove control of a name: a [Challenge] is what
// the CA asked for, a [Solver] answers one type of challenge in one way, and a [Ladder] is an operator's list of
// solvers in order of preference.
//
// It promises that only challenges of a sound form reach a solver ([CheckToken]), and that the choice of a solver is
// a pure function of what is known about the name ([Ladder.Pick]). It does not talk to a CA, keeps no state and counts
// no failures; the solvers live in the subpackages.
package challenges

import (
	"context"
	"errors"
	"fmt"

	"github.com/acmed/acmed/pkg/certs"
)

// Type is the type of a challenge as RFC 8555 writes it.
type Type string

// The types that acmed answers. A CA may offer others; they are ignored.
const (
	HTTP01    Type = "http-01"     // RFC 8555 section 8.3
	DNS01     Type = "dns-01"      // RFC 8555 section 8.4
	TLSALPN01 Type = "tls-alpn-01" // RFC 8737

	DNSAccount01 Type = "dns-account-01" // draft-ietf-acme-dns-account-label: dns-01 at a name of the account's own
	DNSPersist01 Type = "dns-persist-01" // draft-ietf-acme-dns-persist: a TXT record that stays
)

// DNS reports whether a challenge of the type is answered in the DNS.
func (t Type) DNS() bool { return t == DNS01 || t == DNSAccount01 || t == DNSPersist01 }

// Challenge is one challenge of one authorization, with everything a solver needs to answer it.
type Challenge struct {
	Identifier certs.Identifier
	Type       Type
	Token      string   // as the CA sent it; see CheckToken. dns-persist-01 has none
	KeyAuth    string   // token.thumbprint (RFC 8555 section 8.1)
	Thumbprint string   // of the account key, base64url (RFC 7638)
	AccountURI string   // RFC 8555 section 7.3
	Issuers    []string // dns-persist-01: the names by which the CA calls itself in the record
}

// KeyAuthorization joins a token and the account key's thumbprint (RFC 8555 section 8.1).
func KeyAuthorization(token, thumbprint string) string { return token + "." + thumbprint }

// Solver makes the answers to challenges of one type visible, and takes them away again. It serves many orders at once.
type Solver interface {
	// Type is the only challenge type that the solver may be given.
	Type() Type
	// Present returns when the CA may validate. After an error nothing of the answer is left behind.
	Present(ctx context.Context, c Challenge) error
	// CleanUp undoes Present. It is always called once Present was, also when Present failed, and is idempotent: what
	// is not there any more is no error.
	CleanUp(ctx context.Context, c Challenge) error
}

// The bounds on a token. RFC 8555 section 8.3 asks for 128 bits of entropy, which is 22 characters of base64url; CAs
// send 32 to 43. The upper bound keeps a hostile CA from filling memory or file names.
const (
	minToken = 22
	maxToken = 128
)

// CheckToken reports why a token is refused: it must be 22 to 128 characters of the base64url alphabet without padding.
// Such a token is safe as a file name and as a path segment. A CA that sends another one is broken or hostile, so the
// order should be given up.
func CheckToken(token string) error {
	if len(token) < minToken || len(token) > maxToken {
		return fmt.Errorf("the CA sent a challenge token of %d characters, allowed are %d to %d", len(token), minToken, maxToken)
	}
	for i := range len(token) {
		if !tokenByte(token[i]) {
			return errors.New("the CA sent a challenge token with characters outside of base64url")
		}
	}
	return nil
}

func tokenByte(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_'
}
