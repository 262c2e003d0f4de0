package notify

import (
	"context"
	"errors"
	"slices"
	"time"
)

const (
	// Remembered is how many events a [Hub] keeps in memory for those who ask for what happened before.
	Remembered = 1000
	// followQueue is how many events wait for one follower. With one more it has lost its place.
	followQueue = 256
	// maxFollowers leaves room on the control socket for others than followers.
	maxFollowers = 32
)

// Why [Hub.Follow] ended, besides its context and the function that it calls.
var (
	ErrSlow    = errors.New("too slow: events were lost")
	ErrCrowded = errors.New("too many follow the events already")
	ErrClosed  = errors.New("acmed is stopping")
)

// follower is one who is passed every event.
type follower struct {
	events chan Event // closed at the end
	err    error      // set before that
}

// Follow calls pass with every event from now on, until ctx ends or pass returns an error, which it returns. Before them come those
// of the last [Remembered] of this process that happened at since or later; the zero time asks for none. A follower whose pass
// takes so long that too many events wait gets [ErrSlow] after those that waited.
func (h *Hub) Follow(ctx context.Context, since time.Time, pass func(Event) error) error {
	f := &follower{events: make(chan Event, followQueue)}
	h.mu.Lock()
	switch {
	case h.closed:
		h.mu.Unlock()
		return ErrClosed
	case len(h.followers) >= maxFollowers:
		h.mu.Unlock()
		return ErrCrowded
	}
	var earlier []Event
	if !since.IsZero() {
		earlier = slices.DeleteFunc(slices.Clone(h.recent), func(e Event) bool { return e.Time.Before(since) })
	}
	h.followers[f] = true
	h.mu.Unlock()
	defer func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.followers, f)
	}()
	for _, e := range earlier {
		if err := pass(e); err != nil {
			return err
		}
	}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e, ok := <-f.events:
			if !ok {
				return f.err
			}
			if err := pass(e); err != nil {
				return err
			}
		}
	}
}

// remember keeps an event and queues it for every follower. The caller holds the lock.
func (h *Hub) remember(e Event) {
	if len(h.recent) == Remembered {
		h.recent = slices.Delete(h.recent, 0, 1)
	}
	h.recent = append(h.recent, e)
	for f := range h.followers {
		select {
		case f.events <- e:
		default:
			h.end(f, ErrSlow)
		}
	}
}

func (h *Hub) end(f *follower, err error) {
	f.err = err
	close(f.events)
	delete(h.followers, f)
}

// EndFollowers ends every follower with [ErrClosed], for a stop that does not wait for them.
func (h *Hub) EndFollowers() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for f := range h.followers {
		h.end(f, ErrClosed)
	}
}
