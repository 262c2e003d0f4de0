package endpoint

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/trust"
)

// Version is the version of the JSON form of a [Report]. Fields are added within a version, never changed.
const Version = 1

// Report is what an endpoint showed.
type Report struct {
	Version   int       `json:"version"`
	Endpoint  string    `json:"endpoint"`
	At        time.Time `json:"at"` // for which the verdicts are
	Protocols []string  `json:"protocols"`
	Chain     []Link    `json:"chain"` // as presented
	Names     []string  `json:"names"`
	NotAfter  time.Time `json:"not_after"` // of the leaf
	DaysLeft  int       `json:"days_left"` // whole days, negative after the end
	Clients   []Verdict `json:"clients"`
	Problems  []string  `json:"problems,omitempty"` // what somebody should mend
	Notes     []string  `json:"notes,omitempty"`    // what is merely untidy
}

// Link is one presented certificate.
type Link struct {
	Subject     string        `json:"subject"`
	Issuer      string        `json:"issuer"`
	NotBefore   time.Time     `json:"not_before"`
	NotAfter    time.Time     `json:"not_after"`
	KeyType     certs.KeyType `json:"key_type,omitempty"`
	Serial      string        `json:"serial"`
	Fingerprint string        `json:"fingerprint"` // SHA-256, in hexadecimal
}

// Verdict says what one client makes of the endpoint.
type Verdict struct {
	Client  string    `json:"client"`
	Trusted bool      `json:"trusted"`
	Until   time.Time `json:"until,omitzero"` // when that expires
	Reason  string    `json:"reason,omitempty"`
}

// ReportOptions says what matters.
type ReportOptions struct {
	Stores []*trust.Store // the clients to ask
	Must   []string       // those of them that must accept; without any, one of all is enough
	At     time.Time      // the time for which the verdicts are
	Days   int            // fewer days left than this are a problem
}

// Examine connects to the endpoint and reports. The error is that of the handshake.
func Examine(ctx context.Context, e Endpoint, o ReportOptions) (*Report, error) {
	chain, err := Handshake(ctx, e)
	if err != nil {
		return nil, err
	}
	if len(chain) == 0 {
		return nil, fmt.Errorf("%s presents no certificate", e)
	}
	r := Judge(chain, hostOf(e), o)
	r.Endpoint = e.String()
	for _, v := range Protocols(ctx, e) {
		r.Protocols = append(r.Protocols, tls.VersionName(v))
		if v < tls.VersionTLS12 {
			r.Notes = append(r.Notes, tls.VersionName(v)+" is offered, which RFC 8996 forbids")
		}
	}
	return r, nil
}

// hostOf is what clients ask the endpoint for.
func hostOf(e Endpoint) string {
	if e.ServerName != "" {
		return e.ServerName
	}
	host, _, err := net.SplitHostPort(e.Addr)
	if err != nil {
		return e.Addr
	}
	return host
}

// Judge reports on a chain that was presented for a host.
func Judge(chain []*x509.Certificate, host string, o ReportOptions) *Report {
	leaf := chain[0]
	r := &Report{
		Version: Version, At: o.At, NotAfter: leaf.NotAfter, DaysLeft: days(leaf.NotAfter.Sub(o.At)),
		Chain: []Link{}, Names: []string{}, Protocols: []string{}, Clients: []Verdict{},
	}
	for _, c := range chain {
		r.Chain = append(r.Chain, Link{
			Subject: c.Subject.String(), Issuer: c.Issuer.String(), NotBefore: c.NotBefore, NotAfter: c.NotAfter,
			KeyType: certs.KeyTypeOf(c.PublicKey), Serial: c.SerialNumber.Text(16), Fingerprint: certs.Fingerprint(c),
		})
	}
	for _, id := range trust.Names(leaf) {
		r.Names = append(r.Names, id.Value)
	}
	known := r.ask(chain, host, o)
	r.validity(leaf, host, o)
	r.layout(chain, known, o.At)
	return r
}

// days rounds down, also below zero.
func days(d time.Duration) int {
	n := int(d / (24 * time.Hour))
	if d < 0 && d%(24*time.Hour) != 0 {
		n--
	}
	return n
}

// ask collects the verdicts, and reports whether the chain leads to something that any client knows, good or not.
func (r *Report) ask(chain []*x509.Certificate, host string, o ReportOptions) (known bool) {
	var names []certs.Identifier
	if id, _, err := certs.ParseIdentifier(host); err == nil {
		names = append(names, id)
	}
	accepted := false
	for _, s := range o.Stores {
		v := Verdict{Client: s.Name()}
		path, err := s.Path(chain, names, o.At)
		if v.Trusted = err == nil; v.Trusted {
			v.Until, accepted = trust.Until(path), true
		} else {
			v.Reason = err.Error()
		}
		known = known || !errors.As(err, new(*trust.UntrustedError))
		r.Clients = append(r.Clients, v)
		if !v.Trusted && slices.Contains(o.Must, s.Name()) {
			r.Problems = append(r.Problems, fmt.Sprintf("%s does not accept it: %s", s.Name(), v.Reason))
		}
	}
	if !accepted && len(o.Must) == 0 {
		r.Problems = append(r.Problems, "no client accepts it")
	}
	return known
}

func (r *Report) validity(leaf *x509.Certificate, host string, o ReportOptions) {
	switch {
	case o.At.Before(leaf.NotBefore):
		r.Problems = append(r.Problems, "the certificate is not valid before "+leaf.NotBefore.UTC().Format(time.RFC3339))
	case !o.At.Before(leaf.NotAfter):
		r.Problems = append(r.Problems, "the certificate ended on "+leaf.NotAfter.UTC().Format(time.RFC3339))
	case r.DaysLeft < o.Days:
		r.Problems = append(r.Problems, "the certificate ends in "+text.Count(r.DaysLeft, "day"))
	}
	if err := leaf.VerifyHostname(host); err != nil {
		r.Problems = append(r.Problems, fmt.Sprintf("the certificate is not for %s", host))
	}
}

// layout finds what is missing, in the wrong place, or too much. An intermediate is missing when the path ends at a
// certificate that no client can go on from.
func (r *Report) layout(chain []*x509.Certificate, known bool, at time.Time) {
	l := trust.Arrange(chain, at)
	last := l.Path[len(l.Path)-1]
	if !known && !trust.SelfSigned(last) {
		r.Problems = append(r.Problems, fmt.Sprintf("the chain ends at %q; its issuer %q is neither presented nor known to a client, perhaps an intermediate is missing",
			trust.Title(last), issuerTitle(last)))
	}
	if l.Misordered {
		r.Problems = append(r.Problems, "the certificates are not in the order leaf, issuer, issuer of the issuer; some clients refuse that")
	}
	if len(l.Path) > 1 && trust.SelfSigned(last) {
		r.Notes = append(r.Notes, fmt.Sprintf("the root %q is presented as well, which no client needs", trust.Title(last)))
	}
	if len(l.Extra) > 0 {
		titles := make([]string, len(l.Extra))
		for i, c := range l.Extra {
			titles[i] = fmt.Sprintf("%q", trust.Title(c))
		}
		r.Notes = append(r.Notes, "presented and of no use: "+strings.Join(titles, ", "))
	}
}

func issuerTitle(c *x509.Certificate) string {
	if c.Issuer.CommonName != "" {
		return c.Issuer.CommonName
	}
	return c.Issuer.String()
}
