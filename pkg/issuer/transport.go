package issuer

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
)

// The bounds on what one answer may cost. They hold memory far below 64 MB with every connection busy.
const (
	maxJSON   = 256 << 10 // the largest honest answers have a few 10 kB; of an error the rest is cut off, not refused
	maxChain  = 1 << 20   // of PEM, which costs no more than its length
	maxHeader = 64 << 10
	maxURL    = 2048
	maxNonce  = 512
	maxNonces = 64 // kept; each saves one request
	maxConns  = 8  // to the CA; further requests queue
	// maxCommas is how many elements an answer may have, or a JSON array of a million nulls would become a million structs.
	// 100 names need less than 1,000.
	maxCommas = 10_000
)

// nonceLife is how long a nonce is kept. CAs forget them, Let's Encrypt after some minutes on a busy day, and a stale one
// costs as much as a fresh one.
const nonceLife = 3 * time.Minute

// refusal is an answer that an honest CA does not give. It is not asked again.
type refusal struct{ text string }

// Error says what was refused.
func (e *refusal) Error() string { return e.text }

func refuse(format string, args ...any) error { return &refusal{text: fmt.Sprintf(format, args...)} }

// transport is what all operations of one issuer share: the connections, the directory and the nonces. It speaks to the
// CA's host only, over https only, follows no redirect, and hands out whole answers of bounded size.
type transport struct {
	rt      *http.Transport
	home    *url.URL // of the directory
	hosts   []string // other hosts that the directory may name
	agent   string
	timeout time.Duration // of one request, its answer included
	now     func() time.Time
	observe func(endpoint string, took time.Duration, err error)

	inFlight chan struct{} // holds one element for each signed request under way
	fetching chan struct{} // held while the directory is fetched

	mu     sync.Mutex // guards the fields below
	dir    *directory
	dirAt  time.Time
	nonces []nonce // the freshest last
	kept   uint64  // how many nonces the CA has given
}

type nonce struct {
	value string
	at    time.Time
}

// answer is a whole answer of the CA.
type answer struct {
	status int
	header http.Header
	body   []byte
}

func newTransport(c *Config, home *url.URL) *transport {
	dialer := &net.Dialer{Timeout: 10 * time.Second, KeepAlive: 30 * time.Second}
	if !c.Private && c.Proxy == nil {
		dialer.Control = publicOnly
	}
	var protocols http.Protocols
	protocols.SetHTTP1(true) // HTTP/2 would let one connection buffer megabytes per stream and save no round trip worth it
	rt := &http.Transport{
		DialContext:            dialer.DialContext,
		TLSClientConfig:        &tls.Config{RootCAs: c.Roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:    10 * time.Second,
		Protocols:              &protocols,
		DisableCompression:     true, // a small gzip answer can unpack to any size
		MaxResponseHeaderBytes: maxHeader,
		MaxConnsPerHost:        maxConns,
		MaxIdleConnsPerHost:    maxConns,
		IdleConnTimeout:        30 * time.Second,
	}
	if c.Proxy != nil {
		rt.Proxy = http.ProxyURL(c.Proxy)
	}
	return &transport{
		rt: rt, home: home, hosts: c.Hosts, agent: c.UserAgent, timeout: c.RequestTimeout, now: c.Clock, observe: c.Observe,
		inFlight: make(chan struct{}, maxConns), fetching: make(chan struct{}, 1),
	}
}

// publicOnly refuses connections to addresses that no public CA has, so that a poisoned name or a hostile directory
// cannot make us talk to the inside of the network.
func publicOnly(_, address string, _ syscall.RawConn) error {
	ap, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %q: %w", address, err)
	}
	addr := ap.Addr().Unmap()
	if certs.CheckPublic(certs.Identifier{Type: certs.IP, Value: addr.String()}) != nil {
		return refuse("the CA's name leads to %s, which is not a public address; set private: true if this CA is your own", addr)
	}
	return nil
}

