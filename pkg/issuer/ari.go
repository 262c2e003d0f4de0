package issuer

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/go-acme/lego/v4/acme"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// The bounds on when to ask for renewal information again (RFC 9773 section 4.3.2 advises 6 hours and a minimum of one
// minute; a day keeps a wrong value from hiding a mass revocation).
const (
	defaultARI = 6 * time.Hour
	minARI     = time.Minute
	maxARI     = 24 * time.Hour
)

// maxWindow is the longest window that is believed. CAs suggest days.
const maxWindow = 366 * 24 * time.Hour

// RenewalInfo asks when the CA would like a certificate replaced (RFC 9773). The zero Window means that the CA does not
// say. A window that is inverted, absurdly long or after the certificate's end is an error, as is every answer other than
// HTTP status 200: none of them may be read as "renew now".
func (i *Issuer) RenewalInfo(ctx context.Context, leaf *x509.Certificate) (certs.Window, error) {
	id := ariID(leaf)
	op := &operation{subject: id, expires: leaf.NotAfter}
	for _, b := range []*breaker{i.way().orders, i.way().info} {
		inner, end, err := i.begin(ctx, b, op)
		if err != nil {
			return certs.Window{}, err
		}
		defer end()
		ctx = inner
	}
	c, err := i.newClient(ctx, "", nil)
	if err != nil {
		return certs.Window{}, err
	}
	if c.dir.RenewalInfo == "" || id == "" {
		return certs.Window{}, nil
	}
	var a *answer
	err = c.retry(func() (err error) {
		if err = i.way().info.allow(op); err != nil {
			return err
		}
		a, err = i.transport.get(ctx, http.MethodGet, c.dir.RenewalInfo+"/"+id, 0)
		if ctx.Err() == nil {
			i.way().info.report(op, "ask for renewal information", failureOf(err))
		}
		return err
	})
	if err != nil {
		return certs.Window{}, c.explain(fmt.Errorf("ask for renewal information: %w", err))
	}
	window, err := readWindow(a, leaf, i.now())
	if err != nil {
		return certs.Window{}, i.unavailable(fmt.Errorf("renewal information: %w", err))
	}
	return window, nil
}

func readWindow(a *answer, leaf *x509.Certificate, now time.Time) (certs.Window, error) {
	if a.status != http.StatusOK {
		return certs.Window{}, refuse("HTTP status %d", a.status)
	}
	var info acme.RenewalInfoResponse
	if err := json.Unmarshal(a.body, &info); err != nil {
		return certs.Window{}, &cleaned{fmt.Errorf("not readable: %w", err)}
	}
	start, end := info.SuggestedWindow.Start, info.SuggestedWindow.End
	switch {
	case start.IsZero() || end.IsZero():
		return certs.Window{}, errors.New("no suggested window")
	case !end.After(start):
		return certs.Window{}, fmt.Errorf("the window ends (%s) before it starts (%s)", end.Format(time.RFC3339), start.Format(time.RFC3339))
	case end.Sub(start) > maxWindow:
		return certs.Window{}, fmt.Errorf("the window is %s long", text.Count(end.Sub(start)/(24*time.Hour), "day"))
	case !start.Before(leaf.NotAfter):
		return certs.Window{}, fmt.Errorf("the window starts (%s) after the certificate's end", start.Format(time.RFC3339))
	}
	wait, ok := retryAfter(a.header.Get("Retry-After"), now)
	if !ok {
		wait = defaultARI
	}
	return certs.Window{Start: start, End: end, ExplanationURL: forPeople(info.ExplanationURL), RetryAfter: clamp(wait, minARI, maxARI)}, nil
}

// forPeople keeps a URL for people to follow only if it is a plain https one.
func forPeople(link string) string {
	u, err := url.Parse(link)
	if err != nil || len(link) > maxURL || u.Scheme != "https" || u.Host == "" || u.User != nil || text.Short(link, maxURL) != link {
		return ""
	}
	return u.String()
}

// ariID names a certificate for the CA: base64url of the authority key identifier, a dot, base64url of the serial number
// (RFC 9773 section 4.1). It is empty when the certificate has no authority key identifier.
func ariID(leaf *x509.Certificate) string {
	if len(leaf.AuthorityKeyId) == 0 || leaf.SerialNumber.Sign() <= 0 {
		return ""
	}
	serial := leaf.SerialNumber.Bytes()
	if serial[0]&0x80 != 0 {
		serial = append([]byte{0}, serial...) // the content of a DER INTEGER
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(leaf.AuthorityKeyId) + "." + encode(serial)
}

// replaces is the ARI identifier of the certificate that the order replaces, if it came from this CA and the CA knows
// about renewal information.
func (j *job) replaces() string {
	if j.dir.RenewalInfo == "" || j.prior == nil || j.prior.Directory != j.i.config.Directory {
		return ""
	}
	return ariID(j.prior.Leaf)
}
