package renewal

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmed/acmed/pkg/certs"
	"github.com/acmed/acmed/pkg/installers"
	"github.com/acmed/acmed/pkg/notify"
)

// workers is a server of which each look may reach another process. Its installer does not wait for the old ones itself.
type workers struct {
	mu     sync.Mutex
	before string // what the old processes serve
	now    string
	looks  int
	answer func(look int, before, now string) (serves string) // nil: all are new
}

func (s *workers) Install(_ context.Context, b *certs.Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.now != b.Fingerprint() {
		s.before, s.now = s.now, b.Fingerprint()
	}
	return nil
}

func (s *workers) Verify(_ context.Context, b *certs.Bundle) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks++
	serves := s.now
	if s.answer != nil {
		serves = s.answer(s.looks, s.before, s.now)
	}
	if serves != b.Fingerprint() {
		return errors.New("another certificate is served")
	}
	return nil
}

func (s *workers) set(answer func(look int, before, now string) string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.looks, s.answer = 0, answer
}

// TestOldAndNewWorkers: while both answer, neither the looks after an installation nor later ones take a healthy renewal
// back. An endpoint that fails in every look gets the version before.
func TestOldAndNewWorkers(t *testing.T) {
	t.Parallel()
	inTurn := func(first int) func(int, string, string) string {
		return func(look int, before, now string) string {
			if look%2 == first {
				return before
			}
			return now
		}
	}
	for name, c := range map[string]struct {
		answer func(look int, before, now string) string
		back   bool
	}{
		"the old one answers first": {inTurn(1), false},
		"the new one answers first": {inTurn(0), false},
		"old ones for three looks": {func(look int, before, now string) string {
			if look <= 3 {
				return before
			}
			return now
		}, false},
		"no handshake for three looks": {func(look int, _, now string) string {
			if look <= 3 {
				return ""
			}
			return now
		}, false},
		"never a handshake with the new one": {nil, true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, s := newBench(t, 90*day), &workers{}
				set := b.set()
				set.Certificates["www"] = Certificate{Spec: b.spec, Targets: map[string]installers.Installer{"web": s}}
				b.engine.Swap(set)
				if r := b.run(t, Options{}); r.Err != nil {
					t.Fatal(r.Err)
				}
				first := b.load(t)
				if c.answer == nil {
					c.answer = func(_ int, _, now string) string {
						if now == first.Current.Fingerprint() {
							return now
						}
						return ""
					}
				}
				s.set(c.answer)
				b.run(t, Options{Force: true})
				if back := b.load(t).Version == first.Version; back != c.back || b.count(notify.RolledBack) > 0 != c.back {
					t.Fatalf("taken back: %v, want %v; %+v", back, c.back, b.load(t).State.Held)
				}
				orders := b.ca.count()
				for range 5 { // later looks, each of them on such a day
					s.set(c.answer)
					live(t, b, day, func(time.Time) {})
				}
				if back := b.load(t).Version == first.Version; back != c.back || b.ca.count() != orders {
					t.Fatalf("days later, taken back: %v, want %v, %d orders", back, c.back, b.ca.count()-orders)
				}
			})
		})
	}
}
