package renewal

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/acmed/acmed/internal/clock"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/renewal/plan"
	"github.com/acmed/acmed/pkg/store"
	"github.com/acmed/acmed/pkg/trust"
)

// RenewalStatus says when the active version is to be replaced, and why then.
type RenewalStatus struct {
	At     time.Time   `json:"at"`              // the earlier of Rule and Drawn
	Reason plan.Reason `json:"reason"`          // [plan.ReasonRenewBefore] or [plan.ReasonARI]
	Rule   time.Time   `json:"rule"`            // when so little of the lifetime remains that it is time
	Drawn  time.Time   `json:"drawn,omitzero"`  // the moment drawn in the CA's window; zero without one
	Start  time.Time   `json:"start,omitzero"`  // of the CA's window (RFC 9773)
	End    time.Time   `json:"end,omitzero"`    // of the CA's window
	AskAt  time.Time   `json:"ask_at,omitzero"` // when the CA is asked for its window again
	URL    string      `json:"url,omitempty"`   // the CA's explanation, for people; no program should follow it
}

// LinkStatus is one certificate of a chain.
type LinkStatus struct {
	Subject     string        `json:"subject"`
	Issuer      string        `json:"issuer"`
	KeyType     certs.KeyType `json:"key_type,omitempty"`
	From        time.Time     `json:"not_before"`
	NotAfter    time.Time     `json:"not_after"`
	Fingerprint string        `json:"fingerprint"` // SHA-256, in hexadecimal
}

// TrustStatus is what one client makes of the active version.
type TrustStatus struct {
	Client string    `json:"client"`
	Until  time.Time `json:"until,omitzero"` // when the chain ceases to verify for it
	Error  string    `json:"error,omitempty"`
}

// Detail is the [Status] of one certificate with what would cost too much to find out about all of them: its chain and
// its clients' verdict on it.
func (e *Engine) Detail(name string) (Status, error) {
	s, err := e.Status(name)
	if err != nil || s.Version == "" {
		return s, err
	}
	b, err := e.store.Bundle(name, s.Version)
	if err != nil {
		return s, fmt.Errorf("version %s: %w", s.Version, err)
	}
	for unit := b; unit != nil; unit = unit.RSA {
		chain, err := certs.ParseChain(unit.FullChainPEM())
		if err != nil {
			return s, fmt.Errorf("version %s: %w", s.Version, err)
		}
		for _, c := range chain {
			s.Chain = append(s.Chain, linkOf(c))
		}
	}
	c, _ := e.Certificate(name)
	for _, v := range trust.Judge(b, c.Clients.stores(), e.clock()) {
		t := TrustStatus{Client: v.Client, Until: v.Until}
		if v.Err != nil {
			t.Error = v.Err.Error()
		}
		s.Trust = append(s.Trust, t)
	}
	return s, nil
}

func linkOf(c *x509.Certificate) LinkStatus {
	return LinkStatus{
		Subject: c.Subject.String(), Issuer: c.Issuer.String(), KeyType: certs.KeyTypeOf(c.PublicKey),
		From: c.NotBefore, NotAfter: c.NotAfter, Fingerprint: certs.Fingerprint(c),
	}
}

// renewalOf is nil when there is no usable certificate, whose renewal is due then anyway.
func renewalOf(want *certs.Spec, have *store.Lineage) *RenewalStatus {
	if have.Current == nil {
		return nil
	}
	rule, drawn, ari := plan.RuleTime(want, have), plan.ARITime(have), &have.State.ARI
	r := &RenewalStatus{At: clock.Earlier(rule, drawn), Reason: plan.ReasonRenewBefore, Rule: rule, Drawn: drawn}
	if r.At.Equal(drawn) {
		r.Reason = plan.ReasonARI
	}
	if ari.For == certs.Fingerprint(have.Current.Leaf) {
		r.Start, r.End, r.AskAt, r.URL = ari.Start, ari.End, ari.CheckAt, ari.URL
	}
	return r
}
