package issuer

import (
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/store"
)

// client signs requests with one key for as long as one context lives. It is the HTTP transport beneath lego's api.Core,
// which knows no contexts: it binds every request to the context, answers for the directory and the nonces from what the
// issuer shares, and keeps the headers that Core throws away.
//
// Answers that are not a success leave RoundTrip as errors. Core would turn them into errors as well, but without the
// Retry-After header, and it would repeat a badNonce on its own with pauses that no context ends.
type client struct {
	ctx  context.Context //nolint:containedctx // the point of the type, see above
	i    *Issuer
	dir  *directory
	kid  string
	key  crypto.Signer
	core *api.Core

	keyChanged time.Time // when the CA got the key in the place of another one

	mu       sync.Mutex
	headers  map[string]http.Header // Retry-After and Link of the last answer from a URL
	reserved []string               // nonces for the requests about to be signed
	issuers  map[string][]string    // of dns-persist-01, by the URL of the challenge
}

// newClient makes a client for the account kid; "" makes it send the public key instead (RFC 8555 section 6.2).
func (i *Issuer) newClient(ctx context.Context, kid string, key crypto.Signer) (*client, error) {
	c := &client{ctx: ctx, i: i, kid: kid, key: key, headers: map[string]http.Header{}, issuers: map[string][]string{}}
	err := c.retry(func() (err error) {
		c.dir, err = i.directory(ctx, 0)
		return err
	})
	if err != nil {
		return nil, c.explain(err)
	}
	return c, c.open()
}

// open makes the core for the directory at hand.
func (c *client) open() (err error) {
	c.core, err = api.New(&http.Client{Transport: c}, c.i.config.UserAgent, c.i.config.Directory, c.kid, c.key)
	if err != nil {
		return c.explain(fmt.Errorf("read the directory: %w", err))
	}
	return nil
}

// accountClient makes a client for an account.
func (i *Issuer) accountClient(ctx context.Context, a *store.Account) (*client, error) {
	c, err := i.newClient(ctx, a.URI, a.Key)
	if err == nil {
		c.keyChanged = a.KeyChanged
	}
	return c, err
}

// RoundTrip is for lego's api.Core only.
func (c *client) RoundTrip(req *http.Request) (*http.Response, error) {
	t := c.i.transport
	switch {
	case req.Method == http.MethodGet && req.URL.String() == c.i.config.Directory:
		return (&answer{status: http.StatusOK, header: http.Header{}, body: c.dir.raw}).response(req), nil
	case req.Method == http.MethodHead && req.URL.String() == c.dir.NewNonceURL:
		value, err := c.Nonce()
		if err != nil {
			return nil, err
		}
		return (&answer{status: http.StatusOK, header: http.Header{"Replay-Nonce": {value}}}).response(req), nil
	}
	a, err := t.send(c.ctx, req)
	if err != nil {
		return nil, err
	}
	c.keepHeaders(req.URL.String(), a.header)
	if err := a.failure(); err != nil {
		if p := problemOf(err); p != nil {
			p.newOrder = req.URL.String() == c.dir.NewOrderURL
		}
		return nil, err
	}
	c.tidy(req.URL.String(), a)
	c.keepIssuers(a.body)
	return a.response(req), nil
}