// allowed reports why a URL from the CA is not followed.
func (t *transport) allowed(u *url.URL) error {
	switch {
	case len(u.String()) > maxURL:
		return refuse("the CA sent a URL of more than %d bytes", maxURL)
	case u.Scheme != "https":
		return refuse("the CA sent the URL %q, which is not https", text.Cut(u.Redacted(), 200))
	case u.User != nil || u.Fragment != "" || strings.Contains(u.Host, "%"):
		return refuse("the CA sent the URL %q with user, zone or fragment", text.Cut(u.Redacted(), 200))
	case !sameHost(u, t.home) && !slices.ContainsFunc(t.hosts, func(host string) bool { return sameHost(u, &url.URL{Host: host}) }):
		return refuse("the CA sent a URL on %q, which is not its own host %q; list it under hosts if it belongs to the CA",
			text.Short(u.Host, 260), t.home.Host)
	}
	return nil
}

func (t *transport) allowedText(address string) error {
	u, err := url.Parse(address)
	if err != nil {
		return refuse("the CA sent something that is no URL: %q", text.Cut(address, 200))
	}
	return t.allowed(u)
}

func sameHost(a, b *url.URL) bool {
	return strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	if p := u.Port(); p != "" {
		return p
	}
	return "443"
}

// send makes one request and returns the whole answer, whatever its status. The request is bound to ctx and to the
// transport's own timeout.
func (t *transport) send(ctx context.Context, req *http.Request) (*answer, error) {
	begun := t.now()
	a, err := t.exchange(ctx, req)
	switch {
	case err == nil:
		t.observe(t.endpoint(req.URL), t.now().Sub(begun), a.failure())
	case !errors.Is(ctx.Err(), context.Canceled): // which says nothing about the CA
		t.observe(t.endpoint(req.URL), t.now().Sub(begun), err)
	}
	return a, err
}

func (t *transport) exchange(ctx context.Context, req *http.Request) (*answer, error) {
	if err := t.allowed(req.URL); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, t.timeout)
	defer cancel()
	req = req.Clone(ctx)
	req.Header.Set("User-Agent", t.agent)
	resp, err := t.rt.RoundTrip(req)
	if err != nil {
		return nil, &connectionError{hint(err)}
	}
	defer func() { _ = resp.Body.Close() }()
	t.keepNonce(resp.Header)
	if coding := resp.Header.Get("Content-Encoding"); coding != "" && coding != "identity" {
		return nil, refuse("the CA sent the content coding %q, which was not asked for", text.Cut(coding, 40))
	}
	a := &answer{status: resp.StatusCode, header: resp.Header}
	var surplus string
	switch a.body, surplus, err = read(resp); {
	case err != nil:
		return nil, fmt.Errorf("the answer broke off: %w", err)
	case surplus != "" && a.status < http.StatusBadRequest:
		return nil, refuse("the CA sent an answer %s", surplus)
	}
	return a, nil
}

// read takes an answer as far as its bounds go, and says of the rest what was too much. Its memory is of the length that the
// CA announced: a buffer that grows on its way costs several times as much. A chain is told from JSON by its first line
// (RFC 8555 section 9.1), whatever the CA calls it.
func read(resp *http.Response) (body []byte, surplus string, err error) {
	var b bytes.Buffer
	b.Grow(min(max(int(resp.ContentLength), 0), maxJSON) + bytes.MinRead)
	for limit, commas := maxJSON, 0; ; {
		n, err := io.CopyN(&b, resp.Body, int64(min(limit+1-b.Len(), 32<<10)))
		if bytes.HasPrefix(b.Bytes(), []byte("-----BEGIN ")) {
			limit = maxChain
		}
		commas += bytes.Count(b.Bytes()[b.Len()-int(n):], []byte{','})
		switch {
		case commas > maxCommas:
			return b.Bytes(), fmt.Sprintf("with more than %d elements", maxCommas), nil
		case b.Len() > limit:
			return b.Bytes()[:limit], fmt.Sprintf("of more than %d bytes", limit), nil
		case errors.Is(err, io.EOF):
			return b.Bytes(), "", nil
		case err != nil:
			return nil, "", err
		}
	}
}

