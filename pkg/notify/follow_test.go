package notify

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"testing/synctest"
	"time"
)

// TestFollow: a follower gets what happens, one that comes later what the hub remembers, and one that is too slow is told so after
// what waited for it, without holding up anybody.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(HubConfig{})
		defer h.Close(t.Context())
		tell := func(n int) {
			for i := range n {
				if err := h.Notify(t.Context(), Event{Kind: Obtained, Certificate: strconv.Itoa(i)}); err != nil {
					t.Error(err)
				}
			}
		}
		follow := func(ctx context.Context, since time.Time, pass func(Event) error) (ended chan error) {
			ended = make(chan error, 1)
			go func() { ended <- h.Follow(ctx, since, pass) }()
			synctest.Wait()
			return ended
		}
		var early, late, slow int
		ctx, cancel := context.WithCancel(t.Context())
		ended := follow(ctx, time.Time{}, func(Event) error { early++; return nil })
		release := make(chan struct{})
		slowEnded := follow(t.Context(), time.Time{}, func(Event) error { slow++; <-release; return nil })
		tell(1)
		synctest.Wait()
		start := time.Now()
		time.Sleep(time.Hour)
		for range followQueue + 1 {
			tell(1)
			synctest.Wait()
		}
		close(release)
		if err := <-slowEnded; !errors.Is(err, ErrSlow) || slow != followQueue+1 {
			t.Errorf("the slow one got %d events and %v", slow, err)
		}
		lateEnded := follow(t.Context(), start.Add(time.Minute), func(Event) error { late++; return nil })
		if early != followQueue+2 || late != followQueue+1 {
			t.Errorf("%d and %d events, want %d and %d", early, late, followQueue+2, followQueue+1)
		}
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		stop := errors.New("enough")
		if err := h.Follow(t.Context(), start.Add(-time.Second), func(Event) error { return stop }); !errors.Is(err, stop) {
			t.Error(err)
		}
		h.EndFollowers()
		if err := <-lateEnded; !errors.Is(err, ErrClosed) || len(h.followers) != 0 {
			t.Errorf("%v, and %d followers are left", err, len(h.followers))
		}
	})
}

// TestFollowIsBounded: neither the memory nor the number of followers grows.
func TestFollowIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := NewHub(HubConfig{})
		defer h.Close(t.Context())
		for range 2*Remembered + 1 {
			_ = h.Notify(t.Context(), Event{Kind: Obtained})
		}
		if len(h.recent) != Remembered {
			t.Errorf("%d events are remembered", len(h.recent))
		}
		ctx, cancel := context.WithCancel(t.Context())
		for range maxFollowers {
			go func() { _ = h.Follow(ctx, time.Time{}, func(Event) error { return nil }) }()
		}
		synctest.Wait()
		if err := h.Follow(ctx, time.Time{}, nil); !errors.Is(err, ErrCrowded) {
			t.Errorf("one more: %v", err)
		}
		cancel()
		synctest.Wait()
		if len(h.followers) != 0 {
			t.Errorf("%d followers are left", len(h.followers))
		}
	})
}
