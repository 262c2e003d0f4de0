package preflight

import (
	"net/netip"

	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/dnspersist01"
)

// Report is what was found about one identifier and what follows from it. The JSON form is stable.
type Report struct {
	Findings
	Verdict
}

// Findings is what the probes saw.
type Findings struct {
	Identifier string    `json:"identifier"`
	DNS        DNS       `json:"dns"`
	Addresses  []Address `json:"addresses"`       // at most 16
	Local      []Local   `json:"local,omitempty"` // solvers of this machine that could not present the probe

	Webroot string `json:"webroot,omitempty"` // where the http-01 probe was written, if it was
	Served  string `json:"served,omitempty"`  // the directory that the web server serves for the name by its configuration

	Persist *dnspersist01.Finding `json:"dns_persist,omitempty"` // the record of dns-persist-01; nil: not looked for
}

// DNS is what the resolver says about a name. For an IP identifier it is empty.
type DNS struct {
	CNAME []string    `json:"cname,omitempty"` // the aliases on the way to the addresses
	CAA   []CAARecord `json:"caa,omitempty"`   // the records that apply
	Zone  string      `json:"caa_zone,omitempty"`
	Bogus bool        `json:"dnssec_bogus,omitempty"` // answers only come when the resolver does not validate them
	// Silent says that no resolver answered, so that nothing is known about the name.
	Silent bool   `json:"resolver_silent,omitempty"`
	Error  string `json:"error,omitempty"`
}

// CAARecord is one record of RFC 8659.
type CAARecord struct {
	Critical bool   `json:"critical,omitempty"`
	Tag      string `json:"tag"`
	Value    string `json:"value"`
}

// Address is one address of the name and who answers there.
type Address struct {
	Address netip.Addr `json:"address"`
	Own     bool       `json:"own,omitempty"` // of this machine
	HTTP    HTTP       `json:"http"`
	TLS     TLS        `json:"tls"`
}

// OfThisMachine reports whether the address is one of this machine.
func (a *Address) OfThisMachine() bool { return a.Own || a.Address.IsLoopback() }

// Outcome says who answered a probe.
type Outcome string

// The outcomes. Skipped is the zero value.
const (
	Skipped Outcome = ""        // not probed
	Ours    Outcome = "ours"    // our own answer came back
	Other   Outcome = "other"   // somebody else answered
	Closed  Outcome = "closed"  // nobody listens there
	Timeout Outcome = "timeout" // nothing came back
)

func (o Outcome) silent() bool { return o == Closed || o == Timeout }

// HTTP is the answer to a request for a random token.
type HTTP struct {
	Outcome   Outcome  `json:"outcome,omitempty"`
	Status    int      `json:"status,omitempty"`
	Server    string   `json:"server,omitempty"` // the Server header
	Proxy     string   `json:"proxy,omitempty"`  // the proxy or CDN, if its headers give it away
	Redirects []string `json:"redirects,omitempty"`
	Error     string   `json:"error,omitempty"`
}

// TLS is the answer to a handshake that offers acme-tls/1.
type TLS struct {
	Outcome Outcome  `json:"outcome,omitempty"`
	Names   []string `json:"names,omitempty"`  // of the certificate that another process served, at most 5
	Issuer  string   `json:"issuer,omitempty"` // of that certificate
	Error   string   `json:"error,omitempty"`
}

// Local is a solver of this machine that could not present.
type Local struct {
	Type   challenges.Type     `json:"type"`
	Addr   string              `json:"addr,omitempty"`   // where it would listen
	Taken  bool                `json:"taken,omitempty"`  // another process has the port
	Holder *challenges.Process `json:"holder,omitempty"` // which one; nil when it is unknown
	Solver string              `json:"solver,omitempty"` // its configured name, where it was tried automatically
	Path   string              `json:"path,omitempty"`   // the directory or the file with the credential that it is about
	Error  string              `json:"error"`
}

// Verdict is what follows from the findings.
type Verdict struct {
	Class    Class             `json:"class"`
	Proxy    string            `json:"proxy,omitempty"`
	Prefer   []challenges.Type `json:"prefer"`             // types that should work, the least effort first
	Avoid    []challenges.Type `json:"avoid,omitempty"`    // types that should fail; see challenges.Ladder.Demote
	Blocked  bool              `json:"blocked,omitempty"`  // no type can work: CAA or DNS forbid it
	Problems []string          `json:"problems,omitempty"` // for people, the most important first

	Methods []challenges.Type `json:"-"` // the only types that CAA allows; nil: any
}

// Class says how a name reaches us, as the worst of its addresses does.
type Class string

// The classes.
const (
	Direct      Class = "direct"         // nothing stands in front
	HTTPPasses  Class = "http-passes"    // a proxy or another server has TLS, but http-01 comes through
	Terminated  Class = "tls-terminated" // a proxy or another server has TLS, and http-01 does not come through
	Elsewhere   Class = "elsewhere"      // another server answers plain HTTP
	Unreachable Class = "unreachable"    // nobody answers
	Unprobed    Class = "unprobed"       // a wildcard, or no address
)
