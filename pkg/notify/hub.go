package notify

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/acmed/acmed/internal/guard"
)

const (
	// queueLimit is how many events wait for one notifier. What comes then is dropped, counted and logged.
	queueLimit = 1000
	// sendTimeout is for one try of any notifier.
	sendTimeout = 30 * time.Second
	// gap is the least time between two messages of a notifier that takes many events in one, so that a bad hour of a
	// thousand certificates is a few messages.
	gap = 10 * time.Second
	// lifetime is how long an event is worth delivering.
	lifetime = 24 * time.Hour
	// rejectedTries is how often an event is offered that the other side refuses for what it is.
	rejectedTries = 3
)

// Sender delivers events in one way. It returns when ctx is done. Its errors name no secret. An error that another try
// will not mend wraps a [*RejectedError].
type Sender interface {
	Send(ctx context.Context, events []Event) error
}

// RejectedError says that the other side understood and refused.
type RejectedError struct{ Err error }

// Error returns the text of the reason.
func (e *RejectedError) Error() string { return e.Err.Error() }

// Unwrap returns the reason.
func (e *RejectedError) Unwrap() error { return e.Err }

// Channel is one configured notifier.
type Channel struct {
	Name   string
	Type   string // url_file, webhook, email or command
	On     []Kind // what it is told of; empty is DefaultKinds
	Batch  int    // how many events may go in one message, at least 1
	Digest Schedule
	Sender Sender
}

// Outcome says what became of an event that was meant for a notifier. The values are stable.
type Outcome string

// The outcomes.
const (
	Sent    Outcome = "sent"
	Failure Outcome = "failed"  // one try failed; it is tried again
	GivenUp Outcome = "dropped" // the queue was full, or all tries failed
)

// HubConfig makes a [Hub].
type HubConfig struct {
	File    string                           // where queues and memory are kept, mode 0600; "" keeps them in memory
	Host    string                           // name of this machine
	Log     *zap.Logger                      // nil logs nothing
	Clock   func() time.Time                 // nil is time.Now
	Count   func(notifier string, o Outcome) // told about every outcome; may be nil
	Summary func(context.Context) []State    // every certificate, for digests; nil makes empty ones
}

// Hub passes events on to notifiers. It is safe for use by many at once.
type Hub struct {
	conf HubConfig

	ctx    context.Context // of sending; ends with the drain
	cancel context.CancelFunc
	stop   chan struct{} // closed when Close begins
	wg     guard.Group

	mu        sync.Mutex
	channels  map[string]*channel
	saved     map[string]saved // of notifiers that were on disk, until Swap says who still exists
	started   bool             // Start was called
	closed    bool
	recent    []Event // the last ones, for followers that come later
	followers map[*follower]bool
	replan    chan struct{} // tells the digest loop of a change
	dirty     chan struct{}
	saving    bool // the goroutine that saves runs
	readOnly  bool // the file belongs to a later release
}

// channel is a notifier with what waits for it and what it knows. Hub.mu guards all of it.
type channel struct {
	Channel
	saved
	running  bool
	gone     bool // not configured any more
	failures int  // tries in a row
	pause    time.Time
	wake     chan struct{}
}

var _ Notifier = (*Hub)(nil)

// NewHub returns a hub without notifiers, which [Hub.Swap] brings. A file that cannot be read is reported and begun anew.
func NewHub(c HubConfig) *Hub {
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Count == nil {
		c.Count = func(string, Outcome) {}
	}
	if c.Summary == nil {
		c.Summary = func(context.Context) []State { return nil }
	}
	h := &Hub{
		conf: c, stop: make(chan struct{}), channels: map[string]*channel{}, followers: map[*follower]bool{},
		replan: make(chan struct{}, 1), dirty: make(chan struct{}, 1),
	}
	h.ctx, h.cancel = context.WithCancel(context.Background())
	h.load()
	return h
}

