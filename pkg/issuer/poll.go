package issuer

import (
	"time"
)

// polling is how often an order is looked at.
type polling struct {
	first, most time.Duration // the pause grows from first to most
	signing     time.Duration // the first pause after finalize, in place of first
	own         time.Duration // a Retry-After counts from this age of the wait on
}

// newPolling: a public CA needs 1 to 3 s for a validation from several places, and says when to come back. One's own CA is
// on the same network, validates within milliseconds and sends the same fixed Retry-After whatever it does, so for the
// first second its advice does not count. The pause grows by half, so even a second costs it no more than 15 looks. After
// finalize it has nobody else to ask and mostly has signed by the next request, which is therefore sent at once.
func newPolling(private bool) polling {
	if private {
		return polling{first: time.Millisecond, most: 5 * time.Second, own: time.Second}
	}
	return polling{first: 250 * time.Millisecond, signing: 250 * time.Millisecond, most: 5 * time.Second}
}

// maxRetryPoll bounds a Retry-After between two polls: some CAs send an hour.
const maxRetryPoll = time.Minute

// poller yields the pauses of one wait.
type poller struct {
	polling
	began time.Time
	pause time.Duration
}

func (p polling) begin(now time.Time) *poller { return &poller{polling: p, began: now, pause: p.first} }

func (p polling) beginSigning(now time.Time) *poller {
	return &poller{polling: p, began: now, pause: p.signing}
}

// next is the pause before the next look, given the Retry-After of the last one.
func (p *poller) next(header string, now time.Time) time.Duration {
	pause := p.pause
	p.pause = clamp(p.pause*3/2, p.first, p.most)
	if wait, ok := retryAfter(header, now); ok && now.Sub(p.began) >= p.own {
		return clamp(wait, pause, maxRetryPoll)
	}
	return pause
}