// get fetches one URL without a signature. Redirects are followed at most hops times, within the CA's host.
func (t *transport) get(ctx context.Context, method, address string, hops int) (*answer, error) {
	for {
		req, err := http.NewRequestWithContext(ctx, method, address, http.NoBody)
		if err != nil {
			return nil, refuse("the CA sent something that is no URL: %q", text.Cut(address, 200))
		}
		a, err := t.send(ctx, req)
		if err != nil {
			return nil, err
		}
		switch a.status {
		case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
			next, err := req.URL.Parse(a.header.Get("Location"))
			if err != nil || hops == 0 {
				return nil, refuse("the CA redirects %s once too often or to nowhere", req.URL.Path)
			}
			hops, address = hops-1, next.String()
			continue
		}
		return a, a.failure()
	}
}

// failure is nil for the statuses 2xx.
func (a *answer) failure() error {
	switch {
	case a.status >= http.StatusBadRequest:
		return newProblem(a.status, a.header, a.body)
	case a.status >= http.StatusMultipleChoices:
		return refuse("the CA redirects a request to %q, which is not followed", text.Cut(a.header.Get("Location"), 200))
	case a.status < http.StatusOK:
		return refuse("the CA answered with HTTP status %d", a.status)
	}
	return nil
}

// response turns the answer into what net/http hands out.
func (a *answer) response(req *http.Request) *http.Response {
	return &http.Response{
		Status: http.StatusText(a.status), StatusCode: a.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: a.header, Body: io.NopCloser(bytes.NewReader(a.body)), ContentLength: int64(len(a.body)), Request: req,
	}
}

// keepNonce moves the nonce of an answer to the pool; a malformed one is ignored (RFC 8555 section 6.5.2).
func (t *transport) keepNonce(header http.Header) {
	value := header.Get("Replay-Nonce")
	header.Del("Replay-Nonce")
	if !validNonce(value) {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.nonces) == maxNonces {
		t.nonces = slices.Delete(t.nonces, 0, 1)
	}
	t.nonces = append(t.nonces, nonce{value: value, at: t.now()})
	t.kept++
}

// nonce takes one from the pool, or asks the CA for one. What is fetched goes through the pool, where another request may
// be quicker; then the CA is asked again, as long as it gives any.
func (t *transport) nonce(ctx context.Context, newNonce string) (string, error) {
	for range maxNonces {
		value, kept, ok := t.popNonce()
		if ok {
			return value, nil
		}
		_, err := t.get(ctx, http.MethodHead, newNonce, 0)
		if nonceRefused(err) {
			_, err = t.get(ctx, http.MethodGet, newNonce, 0)
		}
		if err != nil {
			return "", fmt.Errorf("fetch a nonce: %w", err)
		}
		if value, now, ok := t.popNonce(); ok {
			return value, nil
		} else if now == kept {
			break
		}
	}
	return "", refuse("the CA gave no valid nonce")
}

// popNonce takes the newest nonce. It also tells how many there have ever been.
func (t *transport) popNonce() (value string, kept uint64, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(t.nonces)
	if n == 0 {
		return "", t.kept, false
	}
	last := t.nonces[n-1]
	t.nonces = t.nonces[:n-1]
	if t.now().Sub(last.at) > nonceLife {
		t.nonces = nil // all others are older
		return "", t.kept, false
	}
	return last.value, t.kept, true
}

// validNonce: base64url as RFC 8555 section 6.5.1 wants it, of a sane length.
func validNonce(s string) bool {
	if s == "" || len(s) > maxNonce {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '-' && c != '_' {
			return false
		}
	}
	return true
}

// connectionError is a request without an answer.
type connectionError struct{ error }

// Unwrap returns what the network said.
func (e *connectionError) Unwrap() error { return e.error }

// hint adds to a failed TLS handshake what the operator can do about it.
func hint(err error) error {
	var unknown x509.UnknownAuthorityError
	var invalid x509.CertificateInvalidError
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; if this is a private CA, set ca_file to its root", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("%w; is this machine's clock right?", err)
	}
	return err
}
