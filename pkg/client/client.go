package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"github.com/acmed/acmed/pkg/notify"
)

// MaxRequest is the largest request that the daemon reads, in bytes. It holds every name of a very large fleet.
const MaxRequest = 1 << 20

// Forbidden is the answer to a user who may not control acmed.
func Forbidden(uid int) *Error {
	return &Error{Code: CodePermission, Message: fmt.Sprintf("user %d may not control acmed; run the command as root or as a member of the group acmed", uid)}
}

// Client is a [Backend] that asks the daemon. It is safe for use by many at once.
type Client struct {
	path    string
	http    *http.Client
	streams *http.Client // for verbs whose answer begins at once
}

// beginTime is how long the daemon may take to begin a stream. One that cannot accept a connection would be waited for without end.
const beginTime = 30 * time.Second

var _ Backend = (*Client)(nil)

// ErrNoDaemon says that no daemon answers on the socket.
var ErrNoDaemon = errors.New("no acmed is running")

// Dial returns a client when a daemon answers on the socket, [ErrNoDaemon] when there is none, and an [Error] with
// [CodePermission] when the caller may not speak to it.
func Dial(ctx context.Context, path string) (*Client, error) {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
	conn, err := dial(ctx, "", "")
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, ErrNoDaemon
	case errors.Is(err, os.ErrPermission):
		return nil, Forbidden(os.Getuid())
	case err != nil:
		return nil, fmt.Errorf("control socket %s: %w", path, err)
	}
	_ = conn.Close()
	client := func(answers time.Duration) *http.Client {
		return &http.Client{Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true, ResponseHeaderTimeout: answers}}
	}
	return &Client{path: path, http: client(0), streams: client(beginTime)}, nil
}

// Status asks the daemon.
func (c *Client) Status(ctx context.Context, q StatusRequest) (Status, error) {
	return ask[Status](ctx, c, "status", q)
}

// Reload asks the daemon and waits until the new configuration is in use or refused.
func (c *Client) Reload(ctx context.Context) error {
	_, err := ask[struct{}](ctx, c, "reload", struct{}{})
	return err
}

// Account asks the daemon.
func (c *Client) Account(ctx context.Context, r AccountRequest) (Account, error) {
	sent := struct {
		AccountRequest
		Key []byte `json:"key,omitempty"` // the one secret of all requests: on its own it is never written in clear
	}{r, r.Key}
	return ask[Account](ctx, c, "account", sent)
}

// Revoke asks the daemon.
func (c *Client) Revoke(ctx context.Context, r RevokeRequest) (Revocation, error) {
	return ask[Revocation](ctx, c, "revoke", r)
}

// Doctor asks the daemon.
func (c *Client) Doctor(ctx context.Context, r DoctorRequest) (Diagnosis, error) {
	return ask[Diagnosis](ctx, c, "doctor", r)
}

// Fleet asks the daemon.
func (c *Client) Fleet(ctx context.Context, r FleetRequest) (Fleet, error) {
	return ask[Fleet](ctx, c, "fleet", r)
}

// ask sends one request and reads one answer.
func ask[A any](ctx context.Context, c *Client, verb string, request any) (A, error) {
	var answer A
	return answer, c.call(ctx, c.http, verb, request, func(dec *json.Decoder) error { return dec.Decode(&answer) })
}

// Renew asks the daemon and follows its progress. When ctx ends, the daemon goes on alone.
func (c *Client) Renew(ctx context.Context, r RenewRequest, progress func(Progress)) (Report, error) {
	return c.follow(ctx, "renew", r, progress)
}

// Install asks the daemon and follows its progress. When ctx ends, the daemon goes on alone.
func (c *Client) Install(ctx context.Context, r InstallRequest, progress func(Progress)) (Report, error) {
	return c.follow(ctx, "install", r, progress)
}

// Events follows what happens until ctx ends, event returns an error, or the daemon ends.
func (c *Client) Events(ctx context.Context, r EventsRequest, event func(notify.Event) error) error {
	return c.call(ctx, c.streams, "events", r, func(dec *json.Decoder) error {
		for {
			var l Line
			if err := dec.Decode(&l); err != nil {
				return errors.Join(ctx.Err(), fmt.Errorf("the daemon stopped answering: %w", err))
			}
			switch {
			case l.Error != nil:
				return l.Error
			case l.Event != nil:
				if err := event(*l.Event); err != nil {
					return err
				}
			}
		}
	})
}

// RunStaging asks the daemon and follows its progress. When ctx ends, the daemon gives up the test orders.
func (c *Client) RunStaging(ctx context.Context, r StagingRequest, progress func(Progress)) (Report, error) {
	return c.follow(ctx, "staging", r, progress)
}

// Preview asks the daemon.
func (c *Client) Preview(ctx context.Context, r PreviewRequest) (Preview, error) {
	return ask[Preview](ctx, c, "preview", r)
}

// Forget asks the daemon.
func (c *Client) Forget(ctx context.Context, r ForgetRequest) error {
	_, err := ask[struct{}](ctx, c, "forget", r)
	return err
}

// follow sends one request and reads progress until the report.
func (c *Client) follow(ctx context.Context, verb string, request any, progress func(Progress)) (Report, error) {
	var report *Report
	err := c.call(ctx, c.streams, verb, request, func(dec *json.Decoder) error {
		for report == nil {
			var l Line
			if err := dec.Decode(&l); err != nil {
				return fmt.Errorf("the daemon stopped answering: %w", err)
			}
			switch {
			case l.Error != nil:
				return l.Error
			case l.Progress != nil && progress != nil:
				progress(*l.Progress)
			}
			report = l.Report
		}
		return nil
	})
	if err != nil {
		return Report{}, err
	}
	return *report, nil
}

func (c *Client) call(ctx context.Context, by *http.Client, verb string, request any, read func(*json.Decoder) error) error {
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://acmed/v1/"+verb, bytes.NewReader(body))
	if err != nil {
		return err
	}
	resp, err := by.Do(req)
	var slow net.Error
	if by == c.streams && ctx.Err() == nil && errors.As(err, &slow) && slow.Timeout() {
		return fmt.Errorf("the daemon accepts no work: it did not answer on %s for %s; it may have no file descriptors left, see its log", c.path, beginTime)
	}
	if err != nil {
		return fmt.Errorf("control socket %s: %w", c.path, err)
	}
	defer func() { _ = resp.Body.Close() }()
	dec := json.NewDecoder(resp.Body)
	if resp.StatusCode == http.StatusOK {
		return read(dec)
	}
	var l Line
	if err := dec.Decode(&l); err != nil || l.Error == nil {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, MaxRequest))
		return fmt.Errorf("control socket %s: unexpected answer %s", c.path, resp.Status)
	}
	return l.Error
}