// Swap makes these the notifiers. What waits for one that stays is kept, what waited for one that is gone is dropped.
func (h *Hub) Swap(list []Channel) {
	h.mu.Lock()
	defer h.mu.Unlock()
	next := make(map[string]*channel, len(list))
	for _, conf := range list {
		c := h.channels[conf.Name]
		if c == nil {
			c = &channel{saved: h.saved[conf.Name], wake: make(chan struct{}, 1)}
		}
		conf.Batch = max(conf.Batch, 1)
		c.Channel, c.failures, c.pause = conf, 0, time.Time{}
		next[conf.Name] = c
		if h.started {
			h.run(c)
		}
		poke(c.wake)
	}
	for name, c := range h.channels {
		if next[name] == nil {
			c.gone = true
			poke(c.wake)
			h.changed()
		}
	}
	h.channels, h.saved = next, nil
	poke(h.replan)
}

// Start delivers what an earlier process left, and sends digests, until Close. Without it only new events are delivered.
func (h *Hub) Start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.started || h.closed {
		return
	}
	h.started = true
	for _, c := range h.channels {
		h.run(c)
	}
	h.wg.Go(guard.Logged(h.conf.Log, "digests", h.digests))
}

// Notify puts an event into the queues of those who are to hear of it. It neither waits nor fails.
func (h *Hub) Notify(_ context.Context, e Event) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return nil
	}
	e = h.stamp(e)
	h.remember(e)
	for _, name := range slices.Sorted(maps.Keys(h.channels)) {
		h.offer(h.channels[name], e)
	}
	return nil
}

// stamp completes an event.
func (h *Hub) stamp(e Event) Event {
	e.Schema, e.ID, e.Host = Schema, rand.Text(), h.conf.Host
	if e.Time.IsZero() {
		e.Time = h.conf.Clock()
	}
	return e
}

// enqueue reports whether there was room.
func (h *Hub) enqueue(c *channel, e Event) bool {
	if len(c.Queue) >= queueLimit {
		h.conf.Count(c.Name, GivenUp)
		h.conf.Log.Warn("notification dropped, too many wait", zap.String("notifier", c.Name),
			zap.String("certificate", e.Certificate), zap.String("event", string(e.Kind)))
		return false
	}
	c.Queue = append(c.Queue, item{Event: e})
	h.changed()
	h.run(c)
	poke(c.wake)
	return true
}

// run makes sure that somebody works on the queue of c.
func (h *Hub) run(c *channel) {
	if c.running || h.closed {
		return
	}
	c.running = true
	h.wg.Go(guard.Logged(h.conf.Log, "notifier "+c.Name, func() { h.work(c) }))
}

// work delivers until the notifier is gone or the hub closes. A closing hub still delivers what can be delivered at once.
func (h *Hub) work(c *channel) {
	for {
		batch, sender, wait, end := h.next(c)
		switch {
		case end:
			return
		case len(batch) > 0:
			h.deliver(c, batch, sender)
			continue
		}
		timer := time.NewTimer(wait)
		select {
		case <-c.wake:
		case <-timer.C:
		case <-h.stop:
		}
		timer.Stop()
	}
}

// next returns the events to send now, or how long to wait.
func (h *Hub) next(c *channel) (batch []Event, sender Sender, wait time.Duration, end bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.conf.Clock()
	wait = c.pause.Sub(now)
	switch {
	case c.gone, h.closed && (len(c.Queue) == 0 || c.failures > 0):
		return nil, nil, 0, true
	case len(c.Queue) == 0:
		return nil, nil, time.Hour, false
	case wait > 0 && !h.closed:
		return nil, nil, wait, false
	}
	for _, it := range c.Queue[:min(c.Batch, len(c.Queue))] {
		batch = append(batch, it.Event)
	}
	return batch, c.Sender, 0, false
}

