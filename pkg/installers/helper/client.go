package helper

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/acmed/acmed/pkg/advice"
	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
)

// Config is one target that the helper looks after.
type Config struct {
	Target string `mapstructure:"target"` // its name in the helper's configuration
	Socket string `mapstructure:"socket"` // absolute path of the helper's socket; default /run/acmed-installd.sock
}

// Validate reports everything that is wrong with c, joined, each problem beginning with its key.
func (c *Config) Validate() error {
	var errs []error
	if err := certs.CheckName(c.Target); err != nil {
		errs = append(errs, fmt.Errorf("target: %w", err))
	}
	if c.Socket != "" && !filepath.IsAbs(c.Socket) {
		errs = append(errs, fmt.Errorf("socket: %q is not an absolute path", c.Socket))
	}
	return errors.Join(errs...)
}

// Client asks the helper to install. It is safe for concurrent use.
type Client struct {
	target, socket string
	http           *http.Client
}

var (
	_ installers.Installer   = (*Client)(nil)
	_ installers.Uninstaller = (*Client)(nil)
	_ installers.Previewer   = (*Client)(nil)
	_ installers.Examiner    = (*Client)(nil)
	_ installers.Noter       = (*Client)(nil)
)

// New makes a client. It touches neither network nor disk.
func New(c Config) (*Client, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	client := dial(c.Socket)
	client.target = c.Target
	return client, nil
}

// dial makes a client without a target.
func dial(socket string) *Client {
	socket = cmp.Or(socket, DefaultSocket)
	connect := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", socket)
	}
	return &Client{
		socket: socket,
		http:   &http.Client{Timeout: verbTime + headerTime, Transport: &http.Transport{DialContext: connect, DisableKeepAlives: true}},
	}
}

// Install hands the certificate and its key to the helper, which makes the target serve it.
func (c *Client) Install(ctx context.Context, b *certs.Bundle) error {
	_, err := c.call(ctx, verbInstall, pack(b, true))
	return err
}

// Verify asks the helper whether the target serves b.
func (c *Client) Verify(ctx context.Context, b *certs.Bundle) error {
	_, err := c.call(ctx, verbVerify, pack(b, false))
	return err
}

// Examine asks the helper whether Install could work.
func (c *Client) Examine(ctx context.Context) error {
	_, err := c.call(ctx, verbExamine, nil)
	return err
}

// Uninstall makes the helper take back all that it ever changed for the target, and remove its copies.
func (c *Client) Uninstall(ctx context.Context) error {
	_, err := c.call(ctx, verbUninstall, nil)
	return err
}

// Preview asks the helper what Install would change.
func (c *Client) Preview(ctx context.Context, b *certs.Bundle) (string, error) {
	a, err := c.call(ctx, verbPreview, pack(b, true))
	return a.Diff, err
}

// Notes asks the helper what an operator should know about an installation.
func (c *Client) Notes(ctx context.Context, b *certs.Bundle) ([]string, error) {
	a, err := c.call(ctx, verbNotes, pack(b, false))
	return strings.FieldsFunc(a.Diff, func(r rune) bool { return r == '\n' }), err
}

// Restart makes the helper at the socket, "" for the default one, read its configuration: running calls end, and the next
// one finds a new helper.
func Restart(ctx context.Context, socket string) error {
	_, err := dial(socket).send(ctx, verbRestart, request{})
	return err
}

func (c *Client) call(ctx context.Context, verb string, b *bundle) (answer, error) {
	return c.send(ctx, verb, request{Target: c.target, Bundle: b})
}

// again is how often a call is repeated that got no answer at all. Each verb may be.
const again = 2

func (c *Client) send(ctx context.Context, verb string, q request) (answer, error) {
	body, err := json.Marshal(q)
	if err != nil {
		return answer{}, err
	}
	resp, err := c.post(ctx, verb, body)
	for range again { // a helper that is about to restart may drop a connection which it just accepted
		if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
			break
		}
		resp, err = c.post(ctx, verb, body)
	}
	if err != nil {
		return answer{}, c.explain(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var a answer
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxMessage)).Decode(&a); err != nil {
		return answer{}, fmt.Errorf("the helper at %s: unexpected answer %s: %w", c.socket, resp.Status, err)
	}
	switch {
	case a.Error != nil:
		return answer{}, a.Error.err()
	case resp.StatusCode != http.StatusOK:
		return answer{}, fmt.Errorf("the helper at %s: unexpected answer %s", c.socket, resp.Status)
	}
	return a, nil
}

func (c *Client) post(ctx context.Context, verb string, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://acmed-installd/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	return c.http.Do(req)
}

// explain says what to do when the helper cannot be reached.
func (c *Client) explain(err error) error {
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return advice.Tag(advice.HelperUnreachable, fmt.Errorf("no helper listens on %s; start it with: systemctl enable --now acmed-installd.socket (%w)", c.socket, err))
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("user %d may not use the helper at %s (%w)", os.Getuid(), c.socket, err)
	}
	return fmt.Errorf("the helper at %s: %w", c.socket, err)
}
