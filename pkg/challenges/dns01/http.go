package dns01

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/acmed/acmed/internal/text"
)

// The bounds of one request to an HTTP service.
const (
	httpTimeout = 30 * time.Second
	maxBody     = 64 << 10
)

// poster sends JSON to one HTTP service. It follows no redirect, because a body with credentials goes to no other place,
// and uses no proxy, whatever the daemon's environment says.
type poster struct{ client *http.Client }

func newPoster() poster {
	return poster{&http.Client{
		Timeout: httpTimeout,
		Transport: &http.Transport{
			ForceAttemptHTTP2: true, IdleConnTimeout: httpTimeout,
			TLSHandshakeTimeout: 10 * time.Second, MaxResponseHeaderBytes: maxBody,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// post returns nil for a 2xx answer. The headers may carry secrets, which never get into an error.
func (p poster) post(ctx context.Context, address string, header http.Header, body any) error {
	payload, err := json.Marshal(body)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(payload))
	if err != nil {
		return refused(fmt.Errorf("post to %s: %w", redactURL(address), err))
	}
	for name, values := range header {
		req.Header[name] = values
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "acmed")
	resp, err := p.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // the address in it may have a password
		}
		return fmt.Errorf("post to %s: %w", redactURL(address), err)
	}
	defer resp.Body.Close() //nolint:errcheck // only read from
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if resp.StatusCode/100 == 2 {
		return err
	}
	err = fmt.Errorf("post to %s: the answer is %s: %s", redactURL(address), resp.Status, text.Line(string(answer), 300))
	if denied(resp.Status) {
		return refused(err)
	}
	if resp.StatusCode/100 == 4 && resp.StatusCode != http.StatusTooManyRequests && resp.StatusCode != http.StatusRequestTimeout {
		return final(err)
	}
	return err
}

func redactURL(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "<unreadable address>"
	}
	return u.Redacted()
}

// checkEndpoint reports why an address cannot be posted to. Credentials go over plain HTTP only within this host.
func checkEndpoint(address string, secret bool) error {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return errors.New("the address cannot be read")
	case u.User != nil:
		return errors.New("an address cannot contain a user or password; use a file")
	case (u.Scheme != "https" && u.Scheme != "http") || u.Host == "" || u.RawQuery != "" || u.Fragment != "":
		return fmt.Errorf("%q is not an address like https://host/path", address)
	case secret && u.Scheme == "http" && !loopback(u.Hostname()):
		return fmt.Errorf("%q would send credentials unencrypted; use https", address)
	}
	return nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
