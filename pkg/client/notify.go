package client

import "context"

// Examiner finds out whether things work before they are needed.
type Examiner interface {
	Doctor
	Notifiers
}

// Notifiers are those who are told what happens.
type Notifiers interface {
	// TestNotify sends a test event to some notifiers, or to all, and waits for the outcome. Unknown names are an [Error]
	// with [CodeUnknown], before anything is sent.
	TestNotify(ctx context.Context, r NotifyRequest) (NotifyReport, error)
}

// NotifyRequest names notifiers; none stands for all.
type NotifyRequest struct {
	Names []string `json:"names,omitempty"`
}

// NotifyReport is the answer.
type NotifyReport struct {
	Version   int                `json:"version"`
	Notifiers []NotifierDelivery `json:"notifiers"`
}

// NotifierDelivery says whether the test arrived.
type NotifierDelivery struct {
	Name  string `json:"name"`
	Type  string `json:"type"`            // url_file, webhook, email or command
	Error string `json:"error,omitempty"` // "" when the other side took it
}

// TestNotify asks the daemon.
func (c *Client) TestNotify(ctx context.Context, r NotifyRequest) (NotifyReport, error) {
	return ask[NotifyReport](ctx, c, "notify-test", r)
}
