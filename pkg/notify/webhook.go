package notify

import (
	"bytes"
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/acmed/acmed/internal/proxy"
	"github.com/acmed/acmed/pkg/certs"
)

// The headers of a webhook.
const (
	// TimestampHeader has the time of the try in Unix seconds.
	TimestampHeader = "Acmed-Timestamp"
	// SignatureHeader has "v1=" and the HMAC-SHA256 of the timestamp, a full stop and the body, in hexadecimal.
	SignatureHeader = "Acmed-Signature"
	// IDHeader has the ID of the event, which stays the same when it is tried again.
	IDHeader = "Idempotency-Key"
)

// WebhookConfig is a receiver of events over HTTP.
type WebhookConfig struct {
	// URL is where events are posted to as JSON. Plain http is only for this machine, unless insecure allows it. Put no
	// token into it: use secret_file to sign messages.
	URL string `mapstructure:"url"`
	// SecretFile holds the key of the signature, at least 16 bytes, chmod 600. Default: events are not signed.
	SecretFile string `mapstructure:"secret_file"`
	// Insecure allows plain http to other machines. Default false.
	Insecure bool `mapstructure:"insecure"`
	// Timeout is for one try, at most 30s. Default 10s.
	Timeout time.Duration `mapstructure:"timeout"`
	// Proxy replaces proxy at the top for this webhook; "none" is a direct connection. Default: proxy at the top.
	Proxy string `mapstructure:"proxy"`
	// ProxyAuthFile holds USER:PASSWORD for the webhook's own proxy, chmod 600. Optional.
	ProxyAuthFile string `mapstructure:"proxy_auth_file"`
}

// Validate reports what is wrong, each at its key.
func (c *WebhookConfig) Validate() error {
	var errs []error
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		errs = append(errs, errors.New("url: it is missing"))
	case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http":
		errs = append(errs, errors.New("url: not a URL such as https://ops.example.com/acmed"))
	case u.User != nil:
		errs = append(errs, errors.New("url: a user or password is refused here; use secret_file to sign messages"))
	case u.Scheme == "http" && !c.Insecure && !loopback(u.Hostname()):
		errs = append(errs, errors.New("url: plain http to another machine can be read and changed on the way; use https, or set insecure: true"))
	}
	if err := proxy.Check(c.Proxy); err != nil {
		errs = append(errs, fmt.Errorf("proxy: %w", err))
	}
	return errors.Join(append(errs, checkTimeout(c.Timeout))...)
}

func checkTimeout(d time.Duration) error {
	if d < 0 || d > sendTimeout {
		return fmt.Errorf("timeout: %s is not between 0s and %s", d, sendTimeout)
	}
	return nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.Unmap().IsLoopback()
}

// minSecret is the least key of a signature, in bytes.
const minSecret = 16

// Webhook posts each event as JSON.
type Webhook struct {
	conf   WebhookConfig
	secret certs.Secret
	client *http.Client
	now    func() time.Time
}

var _ Sender = (*Webhook)(nil)

// NewWebhook returns a sender that signs with the secret, unless that is empty. via is the
// proxy, nil for a direct connection. now is the clock of the timestamps.
func NewWebhook(c WebhookConfig, secret certs.Secret, via *url.URL, now func() time.Time) (*Webhook, error) {
	if n := len(secret); n > 0 && n < minSecret {
		return nil, fmt.Errorf("secret_file: it holds a key of %d bytes, at least %d are needed", n, minSecret)
	}
	return &Webhook{conf: c, secret: secret, now: now, client: &http.Client{
		Timeout:       cmp.Or(c.Timeout, 10*time.Second),
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Transport: &http.Transport{
			Proxy: proxy.Func(via), DialContext: (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
			TLSHandshakeTimeout: 10 * time.Second, TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: 64 << 10, DisableKeepAlives: true, ForceAttemptHTTP2: true,
		},
	}}, nil
}

// Send posts the events one by one. Any answer below 300 takes an event over. A redirect is not followed, because the
// event would go to somebody who was not configured.
func (w *Webhook) Send(ctx context.Context, events []Event) error {
	for i := range events {
		if err := w.post(ctx, &events[i]); err != nil {
			return err
		}
	}
	return nil
}

func (w *Webhook) post(ctx context.Context, e *Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.conf.URL, bytes.NewReader(body))
	if err != nil {
		return errors.New("the URL cannot be used")
	}
	stamp := strconv.FormatInt(w.now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "acmed")
	req.Header.Set(IDHeader, e.ID)
	req.Header.Set(TimestampHeader, stamp)
	if len(w.secret) > 0 {
		req.Header.Set(SignatureHeader, "v1="+signature(w.secret, stamp, body))
	}
	resp, err := w.client.Do(req)
	if err != nil {
		var wrapped *url.Error
		if errors.As(err, &wrapped) {
			err = wrapped.Err // without the URL
		}
		return fmt.Errorf("webhook: %s", scrub(err.Error(), w.conf.URL))
	}
	defer func() { _ = resp.Body.Close() }()
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // lets the other side finish; what it says does not matter
	return judge(resp.StatusCode)
}

// judge turns the status of an answer into an error.
func judge(status int) error {
	err := fmt.Errorf("webhook: the answer is %d %s", status, strings.ToLower(http.StatusText(status)))
	switch {
	case status < 300:
		return nil
	case status < 400:
		return &RejectedError{fmt.Errorf("%w, and redirects are not followed; configure the final URL", err)}
	case status < 500 && status != http.StatusRequestTimeout && status != http.StatusTooEarly && status != http.StatusTooManyRequests:
		return &RejectedError{err}
	}
	return err
}

// signature is the HMAC-SHA256 of timestamp, full stop and body.
func signature(secret certs.Secret, stamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(stamp + "."))
	mac.Write(body)
	return hex.EncodeToString(mac.Sum(nil))
}