// deliver sends one batch from the head of the queue, and notes how it went.
func (h *Hub) deliver(c *channel, batch []Event, sender Sender) {
	err := send(h.ctx, sender, batch)
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.conf.Clock()
	h.changed()
	if err == nil {
		c.Queue = slices.Delete(c.Queue, 0, len(batch))
		c.failures = 0
		if c.Batch > 1 {
			c.pause = now.Add(gap)
		}
		for range batch {
			h.conf.Count(c.Name, Sent)
		}
		return
	}
	h.conf.Count(c.Name, Failure)
	if h.ctx.Err() != nil { // stopped in the middle: the next start tries again
		c.failures = 1
		return
	}
	c.failures++
	c.pause = now.Add(backoff(c.failures))
	if c.failures == 1 {
		h.conf.Log.Warn("notification failed, it is tried again", zap.String("notifier", c.Name), zap.Error(err))
	}
	h.giveUp(c, len(batch), err)
}

// giveUp drops those of the first n events of the queue that were tried often enough.
func (h *Hub) giveUp(c *channel, n int, err error) {
	var rejected *RejectedError
	refused := errors.As(err, &rejected)
	now, before := h.conf.Clock(), len(c.Queue)
	kept := make([]item, 0, len(c.Queue))
	for i, it := range c.Queue {
		if i < n {
			it.Tries++
			if refused && it.Tries >= rejectedTries || now.Sub(it.Event.Time) >= lifetime {
				h.conf.Count(c.Name, GivenUp)
				continue
			}
		}
		kept = append(kept, it)
	}
	if c.Queue = kept; len(kept) == before {
		return
	}
	h.conf.Log.Error("notifications given up", zap.String("notifier", c.Name), zap.Int("events", before-len(kept)), zap.Error(err))
	if refused {
		c.failures, c.pause = 0, time.Time{}
	}
}

// backoff is the wait after a number of failed tries in a row.
func backoff(failures int) time.Duration {
	table := []time.Duration{5 * time.Second, 30 * time.Second, 2 * time.Minute, 10 * time.Minute, 30 * time.Minute}
	if failures > len(table) {
		return time.Hour
	}
	return table[failures-1]
}

// send bounds one try and keeps a panic of a library inside it.
func send(ctx context.Context, s Sender, events []Event) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = errors.New("internal error while sending")
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, sendTimeout)
	defer cancel()
	return s.Send(ctx, events)
}

// TestResult is what became of a test event.
type TestResult struct {
	Name string
	Type string
	Err  error
}

// Test sends a test event at once to the named notifiers, or to all, whatever waits for them. An unknown name is an error
// before anything is sent.
func (h *Hub) Test(ctx context.Context, names ...string) ([]TestResult, error) {
	h.mu.Lock()
	known := slices.Sorted(maps.Keys(h.channels))
	if len(names) == 0 {
		names = known
	}
	var list []Channel
	for _, name := range names {
		c := h.channels[name]
		if c == nil {
			h.mu.Unlock()
			return nil, fmt.Errorf("no notifier is called %q; configured are: %s", name, cmp.Or(join(known), "none"))
		}
		list = append(list, c.Channel)
	}
	event := h.stamp(Event{Kind: Test, Message: "this is a test: notifications of acmed arrive"})
	h.mu.Unlock()
	results := make([]TestResult, len(list))
	var wg guard.Group
	for i, c := range list {
		wg.Go(func() {
			results[i] = TestResult{c.Name, c.Type, send(ctx, c.Sender, []Event{event})}
			outcome := Sent
			if results[i].Err != nil {
				outcome = Failure
			}
			h.conf.Count(c.Name, outcome)
		})
	}
	wg.Wait()
	return results, nil
}

// Close takes no new events, delivers what it can until ctx ends, and saves the rest for the next start.
func (h *Hub) Close(ctx context.Context) {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return
	}
	h.closed = true
	close(h.stop)
	h.mu.Unlock()
	stop := context.AfterFunc(ctx, h.cancel)
	h.wg.Wait()
	stop()
	h.cancel()
	h.save()
}

// poke wakes who listens on a channel of one place.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
