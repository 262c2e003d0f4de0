package preflight

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/acmed/acmed/internal/text"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/challenges"
	"github.com/acmed/acmed/pkg/challenges/http01"
)

// maxRedirects is how many redirects CAs follow (Boulder's limit).
const maxRedirects = 10

// httpProbe fetches the token of c from one address the way a CA does.
type httpProbe struct {
	resolver *resolver
	ports    map[string]int // the port that a CA uses → the port that is meant here
	timeout  time.Duration
}

func (p *httpProbe) run(ctx context.Context, addr netip.Addr, c challenges.Challenge) HTTP {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	var got HTTP
	client := p.client(addr, c.Identifier.Value, &got)
	defer client.CloseIdleConnections()
	host := c.Identifier.Value
	if addr := net.ParseIP(host); addr != nil && addr.To4() == nil {
		host = "[" + host + "]"
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+host+http01.PathPrefix+c.Token, nil)
	if err != nil {
		return HTTP{Outcome: Other, Error: err.Error()}
	}
	resp, err := client.Do(req)
	if err != nil {
		got.fail(err)
		return got
	}
	defer func() { _ = resp.Body.Close() }()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, int64(len(c.KeyAuth))+text.Value))
	got.Status, got.Server = resp.StatusCode, text.Short(resp.Header.Get("Server"), text.Value)
	if name := proxyName(resp.Header); name != "" {
		got.Proxy = name
	}
	got.Outcome = Other
	if resp.StatusCode == http.StatusOK && trimSpace(body) == c.KeyAuth {
		got.Outcome = Ours
	}
	return got
}

// client connects to addr for the probed name, whatever DNS says, and follows redirects to ports 80 and 443 only.
func (p *httpProbe) client(addr netip.Addr, name string, got *HTTP) *http.Client {
	transport := &http.Transport{
		DisableKeepAlives:      true,
		MaxResponseHeaderBytes: 64 << 10,
		TLSClientConfig:        &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // CAs do not verify after a redirect either
		DialContext: func(ctx context.Context, network, target string) (net.Conn, error) {
			return p.dial(ctx, network, target, addr, name)
		},
	}
	return &http.Client{Transport: transport, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		got.Redirects = append(got.Redirects, text.Short(req.URL.Redacted(), text.Value))
		if name := proxyName(req.Response.Header); name != "" {
			got.Proxy = name
		}
		if len(via) > maxRedirects {
			return errors.New("too many redirects")
		}
		return checkRedirect(req.URL)
	}}
}

func checkRedirect(u *url.URL) error {
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("a redirect to the scheme %q, which no CA follows", text.Cut(u.Scheme, text.Value))
	case u.Port() != "" && u.Port() != "80" && u.Port() != "443":
		return fmt.Errorf("a redirect to port %s, which no CA follows", text.Short(u.Port(), text.Value))
	}
	return nil
}

func (p *httpProbe) dial(ctx context.Context, network, target string, addr netip.Addr, name string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(target)
	if err != nil {
		return nil, err
	}
	to := addr
	if host != name {
		if to, err = p.elsewhere(ctx, host); err != nil {
			return nil, err
		}
		if to = to.Unmap(); !mayFollow(addr, to) {
			return nil, fmt.Errorf("a redirect from %s to %s, an address that is not public: not followed", addr, to)
		}
	}
	var d net.Dialer
	return d.DialContext(ctx, network, net.JoinHostPort(to.String(), strconv.Itoa(p.ports[port])))
}

// mayFollow says where a redirect may lead: from a public name to public addresses, within a private network also to
// private ones, and to this machine from this machine alone. Addresses for special uses, which the kernel may take for this
// machine, are none of these.
func mayFollow(from, to netip.Addr) bool {
	switch {
	case certs.PublicAddr(to):
		return true
	case certs.PublicAddr(from):
		return false
	case to.IsLoopback():
		return from.IsLoopback()
	}
	return to.IsPrivate()
}

// elsewhere finds the address of another host that a redirect leads to.
func (p *httpProbe) elsewhere(ctx context.Context, host string) (netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return addr.Unmap(), nil
	}
	list, _, err := p.resolver.addresses(ctx, host)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("redirected to %s: %w", text.Short(host, text.Value), err)
	}
	return list[0], nil
}

func (h *HTTP) fail(err error) {
	h.Outcome, h.Error = failure(err)
	if h.Outcome.silent() && len(h.Redirects) > 0 {
		h.Outcome = Other // the first hop was answered
	}
}

// failure tells a port where nobody listens from one where nothing comes back, and both from a broken answer.
func failure(err error) (Outcome, string) {
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return Closed, "connection refused"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return Closed, "no route to this address"
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrDeadlineExceeded):
		return Timeout, "no answer in time; is a firewall dropping the packets?"
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	return Other, text.Short(err.Error(), text.Value)
}

func trimSpace(body []byte) string {
	for len(body) > 0 && (body[len(body)-1] == '\n' || body[len(body)-1] == '\r' || body[len(body)-1] == ' ') {
		body = body[:len(body)-1]
	}
	return string(body)
}
