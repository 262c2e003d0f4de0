package certs

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"time"
)

// KeyType names the kind of private key of a certificate.
type KeyType string

// The key types that acmed offers. EC256 is the default.
const (
	EC256   KeyType = "ec256"
	EC384   KeyType = "ec384"
	RSA2048 KeyType = "rsa2048"
	RSA3072 KeyType = "rsa3072"
	RSA4096 KeyType = "rsa4096"
)

// KeyTypes lists every key type, the default first.
func KeyTypes() []KeyType { return []KeyType{EC256, EC384, RSA2048, RSA3072, RSA4096} }

// IsRSA reports whether k is one of the RSA types.
func (k KeyType) IsRSA() bool { return k == RSA2048 || k == RSA3072 || k == RSA4096 }

// Spec is one certificate as the operator wants it. It is built from the configuration and never changed afterwards.
type Spec struct {
	Name           string        // the lineage; see CheckName
	Identifiers    []Identifier  // at least one, no duplicates, in the operator's order
	KeyTypes       []KeyType     // one, or an EC type and an RSA type for a dual unit
	ReuseKey       bool          // keep the private key on renewal, except after a key compromise
	NextKey        bool          // make the key ahead that comes after the active one
	Profile        string        // ACME profile; "" asks for none
	PreferredChain string        // common name of a root or intermediate; "" takes the CA's default chain
	MustStaple     bool          // ask for the OCSP must-staple extension (RFC 7633)
	CSR            []byte        // DER of an operator's own CSR; nil: acmed makes key and CSR
	Lifetime       time.Duration // ask for notBefore = now and notAfter = now + Lifetime where the CA offers it; 0: neither
	Issuers        []string      // configured issuers, in order of preference
	Solvers        []string      // configured solvers, in order of preference: the ladder
	Trust          []string      // client trust stores that must verify the chain
	Targets        []string      // IDs of the install targets, in order
	RenewBefore    time.Duration // renew when this much or less remains; 0 follows the default rule
	Window         *Maintenance  // when an ordinary renewal may happen; nil: at any time
	Notice         time.Duration // wait this long before activating a chain whose issuer changed; 0: at once
}

// Maintenance is a recurring span of time: it opens by a cron expression and stays open for Length.
type Maintenance struct {
	Schedule string
	Length   time.Duration
}

// Names returns the identifiers as text, in order.
func (s *Spec) Names() []string { return values(s.Identifiers) }

// Hash identifies what is ordered: names, keys, profile, lifetime and issuers; for an operator's own CSR its public key
// instead of the key types. The order of the names does not count. Every release computes the same hash; the format
// version that it begins with changes if that ever has to end.
func (s *Spec) Hash() string {
	names := s.Names()
	slices.Sort(names)
	ordered := struct {
		Names      []string
		Keys       []KeyType
		Profile    string
		MustStaple bool
		Lifetime   time.Duration
		Issuers    []string
		PublicKey  []byte
	}{names, append([]KeyType{}, s.KeyTypes...), s.Profile, s.MustStaple, s.Lifetime, append([]string{}, s.Issuers...), []byte{}}
	if s.CSR != nil {
		ordered.Keys, ordered.PublicKey = []KeyType{}, s.CSR
		if csr, err := ParseRequest(s.CSR); err == nil {
			ordered.PublicKey = csr.RawSubjectPublicKeyInfo
		}
	}
	text, _ := json.Marshal(ordered) // strings, numbers and bytes: it cannot fail
	sum := sha256.Sum256(text)
	return "1-" + hex.EncodeToString(sum[:8])
}

// Window is the time in which a CA would like a certificate replaced (ARI, RFC 9773). The zero Window means that the CA
// gave none.
type Window struct {
	Start, End     time.Time
	ExplanationURL string
	RetryAfter     time.Duration // when to ask again; clamped by the issuer to 1 minute … 1 day
}

// IsZero reports whether the CA gave no window.
func (w Window) IsZero() bool { return w.Start.IsZero() && w.End.IsZero() }

// Request is one order as the engine asks an issuer for it.
type Request struct {
	Spec     Spec
	Replaces *Bundle                // the active bundle, nil for the first one; sent as ARI replaces, its key reused if asked for
	NewKey   bool                   // a fresh key even if Spec.ReuseKey is set (after a key compromise)
	Asked    bool                   // a person wants it now: a CA that failed is asked once more; a pause that the CA asked for stays
	Next     []NextKey              // keys that were made ahead; used unless the one of Replaces is
	Solved   map[string]string      // identifier → solver that worked last time; a hint, tried first
	Invalid  map[string][]time.Time // identifier → validations that failed within the last hour
	Failed   func(*ValidationError) // told about each validation that failed at the CA, before the next order; may be nil
	Progress func(Step)             // told about each step; may be nil; must not block
}

// Tell calls Progress if there is one.
func (r *Request) Tell(s Step) {
	if r.Progress != nil {
		r.Progress(s)
	}
}

// Step is one line of progress of a job, made for people and for the control socket.
type Step struct {
	Phase  Phase  `json:"phase"`
	Detail string `json:"detail,omitempty"` // a few words: an identifier, an issuer, a target
}

// Phase names a part of the life of one certificate.
type Phase string

// The phases, in the order in which they normally come.
const (
	PhasePreflight Phase = "preflight"
	PhaseOrder     Phase = "order"
	PhaseValidate  Phase = "validate"
	PhaseFinalize  Phase = "finalize"
	PhaseStore     Phase = "store"
	PhaseActivate  Phase = "activate"
	PhaseInstall   Phase = "install"
	PhaseUninstall Phase = "uninstall"
	PhaseVerify    Phase = "verify"
	PhaseHook      Phase = "hook" // before an order, and after everything else
)

// Validation records how one identifier was validated.
type Validation struct {
	Identifier string `json:"identifier"`
	Solver     string `json:"solver"`           // configured name
	Type       string `json:"type"`             // http-01, dns-01, tls-alpn-01; "" when the CA reused an earlier authorization
	Reason     string `json:"reason,omitempty"` // why this solver, in a few words
}
