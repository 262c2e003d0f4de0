package imperva

import (
	"context"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/proxy"
	"github.com/acmed/acmed/internal/vetted"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// uploadPath is where version 1 of the API takes a certificate for a site.
const uploadPath = "/api/prov/v1/sites/customCertificate/upload"

const (
	// maxAnswer bounds an answer, which has some hundred bytes.
	maxAnswer = 256 << 10
	// maxRoots bounds ca_file.
	maxRoots = 1 << 20
	// latestRetry bounds what the API may ask for with Retry-After.
	latestRetry = time.Hour
)

// busyError says that the API takes no further request for a while.
type busyError struct {
	after time.Duration // 0 when the API did not say
	err   error
}

func (e *busyError) Error() string { return e.err.Error() }

func (e *busyError) Unwrap() error { return e.err }

// client uploads certificates. It lives for one Install, and its secrets with it.
type client struct {
	config     Config
	http       *http.Client
	key        certs.Secret
	passphrase certs.Secret
}

func newClient(c Config, read func(path string) (certs.Secret, error)) (*client, error) {
	made := &client{config: c}
	var err error
	if made.key, err = read(c.APIKeyFile); err != nil {
		return nil, fmt.Errorf("api_key_file: %w", err)
	}
	if c.PassphraseFile != "" {
		if made.passphrase, err = read(c.PassphraseFile); err != nil {
			return nil, fmt.Errorf("passphrase_file: %w", err)
		}
	}
	roots, err := readRoots(c.CAFile)
	if err != nil {
		return nil, fmt.Errorf("ca_file: %w", err)
	}
	via, err := proxy.URL(c.Proxy, c.ProxyAuthFile, read)
	if err != nil {
		return nil, err
	}
	made.http = &http.Client{
		Timeout:       c.Timeout,
		CheckRedirect: checkRedirect,
		Transport: &http.Transport{
			Proxy:                  proxy.Func(via),
			TLSClientConfig:        &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: 64 << 10,
			DisableKeepAlives:      true,
		},
	}
	return made, nil
}

// readRoots is nil without a file: the system's roots.
func readRoots(path string) (*x509.CertPool, error) {
	if path == "" {
		return nil, nil
	}
	text, err := vetted.ReadFile(path, 0, maxRoots)
	if err != nil {
		return nil, err
	}
	pool, err := certs.Pool(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return pool, nil
}

// maxRedirects bounds how often a request is sent on within the same host.
const maxRedirects = 3

// redirectError says that a redirect was not followed. It repeats nothing of where it led.
type redirectError struct{ how string }

func (e *redirectError) Error() string { return "the API redirects " + e.how }

// checkRedirect lets a request be sent on, with its body, to the same host only: the body holds the private key.
func checkRedirect(r *http.Request, via []*http.Request) error {
	first := via[0]
	switch {
	case r.URL.Scheme != first.URL.Scheme || r.URL.Host != first.URL.Host:
		return &redirectError{"to another host, which is not followed"}
	case r.Method != first.Method:
		return &redirectError{"and drops the upload; check base_url"}
	case len(via) > maxRedirects:
		return &redirectError{"in a circle"}
	}
	return nil
}

// authType is how the API calls the kind of key.
func authType(unit *certs.Bundle) string {
	if _, ok := unit.Leaf.PublicKey.(*rsa.PublicKey); ok {
		return "RSA"
	}
	return "ECC"
}

// upload sends one certificate with its key and returns what the API thinks of it, though it took it. No error contains
// anything that was sent.
func (c *client) upload(ctx context.Context, unit *certs.Bundle) (opinion, error) {
	encode := base64.StdEncoding.EncodeToString
	form := url.Values{
		"api_id":      {c.config.APIID},
		"api_key":     {string([]byte(c.key))},
		"site_id":     {strconv.Itoa(c.config.SiteID)},
		"certificate": {encode(unit.FullChainPEM())},
		"private_key": {encode(unit.KeyPEM)},
		"auth_type":   {authType(unit)},
	}
	if c.passphrase != nil {
		form.Set("passphrase", string([]byte(c.passphrase)))
	}
	what := fmt.Sprintf("the %s certificate of Imperva site %d", authType(unit), c.config.SiteID)
	hide := newHider(form, unit.KeyPEM).hide
	got, err := c.post(ctx, form, hide)
	if err == nil {
		err = got.err(hide)
	}
	if err != nil {
		return opinion{}, fmt.Errorf("upload %s: %w", what, err)
	}
	o := got.opinion(unit, c.config.AllowUncovered)
	for _, text := range []*string{&o.complaint, &o.warning} {
		if *text != "" {
			*text = fmt.Sprintf("Imperva took %s, and says: %s", what, *text)
		}
	}
	return o, nil
}

// lostError says that a request was sent and its answer lost: the API may have done what was asked.
type lostError struct{ error }

func (e *lostError) Unwrap() error { return e.error }

func (c *client) post(ctx context.Context, form url.Values, hide func(string) string) (*answer, error) {
	target := strings.TrimSuffix(c.config.BaseURL, "/") + uploadPath
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, target, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Accept", "application/json")
	sent := false
	trace := &httptrace.ClientTrace{WroteRequest: func(info httptrace.WroteRequestInfo) { sent = info.Err == nil }}
	response, err := c.http.Do(request.WithContext(httptrace.WithClientTrace(ctx, trace)))
	var body []byte
	if err == nil {
		defer func() { _ = response.Body.Close() }()
		body, err = io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	}
	if err != nil {
		redirected := (*redirectError)(nil)
		lost := sent && !errors.As(err, &redirected)
		err = transportError(ctx, request.URL.Host, err, hide)
		if later := (*installers.LaterError)(nil); lost && errors.As(err, &later) {
			return nil, &lostError{fmt.Errorf("the answer is lost: %w", later.Err)}
		}
		return nil, err
	}
	if len(body) > maxAnswer {
		return nil, fmt.Errorf("the answer has more than %d bytes", maxAnswer)
	}
	return judge(response, body)
}

// transportError leaves out the URL that package http adds: a redirect could have put anything into it. An answer that is
// not HTTP is quoted by package http, so it is searched like one that is.
func transportError(ctx context.Context, host string, err error, hide func(string) string) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	err = fmt.Errorf("%s: %w", host, err)
	var untrusted *tls.CertificateVerificationError
	var redirected *redirectError
	if errors.As(err, &untrusted) || errors.As(err, &redirected) {
		return err
	}
	if text := hide(err.Error()); text != err.Error() {
		err = errors.New(text)
	}
	return &installers.LaterError{Err: err}
}

// judge looks at the status before the body: a proxy in between knows nothing of result codes.
func judge(response *http.Response, body []byte) (*answer, error) {
	got, err := parseAnswer(body)
	status := fmt.Errorf("HTTP status %d %s", response.StatusCode, http.StatusText(response.StatusCode))
	switch {
	case response.StatusCode == http.StatusTooManyRequests || response.StatusCode >= http.StatusInternalServerError:
		return nil, &busyError{after: retryAfter(response), err: status}
	case err == nil && got.Res != resOK:
		return got, nil // says more than its status
	case response.StatusCode != http.StatusOK:
		return nil, status
	case err != nil:
		return nil, fmt.Errorf("the answer cannot be used: %w", err)
	}
	return got, nil
}

// retryAfter reads the header, which has seconds or a time that goes with the server's clock (RFC 9110 section 10.2.3); 0
// when there is none.
func retryAfter(response *http.Response) time.Duration {
	text := response.Header.Get("Retry-After")
	var after time.Duration
	if seconds, err := strconv.ParseInt(text, 10, 32); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(text); err == nil {
		if now, err := http.ParseTime(response.Header.Get("Date")); err == nil {
			after = at.Sub(now)
		}
	}
	return max(0, min(after, latestRetry))
}