// keepIssuers remembers what lego does not decode: the CA's names in the challenges of dns-persist-01.
func (c *client) keepIssuers(body []byte) {
	if !bytes.Contains(body, []byte(`"issuer-domain-names"`)) {
		return
	}
	var got struct {
		Challenges []struct {
			URL     string   `json:"url"`
			Issuers []string `json:"issuer-domain-names"`
		} `json:"challenges"`
	}
	if err := json.Unmarshal(body, &got); err != nil {
		return // lego says so
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, ch := range got.Challenges {
		var list []string
		for _, name := range ch.Issuers[:min(len(ch.Issuers), maxIdentities)] {
			list = append(list, text.Short(name, 260))
		}
		c.issuers[ch.URL] = list
	}
}

// persistIssuers are the CA's names in a challenge of dns-persist-01; a CA that lists none there goes by its CAA names.
func (c *client) persistIssuers(challenge string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if list := c.issuers[challenge]; len(list) > 0 {
		return list
	}
	return c.dir.caaIdentities()
}

// maxLinks bounds what is kept of the Link headers of one answer; ten alternate chains need 2 kB.
const maxLinks = 16 << 10

func (c *client) keepHeaders(url string, header http.Header) {
	kept := http.Header{}
	if value := header.Get("Retry-After"); value != "" {
		kept.Set("Retry-After", text.Short(value, 100))
	}
	if links := header.Values("Link"); len(links) > 0 && len(strings.Join(links, "")) <= maxLinks {
		kept["Link"] = links
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.headers[url] = kept
}

// header returns one header of the last answer from a URL.
func (c *client) header(url, name string) []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.headers[url].Values(name)
}

// The bounds on asking again within one call. Half of all nonces refused still succeeds surely enough (0.5^20); a CA that
// refuses nearly all of them ends the call after 3 s.
const (
	maxBadNonces  = 20
	freeBadNonces = 5 // without a pause
	maxTries      = 3 // for a network error or a 5xx
)

// call runs one signed request and repeats it within bounds: at once when the CA wants another nonce, after a short pause
// when the CA was not reachable. Only requests that may be sent twice belong here. Its error is typed.
func (c *client) call(what string, send func(*api.Core) error) error {
	if err := c.retry(func() error { return c.signed(what, func() error { return send(c.core) }) }); err != nil {
		return c.explain(fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

// once is call for a request that must not be repeated when its answer is lost.
func (c *client) once(what string, send func(*api.Core) error) error {
	if err := c.signed(what, func() error { return send(c.core) }); err != nil {
		return c.explain(fmt.Errorf("%s: %w", what, err))
	}
	return nil
}

func (c *client) retry(send func() error) error {
	for n := 1; ; n++ {
		err := send()
		if err == nil || n == maxTries || !temporary(err) || c.ctx.Err() != nil || c.i.way().probes(operationOf(c.ctx)) {
			return err
		}
		if waitErr := c.backOff(n); waitErr != nil {
			return waitErr
		}
	}
}

// backOff waits before the repetition n, with jitter so that many orders do not come back at the same moment.
func (c *client) backOff(n int) error {
	pause := c.i.retryPause << n
	return sleep(c.ctx, pause/2+rand.N(pause))
}

// signed runs a request that needs a nonce, and runs it again when the CA refuses the nonce, or does not know a key yet that
// it took a moment ago.
func (c *client) signed(what string, send func() error) error {
	for n := 1; ; n++ {
		err := c.sendOne(stageOf(what), send)
		pause := time.Duration(0)
		switch {
		case c.unsettled(err, keySpread):
			pause = min(c.i.retryPause<<min(n, 5), maxKeyPause)
		case !isKind(err, typeBadNonce) || n == maxBadNonces:
			return err
		case n > freeBadNonces:
			pause = min(200*time.Millisecond, 20*time.Millisecond<<(n-freeBadNonces))
		}
		if waitErr := sleep(c.ctx, pause); waitErr != nil {
			return waitErr
		}
	}
}

// How long a new account key may be unknown to parts of a CA. Boulder caches accounts for 5 s; what is slower is not waited
// for, but asked again by the ordinary schedule.
const (
	keySpread   = 30 * time.Second
	keySettled  = time.Hour
	maxKeyPause = 2 * time.Second
)

// unsettled reports whether the CA may have refused a request because a part of it does not know the account's key yet.
func (c *client) unsettled(err error, within time.Duration) bool {
	p := problemOf(err)
	if p == nil || c.kid == "" || c.keyChanged.IsZero() || c.i.now().Sub(c.keyChanged).Abs() >= within {
		return false
	}
	return p.kind == typeMalformed || p.kind == typeUnauthorized || p.kind == typeAccountDoesNotExist
}

// sendOne runs one request with its nonce. As many as there are connections run at a time, their answers' decoding included,
// which bounds what all of them together hold in memory, and how many find out side by side that the CA is down. The nonce
// is fetched first: an error to fetch it would lose its type on the way through the signer.
func (c *client) sendOne(at stage, send func() error) error {
	select {
	case c.i.transport.inFlight <- struct{}{}:
		defer func() { <-c.i.transport.inFlight }()
	case <-c.ctx.Done():
		return context.Cause(c.ctx)
	}
	value := ""
	err := c.i.ask(c.ctx, stageNonce, func() (err error) {
		value, err = c.i.transport.nonce(c.ctx, c.dir.NewNonceURL)
		return err
	})
	if err != nil {
		return err
	}
	c.mu.Lock()
	c.reserved = append(c.reserved, value)
	c.mu.Unlock()
	return c.i.ask(c.ctx, at, send)
}

// ask makes one request unless the CA is known to fail, and remembers what became of it.
func (i *Issuer) ask(ctx context.Context, at stage, send func() error) error {
	op, b := operationOf(ctx), i.way().orders
	if err := b.allow(op); err != nil {
		return err
	}
	err := send()
	if ctx.Err() == nil && at != stageAlternate {
		b.report(op, at, failureOf(err))
	}
	return err
}

// Nonce hands a reserved nonce to the signer.
func (c *client) Nonce() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := len(c.reserved)
	if n == 0 {
		return "", errors.New("no nonce was reserved for this request")
	}
	value := c.reserved[n-1]
	c.reserved = c.reserved[:n-1]
	return value, nil
}

// temporary reports whether the same request may well succeed in a moment.
func temporary(err error) bool {
	var limit *certs.RateLimitError
	if errors.As(err, &limit) {
		return false
	}
	if p := problemOf(err); p != nil {
		return p.status >= http.StatusInternalServerError && !p.limited()
	}
	var refused *refusal
	var tlsErr *tls.CertificateVerificationError
	return !errors.As(err, &refused) && !errors.As(err, &tlsErr)
}

// explain gives an error of the CA or the network its type, so that the caller knows when another try makes sense.
func (c *client) explain(err error) error {
	if ctxErr := c.i.ended(c.ctx); ctxErr != nil {
		return ctxErr
	}
	var limit *certs.RateLimitError
	if errors.As(err, &limit) {
		return err
	}
	p := problemOf(err)
	switch {
	case p == nil:
		return c.i.unavailable(&cleaned{err})
	case p.limited():
		return &certs.RateLimitError{At: c.i.retryAt(p.retryAfter), Err: err, Unavailable: p.status == http.StatusServiceUnavailable}
	case p.status >= http.StatusInternalServerError, p.kind == typeBadNonce:
		return c.i.unavailable(err)
	case p.permanent() && !c.unsettled(err, keySettled):
		return &certs.PermanentError{Err: err}
	}
	return err
}

// cleaned bounds and escapes a text in which lego may have quoted the CA.
type cleaned struct{ error }

// Error is the bounded text.
func (e *cleaned) Error() string { return text.Short(e.error.Error(), maxText) }

// Unwrap returns the error as it was.
func (e *cleaned) Unwrap() error { return e.error }

func (i *Issuer) unavailable(err error) error {
	return &certs.UnavailableError{Directory: i.config.Directory, Err: err}
}

// retryAt is when the CA takes another request: within a minute and a day.
func (i *Issuer) retryAt(header string) time.Time {
	now := i.now()
	wait, _ := retryAfter(header, now)
	return now.Add(clamp(wait, minPause, maxPause))
}

// ended is nil while ctx lives. A deadline means that the CA was too slow; being cancelled is nobody's fault.
func (i *Issuer) ended(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	cause := context.Cause(ctx)
	var typed *certs.UnavailableError
	switch {
	case errors.As(cause, &typed):
		return cause
	case errors.Is(cause, context.DeadlineExceeded):
		return i.unavailable(cause)
	}
	return fmt.Errorf("the order was interrupted: %w", cause)
}

// sleep returns early, with an error, when ctx ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
