package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"slices"
	"strings"
	"time"
)

const (
	// toldAgain is how soon the same failure is told again.
	toldAgain = 24 * time.Hour
	// toldMost is how many different errors of the same thing are told in that time.
	toldMost = 5
	// forgotten is when a failure that was neither repeated nor mended is forgotten.
	forgotten = 90 * 24 * time.Hour
)

// told is a failure that somebody was told of.
type told struct {
	Certificate string    `json:"certificate"`
	Kind        Kind      `json:"kind"`
	Target      string    `json:"target,omitempty"`
	Cause       string    `json:"cause,omitempty"`
	At          time.Time `json:"at"`
}

func (t *told) about(e *Event, kind Kind) bool {
	return t.Certificate == e.Certificate && t.Kind == kind && t.Target == e.Target
}

// offer enqueues an event when this notifier is to hear of it now.
func (h *Hub) offer(c *channel, e Event) {
	switch e.Kind {
	case Failed, InstallFailed, HookFailed:
		if c.wants(e.Kind) && c.news(&e, h.conf.Clock()) && h.enqueue(c, e) {
			c.remember(&e, h.conf.Clock())
		}
	case Expiring:
		if c.wants(e.Kind) && h.enqueue(c, e) {
			c.remember(&e, h.conf.Clock())
		}
	case Obtained, Adopted, Recovered:
		h.offerGood(c, e)
	default:
		if c.wants(e.Kind) {
			h.enqueue(c, e)
		}
	}
}

// offerGood tells of a recovery those who know of the failure. To the others a new version is only that.
func (h *Hub) offerGood(c *channel, e Event) {
	kind := e.Kind
	if kind == Recovered {
		kind = Obtained
	}
	if e.Recovers == "" {
		e.Recovers = Failed
	}
	before := len(c.Told)
	c.Told = slices.DeleteFunc(c.Told, func(t told) bool {
		return t.about(&e, e.Recovers) || e.Recovers == Failed && t.about(&e, Expiring)
	})
	switch {
	case len(c.Told) < before:
		h.changed()
		if e.Kind = Recovered; c.wants(Recovered) {
			h.enqueue(c, e)
		}
	case e.Recovers == Failed && c.wants(kind):
		e.Kind, e.Recovers = kind, ""
		h.enqueue(c, e)
	}
}

func (c *channel) wants(k Kind) bool {
	if len(c.On) == 0 {
		return slices.Contains(DefaultKinds(), k)
	}
	return slices.Contains(c.On, k)
}

// news reports whether a failure was not told within a day, and few others of the same thing were.
func (c *channel) news(e *Event, now time.Time) bool {
	others := 0
	for _, t := range c.Told {
		if !t.about(e, e.Kind) || now.Sub(t.At) >= toldAgain {
			continue
		}
		if t.Cause == cause(e) {
			return false
		}
		others++
	}
	return others < toldMost
}

func (c *channel) remember(e *Event, now time.Time) {
	c.Told = slices.DeleteFunc(c.Told, func(t told) bool {
		return t.about(e, e.Kind) && t.Cause == cause(e) || now.Sub(t.At) >= forgotten
	})
	c.Told = append(c.Told, told{Certificate: e.Certificate, Kind: e.Kind, Target: e.Target, Cause: cause(e), At: now})
}

// changing matches what differs between two errors of one cause: times, addresses of orders, ports, identifiers.
var changing = regexp.MustCompile(`[\w+/=.:-]*\d[\w+/=.:-]*`)

// cause is equal for two errors that say the same. Their code says it best; without one, it is the text.
func cause(e *Event) string {
	if e.Code != "" {
		return string(e.Code)
	}
	text := changing.ReplaceAllString(strings.ToLower(e.Error), "#")
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:8])
}
