package client

import (
	"context"

	"github.com/acmed/acmed/pkg/challenges/preflight"
)

// Doctor finds out what stands in the way of certificates.
type Doctor interface {
	// Doctor looks at names as a CA would, and at the CAs. It changes nothing and orders nothing.
	Doctor(ctx context.Context, r DoctorRequest) (Diagnosis, error)
}

// DoctorRequest asks for certificates, or for single names of configured certificates; without any, for all.
type DoctorRequest struct {
	Names []string `json:"names,omitempty"`
}

// Diagnosis is what was found.
type Diagnosis struct {
	Version  int               `json:"version"`
	Issuers  []IssuerDiagnosis `json:"issuers"`
	Names    []NameDiagnosis   `json:"names"`
	Findings []Finding         `json:"findings"` // those that need attention first
}

// IssuerDiagnosis is what was found about a CA.
type IssuerDiagnosis struct {
	Name          string   `json:"name"`
	Directory     string   `json:"directory"`
	Account       string   `json:"account,omitempty"` // its URI; empty while none is registered
	CAAIdentities []string `json:"caa_identities,omitempty"`
	ClockOffset   int      `json:"clock_offset_seconds"` // how far this machine's clock is ahead of the CA's
	Error         string   `json:"error,omitempty"`
}

// NameDiagnosis is what was found about one name of one certificate.
type NameDiagnosis struct {
	Certificate string            `json:"certificate"`
	Identifier  string            `json:"identifier"`
	Server      string            `json:"server,omitempty"` // into which the certificate is installed: nginx, apache or haproxy
	Solver      string            `json:"solver,omitempty"` // the first one that should work; "" when none should
	Works       []string          `json:"works,omitempty"`  // solvers, in order
	Fails       []string          `json:"fails,omitempty"`
	Summary     string            `json:"summary,omitempty"` // why not every solver works, in a few words
	Report      *preflight.Report `json:"report"`
}

// Finding is one thing worth telling, for people.
type Finding struct {
	Attention bool   `json:"attention"` // the operator must act; otherwise it is a note
	What      string `json:"what"`
	Why       string `json:"why"`
	Do        string `json:"do"`
}
